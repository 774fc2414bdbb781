//go:build !attackpart

package drill

import "net/netip"

// Service is what a user writes in firedrill.yaml: the thing that must survive, what it stands on, and how that is proven.
// Slices with the option "keyed" are mappings in the file; the key becomes Name and the order of the file is kept.
type Service struct {
	Name       string     `yaml:"service,required" json:"service"`
	Endpoint   string     `yaml:"endpoint,required" json:"endpoint"` // URL that clients use
	Objectives Objectives `yaml:"objectives" json:"objectives"`

	Tier     string `yaml:"tier" json:"tier,omitempty"`         // what this file is about: "production", "staging", ...; default unknown, which counts as neither
	Playbook string `yaml:"playbook" json:"playbook,omitempty"` // for the loss of the platform: beside those of dependencies

	Environments []Environment `yaml:"environments,keyed,required" json:"environments"`
	Dependencies []Dependency  `yaml:"dependencies,keyed" json:"dependencies,omitempty"`
	Clients      []Client      `yaml:"clients,keyed" json:"clients,omitempty"`
	Probes       []Probe       `yaml:"probes,keyed" json:"probes,omitempty"` // what drills look at beside clients and alarms
	Deploy       *Deploy       `yaml:"deploy" json:"deploy,omitempty"`
	Watch        *Watch        `yaml:"watch" json:"watch,omitempty"`
	Metrics      []Metric      `yaml:"metrics,keyed" json:"metrics,omitempty"`
	Alarms       []Alarm       `yaml:"alarms,keyed" json:"alarms,omitempty"`
	Composites   []Composite   `yaml:"composites,keyed" json:"composites,omitempty"`
	Actions      []Action      `yaml:"actions,keyed" json:"actions,omitempty"`
	Mutes        []Mute        `yaml:"mutes,keyed" json:"mutes,omitempty"`
	AWS          *AWS          `yaml:"aws" json:"aws,omitempty"`
	Failover     []Failover    `yaml:"failover,keyed" json:"failover,omitempty"`
	Databases    []Database    `yaml:"databases,keyed" json:"databases,omitempty"`
	Drills       []Drill       `yaml:"drills,keyed" json:"drills,omitempty"`
	Pipeline     []string      `yaml:"pipeline" json:"pipeline,omitempty"`
	Schedule     []Scheduled   `yaml:"schedule" json:"schedule,omitempty"`
	Freeze       []string      `yaml:"freeze" json:"freeze,omitempty"` // "2026-12-18..2027-01-04": on these dates nothing runs by itself
}

// Objectives are what the service promises; a measured value beyond one fails the drill.
type Objectives struct {
	RTO          Seconds  `yaml:"rto" json:"rto_seconds,omitempty"`           // longest time until clients are served again
	RPO          *Seconds `yaml:"rpo" json:"rpo_seconds,omitempty"`           // longest span of acknowledged writes that may be lost; nil = not stated
	Availability Percent  `yaml:"availability" json:"availability,omitempty"` // share of good client samples over a drill

	Level *ServiceLevel `yaml:"level" json:"level,omitempty"` // service level objective, with the part of its error budget that a drill may spend
}

// Percent is a share in 0..100; files write "99%" or 99.
type Percent float64

// Environment is blue or green: hosts that run one release and are answered together.
type Environment struct {
	Name  string `yaml:"-" json:"name"`
	Hosts []Host `yaml:"hosts,required" json:"hosts"`
}

// Host is one machine of an environment, reached over SSH.
type Host struct {
	Name    string     `yaml:"name,required" json:"name"`
	Address netip.Addr `yaml:"address,required" json:"address"` // what the service's name leads to
	SSH     SSH        `yaml:"ssh" json:"ssh"`
}

// SSH says how to reach a host. Host keys are always checked.
type SSH struct {
	Address    string `yaml:"address" json:"address,omitempty"`         // host or host:port; default the host's address, port 22
	User       string `yaml:"user" json:"user,omitempty"`               // default: the caller's
	Identity   string `yaml:"identity" json:"identity,omitempty"`       // private key file; default: agent and the usual files
	KnownHosts string `yaml:"known_hosts" json:"known_hosts,omitempty"` // default: ~/.ssh/known_hosts
	Become     string `yaml:"become" json:"become,omitempty"`           // "" or "sudo": how to become root for an attack

	PassphraseFile   string `yaml:"passphrase_file" json:"passphrase_file,omitempty"`       // its first line opens an encrypted identity; for its owner alone
	SudoPasswordFile string `yaml:"sudo_password_file" json:"sudo_password_file,omitempty"` // its first line is told to sudo when it asks; for its owner alone
}

