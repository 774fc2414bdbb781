package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Bounds of messages.
const (
	nameMax    = 128
	messageMax = 256 << 10 // of anything but a journal
	// JournalMax bounds a part of a journal; the engine takes messages up to a megabyte.
	JournalMax = 512 << 10
	tagsMax    = 64
	kindsMax   = 256
	runningMax = 256
)

// Subjects. Each agent may publish below its own name and hear what is said to it and to all; the engine holds it to that, so a name in a
// subject is known to be true.
const (
	SubjectPulse    = "fd.ctl.all.pulse"
	SubjectHalt     = "fd.ctl.all.halt"
	SubjectRollCall = "fd.ctl.all.rollcall"
)

// Words that stand last in a subject.
const (
	WordOrder    = "order"    // control to agent: begin
	WordGo       = "go"       // control to agent: all hosts of the run have accepted, so begin at the start
	WordCancel   = "cancel"   // control to agent: do not begin, or end
	WordHello    = "hello"    // agent to control: who I am; answered with Welcome
	WordPresence = "presence" // agent to control: I am here
	WordAnswer   = "answer"   // agent to control: of an order
	WordHalted   = "halted"   // agent to control: nothing is in force
	WordJournal  = "journal"  // agent to control: what was done; answered with Kept
	WordRenew    = "renew"    // control to agent: replace the key that you log in with
	WordRekey    = "rekey"    // agent to control: the key that replaces it
)

// ToAgent is the subject on which an agent hears a word.
func ToAgent(host, word string) string { return "fd.ctl." + host + "." + word }

// FromAgent is the subject on which an agent says a word; host may be "*".
func FromAgent(host, word string) string { return "fd.agent." + host + "." + word }

// Inbox is the prefix of the subjects on which a member is answered.
func Inbox(member string) string { return "fd.inbox." + member }

// AnswersTo reports whether a reply subject is the member's own. A control plane that answers wherever it is told to could be made to say
// anything to anyone.
func AnswersTo(reply, member string) bool {
	rest, ok := strings.CutPrefix(reply, Inbox(member)+".")
	return ok && rest != "" && !strings.ContainsAny(rest, " \t\r\n*>")
}

// Pulse says that the control plane is there. An agent that hears none ends what it does.
type Pulse struct {
	Boot   string    `json:"boot"` // changes when the control plane starts anew; then agents say hello again
	At     time.Time `json:"at"`
	Epoch  uint64    `json:"epoch"`
	Halted bool      `json:"halted"`
	Term   uint64    `json:"term,omitempty"` // of the server that leads, of several; the one before has a lower one

	OrderSerial uint64 `json:"order_serial,omitempty"` // of the key that signs orders
	Pin         string `json:"pin,omitempty"`          // by which the server is known; who knows an older one says hello
}

// Halt ends everything on every host.
type Halt struct {
	ID     string `json:"id"`
	Epoch  uint64 `json:"epoch"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
}

// Halted is what a host says of a halt.
type Halted struct {
	ID    string   `json:"id"`
	Ended int      `json:"ended"`           // attacks that were ended
	Left  []string `json:"left,omitempty"`  // what is still in force
	Error string   `json:"error,omitempty"` // why it is not known, or what went wrong
}

// Running is an attack in progress on a host.
type Running struct {
	Order string    `json:"order,omitempty"` // empty: not by order
	Kind  string    `json:"kind"`
	Until time.Time `json:"until,omitzero"`
}

// Facts are what a host is.
type Facts struct {
	Hostname string            `json:"hostname"`
	Kernel   string            `json:"kernel"`
	Version  string            `json:"version"` // of firedrill
	Kinds    []string          `json:"kinds"`   // that can run there
	Zone     string            `json:"zone,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
	Pods     string            `json:"pods,omitempty"` // who runs Kubernetes pods there, as "containerd 1.6.20 on /run/containerd/containerd.sock"; empty: nobody
	Leash    float64           `json:"leash_seconds"`  // what is in force ends this long after the control plane was heard last
}

