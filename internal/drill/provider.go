//go:build !attackpart

package drill

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The providers of a failover name: what gives the decided answer to clients.
const (
	ProviderAuthority = "authority" // our own name servers, which follow the watch by themselves
	ProviderRFC2136   = "rfc2136"   // name servers of others, by signed updates
	ProviderRoute53   = "route53"   // Amazon's name servers, by their API
	ProviderHAProxy   = "haproxy"
	ProviderNginx     = "nginx"
	ProviderHosts     = "hosts" // the hosts file of the host on which the decisions are followed
)

// Update says how name servers of others are told (provider rfc2136).
type Update struct {
	Server string `yaml:"server,required" json:"server"` // that takes updates, host or host:port
	Zone   string `yaml:"zone" json:"zone,omitempty"`    // default: asked of the server
	Keys   string `yaml:"keys" json:"keys,omitempty"`    // key file, as tsig-keygen writes it; empty: updates are not signed
	Key    string `yaml:"key" json:"key,omitempty"`      // name of the key in it
}

// HAProxy says which backend of which HAProxy is moved (provider haproxy).
type HAProxy struct {
	Sockets []string `yaml:"sockets,required" json:"sockets"` // stats sockets of level admin: paths, or host:port
	Backend string   `yaml:"backend,required" json:"backend"`
	CutOff  bool     `yaml:"cut_off" json:"cut_off,omitempty"` // end what is under way on the environment that is left; default: drain it
	Lock    string   `yaml:"lock" json:"lock,omitempty"`       // lock file; default: beside the first socket that is a path
}

// Nginx says which upstream of the nginx on this host is moved (provider nginx).
type Nginx struct {
	File     string   `yaml:"file,required" json:"file"` // included at the level of http
	Upstream string   `yaml:"upstream,required" json:"upstream"`
	Port     int      `yaml:"port,required" json:"port"`      // of the service on its hosts
	Status   string   `yaml:"status,required" json:"status"`  // loopback address with port, or unix:/path, where nginx says what it runs
	Lines    []string `yaml:"lines" json:"lines,omitempty"`   // further lines of the upstream
	Reload   []string `yaml:"reload" json:"reload,omitempty"` // default: nginx -s reload
	Test     []string `yaml:"test" json:"test,omitempty"`     // default: nginx -t
}

// HostsFile says which hosts file is moved (provider hosts).
type HostsFile struct {
	File string `yaml:"file" json:"file,omitempty"` // default: /etc/hosts
	Lock string `yaml:"lock" json:"lock,omitempty"` // lock file; default: beside it
}

// Witness says how it is seen which environment serves where there is no name server to ask: by requests whose responses say who made
// them. Load balancers are told to with one line: "http-response set-header X-Served-By %s" in HAProxy's backend,
// "add_header X-Served-By $upstream_addr always;" in nginx's server.
type Witness struct {
	URLs   []string `yaml:"urls,required" json:"urls"`     // of each load balancer by its own address; with provider hosts of the name itself
	Header string   `yaml:"header,required" json:"header"` // of the response: the name of a host, or its address
	From   string   `yaml:"from" json:"from,omitempty"`    // the client that asks; default the host on which the drill is run
}

// Places are what is asked where a name leads: its name servers, or the places of its witness.
func (f Failover) Places() []string {
	if f.Witness == nil {
		return f.Servers
	}
	return f.Witness.URLs
}

// needsWitness says whether nobody can be asked over DNS where the name leads.
func (f Failover) needsWitness() bool {
	return f.Provider == ProviderHAProxy || f.Provider == ProviderNginx || f.Provider == ProviderHosts
}

// witness checks that there is somebody to ask where the name leads, and only those who can say it.
func (c *checker) witness(path string, f Failover) {
	switch w := f.Witness; {
	case w == nil && f.needsWitness() && len(c.service.Drills) > 0:
		c.mistake(path, "witness is missing; without it no drill sees which environment serves: write witness: {urls: [http://...], header: X-Served-By}")
	case w != nil && !f.needsWitness():
		c.mistake(path+".witness", "belongs to providers haproxy, nginx and hosts; with %s the servers are asked", f.Provider)
	case w == nil:
	default:
		for i, text := range w.URLs {
			if target, err := url.Parse(text); err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
				c.mistake(fmt.Sprintf("%s.witness.urls[%d]", path, i), "%q is not a URL; write one such as http://10.0.0.80/version", text)
			}
		}
		if len(w.URLs) == 0 {
			c.mistake(path+".witness.urls", "names nobody to ask")
		}
		clients := names(c.service.Clients, func(client Client) string { return client.Name })
		if w.From != "" && !slices.Contains(clients, w.From) {
			c.mistake(path+".witness.from", "no client %q; %s", w.From, Suggest(w.From, clients))
		}
	}
	if f.needsWitness() && len(f.Servers) > 0 {
		c.mistake(path+".servers", "are name servers, and provider %s has none; say in witness who is asked", f.Provider)
	}
}

// provider checks that the section of the provider is there, and no other.
func (c *checker) provider(path string, f Failover) {
	sections := map[string]bool{ProviderRFC2136: f.Update != nil, ProviderRoute53: f.Route53 != nil, ProviderHAProxy: f.HAProxy != nil, ProviderNginx: f.Nginx != nil, ProviderHosts: f.Hosts != nil}
	words := map[string]string{ProviderRFC2136: "update", ProviderRoute53: "route53", ProviderHAProxy: "haproxy", ProviderNginx: "nginx", ProviderHosts: "hosts"}
	c.oneOf(path+".provider", f.Provider, ProviderAuthority, ProviderRFC2136, ProviderRoute53, ProviderHAProxy, ProviderNginx, ProviderHosts)
	for provider, present := range sections {
		switch {
		case provider == f.Provider && !present && provider != ProviderHosts && provider != ProviderRoute53: // which have defaults for all
			c.mistake(path, "%s is missing; provider %s needs it", words[provider], provider)
		case provider != f.Provider && present:
			c.mistake(path+"."+words[provider], "belongs to provider %s, and this one is %s", provider, f.Provider)
		}
	}
	if f.Update != nil && (f.Update.Key == "") != (f.Update.Keys == "") {
		c.mistake(path+".update", "keys and key go together: a file, and the name of a key in it")
	}
	if f.Nginx != nil && strings.HasPrefix(f.Nginx.Status, ":") {
		c.mistake(path+".nginx.status", "%q is not on loopback; write 127.0.0.1%s", f.Nginx.Status, f.Nginx.Status)
	}
	c.witness(path, f)
	c.route53(path, f)
	for i, alarm := range f.UnhealthyWhen {
		// An alarm for both sides at once would send clients from a healthy primary to a dead secondary, as a calculated check of both does.
		if !strings.Contains(alarm, hostPlaceholder) {
			c.mistake(fmt.Sprintf("%s.unhealthy_when[%d]", path, i), "%q speaks for no host, so it cannot say which side is unhealthy; name an alarm with {host}", alarm)
		}
	}
}
