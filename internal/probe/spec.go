package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Kind says what a probe does at each scheduled moment.
type Kind string

// The kinds of probes.
const (
	HTTP      Kind = "http"      // GET URL on a new connection: one Sample
	TCP       Kind = "tcp"       // connect to Address: one Sample
	DNS       Kind = "dns"       // ask the name server Address for Query: an Answer when it changes, and every Repeat
	Heartbeat Kind = "heartbeat" // the host lives: one Sample, always OK; the first carries the boot id in Detail
	Served    Kind = "served"    // GET URL: an Answer with the host of Hosts that served, when it changes, and every Repeat
	TLS       Kind = "tls"       // connect to Address and shake hands: one Sample, its value the days left
	SQL       Kind = "sql"       // log in to URL and SELECT 1: one Sample
	Lookup    Kind = "lookup"    // ask Resolver for the addresses of Query: one Sample
	Command   Kind = "command"   // run Command: one Sample, its value what Value says
	Query     Kind = "query"     // ask the Prometheus at URL the Query: one Sample with its value
	Ledger    Kind = "ledger"    // write a numbered entry to URL, by POST or SQL; on stop read all back: one Ledger
)

// The limits of a Spec.
const (
	everyMin    = time.Millisecond // above 1,000 tries a second this is a load generator, not a probe
	everyMax    = time.Hour        // slower than this nobody learns of an outage
	timeoutMax  = 2 * time.Minute  // longer than a client's patience
	inFlightMax = 1000             // tries under way at once; each holds a socket, and 1,024 descriptors are a usual limit
	specsMax    = 1000             // probes in one process
	bodyMax     = 64 << 10         // bytes of a response that are read; a probe is not a download
	defaultRead = 10 * time.Second // how long a ledger is read back
	readMax     = 10 * time.Minute // no drill waits longer for it
	repeatAfter = 5 * time.Second  // an unchanged answer is told again this often, so that silence is not mistaken for it
)

// Spec is one probe. It travels as JSON, durations in seconds. The zero value of a field means its default.
type Spec struct {
	Name     string        `json:"name"`                        // goes into Sample.Probe
	Kind     Kind          `json:"kind"`                        // what to do
	URL      string        `json:"url,omitempty"`               // http, served, ledger: http or https
	Address  string        `json:"address,omitempty"`           // tcp: host:port; dns: the name server, host or host:port
	Query    string        `json:"query,omitempty"`             // dns: the name whose A records are asked for; served: the name that it is an answer of
	Header   string        `json:"header,omitempty"`            // served: of the response, says which host has served, by name or address
	Place    string        `json:"place,omitempty"`             // served: what the answers call the place that was asked; default URL
	Host     string        `json:"host,omitempty"`              // http, served, ledger: Host header, and server name for TLS; default that of URL
	Resolver string        `json:"resolver,omitempty"`          // name server, host or host:port; default this host's hosts file and resolvers
	Every    drill.Seconds `json:"every_seconds"`               // between tries, 1ms to 1h
	Timeout  drill.Seconds `json:"timeout_seconds,omitempty"`   // of one try from sending; default Every, but 1s at most; no more than 1,000 x Every
	Keep     bool          `json:"keep,omitempty"`              // http: keep connections and use them again
	Status   int           `json:"status,omitempty"`            // http: the expected status; default any of 200 to 299
	Contains string        `json:"contains,omitempty"`          // http: the first 64 KiB of the body must hold it
	Repeat   drill.Seconds `json:"repeat_seconds,omitempty"`    // dns, served: tell an unchanged answer again this often; default 5s
	Server   string        `json:"server_name,omitempty"`       // tls: the name to prove; default the host of Address
	CAFile   string        `json:"ca_file,omitempty"`           // authorities in place of the system's, on the host of the probe
	Answer   []string      `json:"answer,omitempty"`            // lookup: the addresses wanted
	Password string        `json:"password,omitempty"`          // sql
	Command  []string      `json:"command,omitempty"`           // command
	Value    string        `json:"value,omitempty"`             // command: number or exit_code
	Writer   string        `json:"writer,omitempty"`            // ledger: id of the writer; default a random one
	ReadBack drill.Seconds `json:"read_back_seconds,omitempty"` // ledger: how long to try reading back; default 10s

	Hosts  map[string]netip.Addr `json:"hosts,omitempty"`  // served: the hosts that may serve
	Within []netip.Prefix        `json:"within,omitempty"` // http, tcp, served: the addresses that may be connected to, whatever a name leads to; default all
}