// Dependency is something the service needs and that can be taken away.
type Dependency struct {
	Name     string   `yaml:"-" json:"name"`
	Address  string   `yaml:"address,required" json:"address"`    // host:port
	Critical string   `yaml:"critical" json:"critical,omitempty"` // "always", or a daily window
	RTO      Seconds  `yaml:"rto" json:"rto_seconds,omitempty"`
	RPO      *Seconds `yaml:"rpo" json:"rpo_seconds,omitempty"`
	Playbook string   `yaml:"playbook" json:"playbook,omitempty"`

	CriticalWhen string `yaml:"critical_when" json:"critical_when,omitempty"` // of one that is not critical: alarm "x" for 10m, from then on it is
}

// Client is a place from which the service is measured as its clients see it.
type Client struct {
	Name     string   `yaml:"-" json:"name"`
	SSH      *SSH     `yaml:"ssh" json:"ssh,omitempty"`                 // without it, via and agent: from where the conductor runs
	Via      []string `yaml:"via" json:"via,omitempty"`                 // a program that runs firedrill at the client's place, where ssh does not lead: its arguments follow, and input and output are firedrill's
	Agent    string   `yaml:"agent" json:"agent,omitempty"`             // an agent of a fleet by its name, or by a tag as location=frankfurt, for drills that the server conducts
	HTTP     string   `yaml:"http" json:"http,omitempty"`               // path below the endpoint, default the endpoint itself
	Every    Seconds  `yaml:"every" json:"every_seconds,omitempty"`     // default 100ms
	Timeout  Seconds  `yaml:"timeout" json:"timeout_seconds,omitempty"` // default 1s
	Resolver string   `yaml:"resolver" json:"resolver,omitempty"`       // name server to ask, as a caching one, host:port; default the system's
	Keep     bool     `yaml:"keep_alive" json:"keep_alive,omitempty"`   // keep connections and use them again, as browsers and pools do; default a new one each time
	Ledger   string   `yaml:"ledger" json:"ledger,omitempty"`           // path that takes POST and GET of ledger entries; empty: no ledger
}

// Probe is a program of the user's that looks at something during drills: it is good when it ends with 0 in time.
type Probe struct {
	Name    string   `yaml:"-" json:"name"`
	Command []string `yaml:"command,required" json:"command"`          // a program and its arguments; no shell
	Host    string   `yaml:"host" json:"host,omitempty"`               // a host of an environment, on which it runs; default where the conductor runs
	Every   Seconds  `yaml:"every" json:"every_seconds,omitempty"`     // 100ms to 1m, default 1s
	Timeout Seconds  `yaml:"timeout" json:"timeout_seconds,omitempty"` // of one try, default every; a try that takes longer is not good
}

// Deploy says how a release gets to the hosts of an environment.
type Deploy struct {
	Source       Source  `yaml:"source,required" json:"source"`
	Directory    string  `yaml:"directory,required" json:"directory"`      // on the host; holds releases/, shared/ and current, or the files themselves
	Layout       string  `yaml:"layout" json:"layout,omitempty"`           // "releases", the default, or "in-place": files straight in the directory
	Clean        bool    `yaml:"clean" json:"clean,omitempty"`             // in-place: take away all that is neither of the release nor shared
	Restart      string  `yaml:"restart" json:"restart,omitempty"`         // exec command after the switch
	Timeout      Seconds `yaml:"timeout" json:"timeout_seconds,omitempty"` // of the exec command, default 2m
	Healthy      Healthy `yaml:"healthy" json:"healthy"`
	KeepReleases int     `yaml:"keep_releases" json:"keep_releases,omitempty"` // default 5

	Parallel       int    `yaml:"parallel" json:"parallel,omitempty"`                 // hosts that are published to at a time, default 8
	Batch          string `yaml:"batch" json:"batch,omitempty"`                       // hosts that are switched together: "2" or "25%", default 1
	StopAtFailures int    `yaml:"stop_at_failures" json:"stop_at_failures,omitempty"` // everything goes back when this many hosts have failed, default 1

	Secrets    []string `yaml:"secrets" json:"secrets,omitempty"`         // names of environment variables whose values are shown nowhere
	RestartPTY bool     `yaml:"restart_pty" json:"restart_pty,omitempty"` // run restart on a terminal, for a sudo that insists on one
	Become     string   `yaml:"become" json:"become,omitempty"`           // "" or "sudo": run restart as root

	Shared []string `yaml:"shared" json:"shared,omitempty"` // files and directories (with a slash at the end) that outlive releases: links into shared/; in-place: left alone
}

// InPlace reports whether files stand straight in the directory, as Publish Over SSH puts them there.
func (d Deploy) InPlace() bool { return d.Layout == "in-place" }