// Presence is what a host says of itself now and then.
type Presence struct {
	At      time.Time `json:"at"` // by the host's clock
	Boot    string    `json:"boot,omitempty"`
	Epoch   uint64    `json:"epoch"`
	Running []Running `json:"running,omitempty"`
	Facts   *Facts    `json:"facts,omitempty"` // in a hello

	OrderSerial uint64 `json:"order_serial,omitempty"` // of the key that it trusts to order
	Pin         string `json:"pin,omitempty"`          // by which it knows the server; empty: it is of a version that cannot follow
}

// Welcome answers a hello.
type Welcome struct {
	Pulse
	Name      string   `json:"name"`
	Handovers [][]byte `json:"handovers,omitempty"` // of the order key, the oldest first
	Chain     [][]byte `json:"chain,omitempty"`     // of certificates, that of the server first; empty: there was one alone
	Renew     bool     `json:"renew,omitempty"`     // replace the key that you log in with
}

// States of an order, as its host says.
const (
	Accepted = "accepted" // it will begin at its start
	Refused  = "refused"
	Nothing  = "nothing" // what the order names is not there: no pod with these labels, no such container; the host has no part in the run
)

// Answer is what a host says to an order.
type Answer struct {
	Order  string `json:"order"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	Cure   string `json:"cure,omitempty"`
}

// Go confirms an order. Without it an order that was accepted never begins: so either all hosts of a run begin, or fewer, but never one of a
// run that was given up.
type Go struct {
	Order string `json:"order"`
}

// Cancel takes an order back: it does not begin, or ends.
type Cancel struct {
	Order  string `json:"order"`
	Reason string `json:"reason"`
}

// Journal is a part of what a host wrote down about an order: lines of a hash-chained log, from a position on.
type Journal struct {
	Order string   `json:"order"`
	From  int      `json:"from"` // lines before these
	Lines []string `json:"lines"`
	End   *End     `json:"end,omitempty"` // with the last lines
}

// End says how an order ended on its host.
type End struct {
	Why      string `json:"why"`
	Reverted bool   `json:"reverted"`
	Code     int    `json:"code"` // exit code of the attack; -1 when it is not known
}

// Kept answers a Journal.
type Kept struct {
	Lines int    `json:"lines"` // that the control plane has, on disk
	End   bool   `json:"end"`
	Error string `json:"error,omitempty"`
}

// Join asks for enrolment. Signature is by the key that the agent will use, over JoinText.
type Join struct {
	Key       string            `json:"key"`
	Login     string            `json:"login,omitempty"` // which it uses by now, if that is another one
	Name      string            `json:"name"`
	Zone      string            `json:"zone,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
	Signature []byte            `json:"signature"`
}

// JoinText is what a joining agent signs, to prove that the key is its own.
func JoinText(token, key, name string) []byte {
	return []byte("firedrill join 1\x00" + token + "\x00" + key + "\x00" + name)
}

// Joined answers a Join.
type Joined struct {
	Fleet    string `json:"fleet"`
	OrderKey []byte `json:"order_key"` // whose signature makes an order
	Serial   uint64 `json:"order_serial,omitempty"`
	Name     string `json:"name"`
	Servers  string `json:"servers,omitempty"` // where all servers are, host:port with commas between
	Error    string `json:"error,omitempty"`
	Cure     string `json:"cure,omitempty"`
}

// Message is what may come over the wire.
type Message interface {
	Pulse | Halt | Halted | Presence | Welcome | Answer | Go | Cancel | Journal | Kept | Join | Joined | Look | Looked | Rekey | Sampled
}

