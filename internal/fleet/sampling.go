package fleet

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"firedrill/internal/drill"
)

// Words about a host that samples a service as its clients do. WordCancel ends it, as it ends an attack.
const (
	WordSample  = "sample"  // control to agent: look at a service, on schedule
	WordSampled = "sampled" // agent to control: what was seen; answered with Kept
)

// Bounds of a sampling. They are the agent's own, whoever orders: a host that samples must not become one that floods.
const (
	SampleEveryMin  = 10 * time.Millisecond // one order; an agent adds up the rates of all of its orders, and takes no more than SamplesPerSecond
	SampleEveryMax  = time.Minute           // slower than this nobody learns of an outage
	SampleWaitMax   = 30 * time.Second      // of one try
	withinMax       = 1000
	sampledLinesMax = 1000
	samplingMax     = 64 << 10 // bytes of an order
)

// SamplesPerSecond is how often a host looks at most, over all drills that it is a client for.
const SamplesPerSecond = 100

// Sampling orders a host to look at a service as a client of it: a GET of one URL at each moment of a schedule, with the question for its name. It is signed like
// an order to attack, for one host, is taken once, and ends at its deadline at the latest.
type Sampling struct {
	ID      string `json:"id"`      // a UUID
	Drill   string `json:"drill"`   // that it is a part of
	Service string `json:"service"` //
	Fleet   string `json:"fleet"`   // whose control plane
	Host    string `json:"host"`    // public key of the one agent that it is for
	By      string `json:"by"`      // who asked for the drill

	Client   string         `json:"client"`             // name of the client in the service file; samples are told as its
	URL      string         `json:"url"`                // http or https; redirects are not followed
	Resolver string         `json:"resolver,omitempty"` // address of the name server to ask, with a port if it is not 53; default the host's own
	Every    drill.Seconds  `json:"every_seconds"`
	Timeout  drill.Seconds  `json:"timeout_seconds"`
	Keep     bool           `json:"keep,omitempty"` // keep connections and use them again
	Within   []netip.Prefix `json:"within"`         // the service's own addresses: nothing is sent to any other, whatever a name leads to, unless the host's policy names it

	Epoch    uint64    `json:"epoch"`
	Term     uint64    `json:"term,omitempty"`
	Issued   time.Time `json:"issued"`
	Expires  time.Time `json:"expires"`  // not begun by then: never
	Deadline time.Time `json:"deadline"` // the host ends it then, whoever says what
}

// Sampled is a part of what a host saw as a client: events of a log from a position on, and with the last of them why it ended.
type Sampled struct {
	ID    string   `json:"id"`
	From  int      `json:"from"` // events before these
	Lines []string `json:"lines"`
	End   string   `json:"end,omitempty"`
}

// samplingContext keeps a signature of this from being one of an order to attack.
const samplingContext = "firedrill sampling 1\x00"

// SignSampling makes the bytes that OpenSampling takes.
func SignSampling(s Sampling, key ed25519.PrivateKey) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return seal(samplingContext, s, samplingMax, key)
}

// OpenSampling checks the signature and then the form. A field that this version does not know may bound the order, so it refuses it.
func OpenSampling(text []byte, trusted ed25519.PublicKey) (s Sampling, err error) {
	if err := unseal(samplingContext, text, samplingMax, trusted, &s); err != nil {
		return Sampling{}, err
	}
	return s, s.check()
}

// Rate is how many samples it takes in a second.
func (s Sampling) Rate() float64 { return 1 / s.Every.Duration().Seconds() }

// check refuses what no host does, whatever its policy says.
func (s Sampling) check() error {
	err := s.checkTarget()
	every, timeout := s.Every.Duration(), s.Timeout.Duration()
	switch {
	case err != nil:
	case !uuidForm.MatchString(s.ID) || !uuidForm.MatchString(s.Drill):
		err = errors.New("it has no name")
	case !keyForm.MatchString(s.Host):
		err = errors.New("it names no host")
	case CheckName("a client", s.Client) != nil || CheckName("a service", s.Service) != nil || s.Fleet == "" || len(s.Fleet) > nameMax || s.By == "" || len(s.By) > nameMax:
		err = errors.New("it does not say whose it is")
	case every < SampleEveryMin || every > SampleEveryMax:
		err = fmt.Errorf("a sample every %s; take %s to %s", every, SampleEveryMin, SampleEveryMax)
	case timeout <= 0 || timeout > SampleWaitMax:
		err = fmt.Errorf("a timeout of %s; take up to %s", timeout, SampleWaitMax)
	case s.Issued.IsZero() || !s.Expires.After(s.Issued) || !s.Deadline.After(s.Issued):
		err = errors.New("its times are not in order")
	case s.Expires.Sub(s.Issued) > validMax:
		err = fmt.Errorf("it would stay valid for longer than %s", validMax)
	case s.Deadline.Sub(s.Issued) > LengthMax:
		err = fmt.Errorf("it would last for longer than %s", LengthMax)
	}
	if err != nil {
		return &drill.Error{Op: "sample", Kind: drill.Invalid, Err: err}
	}
	return nil
}

func (s Sampling) checkTarget() error {
	target, err := url.Parse(s.URL)
	switch {
	case err != nil || target.Hostname() == "" || target.Scheme != "http" && target.Scheme != "https" || target.User != nil || len(s.URL) > argMax:
		return fmt.Errorf("%q is no URL that a client gets", s.URL)
	case len(s.Within) == 0 || len(s.Within) > withinMax:
		return errors.New("it does not say which addresses are the service's")
	}
	for _, prefix := range s.Within {
		if !prefix.IsValid() || !prefix.IsSingleIP() {
			return fmt.Errorf("%s is not one address", prefix)
		}
	}
	if s.Resolver == "" {
		return nil
	}
	if _, err := ResolverAddress(s.Resolver); err != nil {
		return err
	}
	return nil
}

// ResolverAddress is the address of a name server as a client names it. A name will not do: who asks for it would have to be asked first.
func ResolverAddress(text string) (netip.Addr, error) {
	if both, err := netip.ParseAddrPort(text); err == nil {
		return both.Addr().Unmap(), nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return address, fmt.Errorf("resolver %q is no address, as 10.0.0.53 or 10.0.0.53:5353", text)
	}
	return address.Unmap(), nil
}

// Admit decides whether a host may begin at now, by its own clock.
func (s Sampling) Admit(now time.Time, self Self) error {
	err := Order{ID: s.ID, Fleet: s.Fleet, Host: s.Host, Epoch: s.Epoch, Term: s.Term, Issued: s.Issued, Expires: s.Expires, Deadline: s.Deadline}.whyNot(now, self)
	if err == "" {
		return nil
	}
	return &drill.Error{Op: "sample " + s.ID, Kind: drill.Refused, Err: errors.New("not sampling: " + err)}
}

// Inside reports whether an address is one of those within.
func Inside(within []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(within, func(prefix netip.Prefix) bool { return prefix.Contains(address.Unmap()) })
}

func (s Sampled) check() error {
	if !uuidForm.MatchString(s.ID) || s.From < 0 || s.From > 1<<30 || len(s.Lines) > sampledLinesMax || len(s.End) > lookedMax {
		return errors.New("samples of no order")
	}
	return nil
}