// Source is where a release comes from.
type Source struct {
	Git      string   `yaml:"git,required" json:"git"`            // URL or path of the repository
	Revision string   `yaml:"revision" json:"revision,omitempty"` // branch, tag or commit, default HEAD
	Files    []string `yaml:"files" json:"files,omitempty"`       // Ant patterns, default **/*
	Exclude  []string `yaml:"exclude" json:"exclude,omitempty"`   // Ant patterns of what is left out of them

	RemovePrefix      string `yaml:"remove_prefix" json:"remove_prefix,omitempty"`             // directory that every file must be in, and is published without
	Flatten           bool   `yaml:"flatten" json:"flatten,omitempty"`                         // publish all files into one directory; two of one name are an error
	EmptyDirs         bool   `yaml:"empty_dirs" json:"empty_dirs,omitempty"`                   // make directories that are empty in a checkout, as those of submodules
	NoDefaultExcludes bool   `yaml:"no_default_excludes" json:"no_default_excludes,omitempty"` // publish .gitignore, *~ and their like too
}

// Healthy is the gate after a restart: HTTP on the host's own address.
type Healthy struct {
	HTTP   string  `yaml:"http" json:"http,omitempty"`             // path; empty: no gate
	Port   int     `yaml:"port" json:"port,omitempty"`             // default 80
	Status int     `yaml:"status" json:"status,omitempty"`         // default 200
	Within Seconds `yaml:"within" json:"within_seconds,omitempty"` // default 30s
	Times  int     `yaml:"times" json:"times,omitempty"`           // this often in a row, default 3
}

// Watch is the part that stays on: it samples, raises alarms, and moves answers.
type Watch struct {
	URL       string `yaml:"url,required" json:"url"`                // where it is asked, as http://control:7070
	TokenFile string `yaml:"token_file" json:"token_file,omitempty"` // secret for what changes something (switch)
	Listen    string `yaml:"listen" json:"listen,omitempty"`         // where it listens, default the port of URL
	StatsD    string `yaml:"statsd" json:"statsd,omitempty"`         // UDP address for values in the StatsD format, as 0.0.0.0:8125
}

// Composite is an alarm on other alarms.
type Composite struct {
	Name string `yaml:"-" json:"name"`
	Rule string `yaml:"rule,required" json:"rule"` // as ALARM("a") AND NOT ALARM("b"); names of alarms are those with the host filled in
}

// Action tells somebody when alarms move. Exactly one of Webhook, Slack, PagerDuty, Email, SNS and Exec is set.
type Action struct {
	Name         string       `yaml:"-" json:"name"`
	Alarms       []string     `yaml:"alarms" json:"alarms,omitempty"`               // names, of composites too, {host} or "*"; default all
	States       []string     `yaml:"states" json:"states,omitempty"`               // that are told: default ALARM and OK
	SuppressedBy string       `yaml:"suppressed_by" json:"suppressed_by,omitempty"` // an alarm; while it is raised nothing is told
	Wait         Seconds      `yaml:"wait" json:"wait_seconds,omitempty"`           // how long it is waited for that alarm
	Extension    Seconds      `yaml:"extension" json:"extension_seconds,omitempty"` // how long nothing is told after it has cleared
	Webhook      *HTTPAction  `yaml:"webhook" json:"webhook,omitempty"`
	Slack        *HTTPAction  `yaml:"slack" json:"slack,omitempty"`
	PagerDuty    *PagerAction `yaml:"pagerduty" json:"pagerduty,omitempty"`
	Email        *EmailAction `yaml:"email" json:"email,omitempty"`
	SNS          *SNSAction   `yaml:"sns" json:"sns,omitempty"`
	Exec         []string     `yaml:"exec" json:"exec,omitempty"` // a program and its arguments; gets the notice as JSON on standard input
}

// HTTPAction posts JSON.
type HTTPAction struct {
	URL     string `yaml:"url" json:"url,omitempty"`
	URLFile string `yaml:"url_file" json:"url_file,omitempty"` // in place of URL, when the address itself is a secret
	KeyFile string `yaml:"key_file" json:"key_file,omitempty"` // webhook: signs the body
}

// PagerAction sends events as PagerDuty takes them (Events API v2).
type PagerAction struct {
	KeyFile string `yaml:"key_file,required" json:"key_file"`
	URL     string `yaml:"url" json:"url,omitempty"` // default PagerDuty's
}

