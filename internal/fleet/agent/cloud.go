package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"
)

const (
	// metadataMax bounds all questions to a cloud's metadata service. It answers within milliseconds on the host's own machine, or never.
	metadataMax    = 3 * time.Second
	metadataAnswer = 64 << 10
	// metadataAddress is where every cloud serves it, link-local, and so to this host alone.
	metadataAddress = "http://169.254.169.254"
)

// zoneForm is what a zone may be called, whoever says so.
var zoneForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// cloud is one that can be told apart by what the firmware says, and that says where a host stands.
type cloud struct {
	name  string
	marks map[string]string // a file of /sys/class/dmi/id, and how its text begins
	zone  func(m metadata) (string, error)
}

var clouds = []cloud{
	{"Amazon EC2", map[string]string{"sys_vendor": "Amazon EC2", "bios_vendor": "Amazon EC2", "product_version": "4.11.amazon"}, metadata.ec2},
	{"Google Compute Engine", map[string]string{"product_name": "Google Compute Engine"}, metadata.google},
	{"Microsoft Azure", map[string]string{"chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"}, metadata.azure},
	{"OpenStack", map[string]string{"product_name": "OpenStack", "sys_vendor": "OpenStack Foundation", "chassis_asset_tag": "OpenStack"}, metadata.ec2},
	{"Hetzner", map[string]string{"sys_vendor": "Hetzner"}, func(m metadata) (string, error) {
		return m.ask(http.MethodGet, "/hetzner/v1/metadata/availability-zone", nil)
	}},
	{"DigitalOcean", map[string]string{"sys_vendor": "DigitalOcean"}, func(m metadata) (string, error) { return m.ask(http.MethodGet, "/metadata/v1/region", nil) }},
}

// CloudZone asks the cloud on which this host runs for the zone in which it stands: Amazon EC2, Google, Azure, OpenStack, Hetzner, DigitalOcean. Which one it is the
// firmware says, in the files of dmi (/sys/class/dmi/id); where it says none of them nobody is asked, and both names are empty. It takes three seconds at most.
func CloudZone(ctx context.Context, dmi fs.FS) (zone, cloudName string, err error) {
	return cloudZone(ctx, dmi, metadataAddress)
}

func cloudZone(ctx context.Context, dmi fs.FS, address string) (zone, cloudName string, err error) {
	for _, one := range clouds {
		if !one.marked(dmi) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, metadataMax)
		defer cancel()
		// Never by a proxy: it would answer for the host on which it runs.
		web := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{}).DialContext, DisableKeepAlives: true}}
		zone, err := one.zone(metadata{ctx, web, address})
		if err == nil && !zoneForm.MatchString(zone) {
			err = fmt.Errorf("%q is no zone", zone)
		}
		if err != nil {
			return "", one.name, err
		}
		return zone, one.name, nil
	}
	return "", "", nil
}

func (c cloud) marked(dmi fs.FS) bool {
	for file, begin := range c.marks {
		if text, err := fs.ReadFile(dmi, file); err == nil && strings.HasPrefix(string(text), begin) {
			return true
		}
	}
	return false
}

// metadata asks one metadata service.
type metadata struct {
	ctx     context.Context //nolint:containedctx // of one look
	web     *http.Client
	address string
}

func (m metadata) ask(method, what string, header map[string]string) (string, error) {
	request, err := http.NewRequestWithContext(m.ctx, method, m.address+what, http.NoBody)
	if err != nil {
		return "", err
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := m.web.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, metadataAnswer))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", what, response.Status)
	}
	return strings.TrimSpace(string(text)), nil
}

// ec2 asks as Amazon's second version wants it, with a token; OpenStack speaks the first one, without.
func (m metadata) ec2() (string, error) {
	header := map[string]string{}
	if token, err := m.ask(http.MethodPut, "/latest/api/token", map[string]string{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "60"}); err == nil {
		header["X-Aws-Ec2-Metadata-Token"] = token
	} else if m.ctx.Err() != nil {
		return "", err
	}
	return m.ask(http.MethodGet, "/latest/meta-data/placement/availability-zone", header)
}

// google answers with projects/NUMBER/zones/ZONE.
func (m metadata) google() (string, error) {
	text, err := m.ask(http.MethodGet, "/computeMetadata/v1/instance/zone", map[string]string{"Metadata-Flavor": "Google"})
	return path.Base(text), err
}

// azure numbers the zones of a region; a host may stand in none.
func (m metadata) azure() (string, error) {
	text, err := m.ask(http.MethodGet, "/metadata/instance/compute?api-version=2021-02-01", map[string]string{"Metadata": "true"})
	if err != nil {
		return "", err
	}
	var compute struct{ Location, Zone string }
	if err := json.Unmarshal([]byte(text), &compute); err != nil {
		return "", err
	}
	switch {
	case compute.Location == "":
		return "", errors.New("it names no region")
	case compute.Zone == "":
		return compute.Location, nil
	}
	return compute.Location + "-" + compute.Zone, nil
}
