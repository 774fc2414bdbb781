package drill

import "strings"

// The providers of a failover name: what gives the decided answer to clients.
const (
	ProviderAuthority = "authority" // our own name servers, which follow the watch by themselves
	ProviderRFC2136   = "rfc2136"   // name servers of others, by signed updates
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

// provider checks that the section of the provider is there, and no other.
func (c *checker) provider(path string, f Failover) {
	sections := map[string]bool{ProviderRFC2136: f.Update != nil, ProviderHAProxy: f.HAProxy != nil, ProviderNginx: f.Nginx != nil, ProviderHosts: f.Hosts != nil}
	words := map[string]string{ProviderRFC2136: "update", ProviderHAProxy: "haproxy", ProviderNginx: "nginx", ProviderHosts: "hosts"}
	c.oneOf(path+".provider", f.Provider, ProviderAuthority, ProviderRFC2136, ProviderHAProxy, ProviderNginx, ProviderHosts)
	for provider, present := range sections {
		switch {
		case provider == f.Provider && !present && provider != ProviderHosts: // which has defaults for all
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
}