// EmailAction sends mail by SMTP.
type EmailAction struct {
	Server       string   `yaml:"server,required" json:"server"` // host:port; at port 465 TLS comes first, elsewhere STARTTLS where it is offered
	From         string   `yaml:"from,required" json:"from"`
	To           []string `yaml:"to,required" json:"to"`
	User         string   `yaml:"user" json:"user,omitempty"`
	PasswordFile string   `yaml:"password_file" json:"password_file,omitempty"`
	CAFile       string   `yaml:"ca_file" json:"ca_file,omitempty"` // PEM; who signed the server's certificate; default: those whom this machine trusts
}

// Datapoints is M of N.
type Datapoints struct {
	M int `json:"m"`
	N int `json:"n"`
}

// Failover is a DNS name with a primary and a secondary environment.
type Failover struct {
	Name           string     `yaml:"-" json:"name"`
	Provider       string     `yaml:"provider" json:"provider,omitempty"`   // authority (default), rfc2136, route53, haproxy, nginx, hosts
	Update         *Update    `yaml:"update" json:"update,omitempty"`       // for rfc2136
	Route53        *Route53   `yaml:"route53" json:"route53,omitempty"`     // for route53
	HAProxy        *HAProxy   `yaml:"haproxy" json:"haproxy,omitempty"`     // for haproxy
	Nginx          *Nginx     `yaml:"nginx" json:"nginx,omitempty"`         // for nginx
	Hosts          *HostsFile `yaml:"hosts" json:"hosts,omitempty"`         // for hosts
	Witness        *Witness   `yaml:"witness" json:"witness,omitempty"`     // for haproxy, nginx and hosts: how it is seen who serves
	Servers        []string   `yaml:"servers" json:"servers,omitempty"`     // name servers to verify the answer on, host or host:port
	TTL            *Seconds   `yaml:"ttl" json:"ttl_seconds"`               // 0 to 60s, default 5s
	Drain          *Seconds   `yaml:"drain" json:"drain_seconds,omitempty"` // how long after the TTL a promotion waits for requests on the old environment to end; 0 to 10m, default 30s
	Primary        string     `yaml:"primary,required" json:"primary"`
	Secondary      string     `yaml:"secondary,required" json:"secondary"`
	UnhealthyWhen  []string   `yaml:"unhealthy_when" json:"unhealthy_when,omitempty"`     // alarms, with {host}
	Failback       string     `yaml:"failback" json:"failback,omitempty"`                 // manual (default) or auto
	MinHold        Seconds    `yaml:"min_hold" json:"min_hold_seconds,omitempty"`         // no second move sooner than this
	OnAllUnhealthy string     `yaml:"on_all_unhealthy" json:"on_all_unhealthy,omitempty"` // primary (default) or last_known
	Frozen         bool       `yaml:"frozen" json:"frozen,omitempty"`                     // never move: for `prove`, and for maintenance
}

// Drill is a rehearsed disaster.
type Drill struct {
	Name   string     `yaml:"-" json:"name"`
	On     string     `yaml:"on" json:"on"`                 // "idle environment", "active environment", or an environment's name; the pipeline may say otherwise
	Hosts  string     `yaml:"hosts" json:"hosts,omitempty"` // how many of the environment's hosts are attacked: "2" or "50%"; default all
	Seed   int64      `yaml:"seed" json:"seed,omitempty"`   // chooses them; default another at each run, which the plan tells
	Attack AttackSpec `yaml:"attack" json:"attack,omitzero"`

	Attacks  []AttackSpec `yaml:"attacks" json:"attacks,omitempty"`   // in place of attack: several, one after the other
	Together bool         `yaml:"together" json:"together,omitempty"` // all at once instead

	Expect   []string `yaml:"expect" json:"expect,omitempty"`
	StopWhen []string `yaml:"stop_when" json:"stop_when,omitempty"`                 // any of these takes the damage back at once
	Until    string   `yaml:"until" json:"until,omitempty"`                         // "length" (default) or "decided"
	Steady   Seconds  `yaml:"steady_for" json:"steady_for_seconds,omitempty"`       // how long all must be well before and after; default 3s
	Within   Seconds  `yaml:"steady_within" json:"steady_within_seconds,omitempty"` // how long to wait for that; default 60s
	Cadence  Seconds  `yaml:"cadence" json:"cadence_seconds,omitempty"`             // how often it is wanted, as 28d: a server of a fleet tells when it is due
}

// AttackSpec is one attack of the catalogue with its options, as {blackhole: {hostname: [cdn, db], length: 240s}}.
type AttackSpec struct {
	Kind    string   `json:"kind"`
	Options []Option `json:"options,omitempty"` // in the order of the file

	line, column int // where the kind stands in the file, for Compile's errors
}

// Option is one option of an attack; Name is the long flag of the command line.
type Option struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`

	line, column int
}
