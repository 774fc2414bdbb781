//go:build !attackpart

package drill

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// AWS says how Amazon's services are reached, by all that speaks to them. Without credentials_file and profile the usual places are looked
// at: the environment, ~/.aws, the role of the machine or container.
type AWS struct {
	Region          string `yaml:"region" json:"region,omitempty"`                     // default: that of the environment or profile, else us-east-1
	Endpoint        string `yaml:"endpoint" json:"endpoint,omitempty"`                 // URL in place of Amazon's, as that of "firedrill server"
	CredentialsFile string `yaml:"credentials_file" json:"credentials_file,omitempty"` // as ~/.aws/credentials
	Profile         string `yaml:"profile" json:"profile,omitempty"`                   // default: default
}

// Route53 says what of Route 53 is moved (provider route53): the records of the name itself; or, with controls or checks, which of the records
// that stand there are healthy.
type Route53 struct {
	Zone     string            `yaml:"zone" json:"zone,omitempty"`         // ID of the hosted zone; default: the one whose name fits best
	Controls map[string]string `yaml:"controls" json:"controls,omitempty"` // ARN of the routing control of each environment
	Cluster  []string          `yaml:"cluster" json:"cluster,omitempty"`   // URLs of the endpoints of the cluster that holds the controls
	Checks   map[string]string `yaml:"checks" json:"checks,omitempty"`     // ID of the health check of each environment

	AWS AWS `yaml:"-" json:"aws,omitzero"` // that of the service
}

// SNSAction publishes to a topic of Amazon SNS, in the form that CloudWatch's alarms have there.
type SNSAction struct {
	Topic string `yaml:"topic,required" json:"topic"` // its ARN

	AWS AWS `yaml:"-" json:"aws,omitzero"` // that of the service
}

func (s *Service) fillAWS() {
	if s.AWS != nil {
		for i := range s.Actions {
			if to := s.Actions[i].SNS; to != nil {
				to.AWS = *s.AWS
			}
		}
		for i := range s.Alarms {
			if from := s.Alarms[i].Source; from != nil && from.CloudWatch != "" {
				from.AWS = *s.AWS
			}
		}
	}
	for i := range s.Failover {
		f := &s.Failover[i]
		if f.Provider == ProviderRoute53 && f.Route53 == nil {
			f.Route53 = &Route53{}
		}
		if f.Route53 != nil && s.AWS != nil {
			f.Route53.AWS = *s.AWS
		}
	}
}

func (c *checker) aws() {
	if c.service.AWS == nil {
		return
	}
	if text := c.service.AWS.Endpoint; text != "" {
		c.webURL("aws.endpoint", text)
	}
}

// route53 checks that environments and what switches them belong together.
func (c *checker) route53(path string, f Failover) {
	to := f.Route53
	if to == nil {
		return
	}
	path += ".route53"
	if len(to.Controls) > 0 && len(to.Checks) > 0 {
		c.mistake(path, "needs at most one of controls, checks")
	}
	for field, all := range map[string]map[string]string{"controls": to.Controls, "checks": to.Checks} {
		if len(all) == 0 {
			continue
		}
		wanted := []string{f.Primary, f.Secondary}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if !slices.Contains(wanted, name) {
				c.mistake(path+"."+field+"."+name, "is neither primary nor secondary; %s", Suggest(name, wanted))
			}
		}
		for _, name := range wanted {
			if all[name] == "" {
				c.mistake(path+"."+field, "says nothing of %s; write one for the primary and one for the secondary", name)
			}
		}
		if all[f.Primary] != "" && all[f.Primary] == all[f.Secondary] {
			c.mistake(path+"."+field, "is the same for both environments, so that one cannot be on without the other")
		}
	}
	if (len(to.Controls) > 0) != (len(to.Cluster) > 0) {
		c.mistake(path, "controls and cluster go together: the controls, and the endpoints of the cluster that holds them")
	}
	for i, text := range to.Cluster {
		if target, err := url.Parse(text); err != nil || target.Host == "" || !strings.HasPrefix(target.Scheme, "http") {
			c.mistake(fmt.Sprintf("%s.cluster[%d]", path, i), "%q is not a URL; write one as describe-cluster tells them", text)
		}
	}
}