// Validate returns what is wrong with the spec, as an operator reads it.
func (s Spec) Validate() error {
	if s.Name == "" {
		return errors.New("probe: name is missing")
	}
	if err := s.validateTarget(); err != nil {
		return fmt.Errorf("probe %s: %w", s.Name, err)
	}
	every, timeout := s.Every.Duration(), s.timeout()
	switch {
	case every < everyMin || every > everyMax:
		return fmt.Errorf("probe %s: every is %v; take %v to %v", s.Name, every, everyMin, everyMax)
	case timeout <= 0 || timeout > timeoutMax:
		return fmt.Errorf("probe %s: timeout is %v; take up to %v", s.Name, timeout, timeoutMax)
	case s.inFlight() > inFlightMax:
		return fmt.Errorf("probe %s: timeout %v with a try every %v keeps %d tries under way; the limit is %d", s.Name, timeout, every, s.inFlight(), inFlightMax)
	case s.Repeat < 0:
		return fmt.Errorf("probe %s: repeat is negative", s.Name)
	case s.ReadBack < 0 || s.ReadBack.Duration() > readMax:
		return fmt.Errorf("probe %s: read_back is %v; take up to %v", s.Name, s.ReadBack, readMax)
	}
	return nil
}

func (s Spec) validateTarget() error {
	switch s.Kind {
	case HTTP, Ledger, Served, Query:
		if s.Kind == Ledger && isSQL(s.URL) {
			return validateSQL(s.URL)
		}
		target, err := url.Parse(s.URL)
		if err != nil || target.Hostname() == "" || (target.Scheme != "http" && target.Scheme != "https") {
			return fmt.Errorf("url %q is not http://host/... or https://host/...", s.URL)
		}
		if s.Kind == Served {
			return s.validateServed()
		}
		if s.Kind == Query && s.Query == "" {
			return errors.New("query is missing")
		}
	case SQL:
		if target, err := url.Parse(s.URL); err != nil || target.Hostname() == "" || target.User.Username() == "" {
			return errors.New("url is not postgresql://user@host/database")
		}
	case Lookup:
		if s.Query == "" {
			return errors.New("query (the name) is missing")
		}
	case Command:
		if len(s.Command) == 0 || s.Command[0] == "" {
			return errors.New("command is missing")
		}
	case TCP, TLS:
		if host, port, err := net.SplitHostPort(s.Address); err != nil || host == "" || port == "" {
			return fmt.Errorf("address %q is not host:port", s.Address)
		}
	case DNS:
		if s.Address == "" || s.Query == "" {
			return errors.New("address (the name server) and query (the name) are needed")
		}
	case Heartbeat:
	default:
		return fmt.Errorf("kind %q is none of http, tcp, tls, sql, lookup, command, query, dns, served, heartbeat, ledger", s.Kind)
	}
	return nil
}

// timeout returns how long one try may take.
func (s Spec) timeout() time.Duration {
	if s.Timeout != 0 {
		return s.Timeout.Duration()
	}
	return min(s.Every.Duration(), time.Second)
}

// inFlight returns how many tries can rightly be under way at once: every one that has not timed out yet, and one that is just ending.
func (s Spec) inFlight() int {
	every := s.Every.Duration()
	return int((s.timeout()+every-1)/every) + 1
}

// outside returns the first address that may not be connected to, or an invalid one.
func (s Spec) outside(addresses []netip.Addr) netip.Addr {
	if len(s.Within) == 0 {
		return netip.Addr{}
	}
	for _, address := range addresses {
		if !slices.ContainsFunc(s.Within, func(prefix netip.Prefix) bool { return prefix.Contains(address.Unmap()) }) {
			return address
		}
	}
	return netip.Addr{}
}

func (s Spec) repeat() time.Duration {
	if s.Repeat == 0 {
		return repeatAfter
	}
	return s.Repeat.Duration()
}

func (s Spec) readBack() time.Duration {
	if s.ReadBack == 0 {
		return defaultRead
	}
	return s.ReadBack.Duration()
}

// EndMax returns how long a running probe takes to end at most: tries under way are waited for, and a ledger is read back.
func (s Spec) EndMax() time.Duration {
	if s.Kind == Ledger {
		return s.timeout() + s.readBack()
	}
	return s.timeout()
}

// isSQL says whether a ledger's URL leads to a database, as PostgreSQL's own programs write it.
func isSQL(target string) bool {
	return strings.HasPrefix(target, "postgres://") || strings.HasPrefix(target, "postgresql://")
}