// Decode reads and checks a message from the wire. Nothing in it is longer than it may be, and names are names.
func Decode[M Message](text []byte) (M, error) {
	var m M
	limit := messageMax
	switch any(m).(type) {
	case Journal, Sampled:
		limit = JournalMax
	}
	if len(text) > limit {
		return m, fmt.Errorf("%d bytes are more than %d", len(text), limit)
	}
	// Unknown fields are of a newer version, and change nothing that this one does; an order is stricter.
	if err := json.Unmarshal(text, &m); err != nil {
		return m, err
	}
	if checked, ok := any(m).(interface{ check() error }); ok {
		if err := checked.check(); err != nil {
			var none M
			return none, err
		}
	}
	return m, nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)

// CheckName refuses what cannot name a host, a service or a person.
func CheckName(what, name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%q is no name for %s: write letters, digits, and . _ - in between, at most 128", name, what)
	}
	return nil
}

// CheckTags refuses tags that cannot be.
func CheckTags(tags map[string]string) error {
	if len(tags) > tagsMax {
		return fmt.Errorf("%d tags are more than %d", len(tags), tagsMax)
	}
	for key, value := range tags {
		if err := errors.Join(CheckName("a tag", key), CheckName("the value of a tag", value)); err != nil {
			return err
		}
	}
	return nil
}

func (h Halt) check() error {
	if !uuidForm.MatchString(h.ID) || len(h.By) > nameMax {
		return errors.New("a halt without a name")
	}
	return nil
}

func (h Halted) check() error {
	if !uuidForm.MatchString(h.ID) || len(h.Left) > runningMax {
		return errors.New("an answer to no halt")
	}
	return nil
}

func (p Presence) check() error {
	if len(p.Running) > runningMax || len(p.Boot) > nameMax || len(p.Pin) > nameMax {
		return errors.New("more runs than can run")
	}
	for _, r := range p.Running {
		if !kindForm.MatchString(r.Kind) || r.Order != "" && !uuidForm.MatchString(r.Order) {
			return fmt.Errorf("%q is no attack", r.Kind)
		}
	}
	if p.Facts == nil {
		return nil
	}
	f := p.Facts
	if len(f.Hostname) > 255 || len(f.Kernel) > nameMax || len(f.Version) > nameMax || len(f.Kinds) > kindsMax || !(f.Leash >= 0 && f.Leash < 1e6) {
		return errors.New("facts that cannot be")
	}
	for _, kind := range f.Kinds {
		if !kindForm.MatchString(kind) {
			return fmt.Errorf("%q is no kind of attack", kind)
		}
	}
	if f.Zone != "" {
		if err := CheckName("a zone", f.Zone); err != nil {
			return err
		}
	}
	return CheckTags(f.Tags)
}

func (a Answer) check() error {
	if !uuidForm.MatchString(a.Order) || a.State != Accepted && a.State != Refused && a.State != Nothing {
		return errors.New("an answer to no order")
	}
	return nil
}

func (g Go) check() error {
	if !uuidForm.MatchString(g.Order) {
		return errors.New("it names no order")
	}
	return nil
}

func (c Cancel) check() error {
	if !uuidForm.MatchString(c.Order) {
		return errors.New("it names no order")
	}
	return nil
}

func (j Journal) check() error {
	if !uuidForm.MatchString(j.Order) || j.From < 0 || j.From > 1<<30 {
		return errors.New("a journal of no order")
	}
	for _, line := range j.Lines {
		if strings.ContainsAny(line, "\n\r") || line == "" {
			return errors.New("a line of a journal is one line")
		}
	}
	return nil
}

func (k Kept) check() error {
	if k.Lines < 0 {
		return errors.New("fewer lines than none")
	}
	return nil
}

func (j Join) check() error {
	if !keyForm.MatchString(j.Key) || j.Login != "" && !keyForm.MatchString(j.Login) {
		return errors.New("it has no key")
	}
	if j.Zone != "" {
		if err := CheckName("a zone", j.Zone); err != nil {
			return err
		}
	}
	return errors.Join(CheckName("a host", j.Name), CheckTags(j.Tags))
}
