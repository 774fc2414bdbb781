package fleet

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Bounds of an order. They are wide enough for what people do, and narrow enough that a broken control plane cannot order a day of damage.
const (
	orderMax = 64 << 10        // bytes, signed
	argsMax  = 256             // arguments of an attack
	argMax   = 16 << 10        // bytes of one; a list of addresses may be long
	validMax = 5 * time.Minute // from issue to expiry
	// LengthMax is how long hosts may go on, from start to deadline.
	LengthMax = 24 * time.Hour
	// SkewMax is how far the clocks of a host and of the control plane may differ. It is allowed to an order's issue, and a host that differs by
	// more is not ordered at all.
	SkewMax = 5 * time.Second
)

// Order is one attack on one host.
type Order struct {
	ID       string    `json:"id"`             // a UUID; names the attack on the host too
	Run      string    `json:"run"`            // what it is a part of
	Fleet    string    `json:"fleet"`          // whose control plane
	Host     string    `json:"host"`           // public key of the one agent that it is for
	Kind     string    `json:"kind"`           // as after "firedrill attack"
	Args     []string  `json:"args"`           // likewise; never what the agent decides: --guid, --json, --yes, --dry-run
	Consent  bool      `json:"consent"`        // a person said --yes
	By       string    `json:"by"`             // who asked
	Epoch    uint64    `json:"epoch"`          // of the lever: an order that was given before a halt is not carried out after it
	Issued   time.Time `json:"issued"`         //
	Start    time.Time `json:"start"`          // the same for all hosts of a run
	Expires  time.Time `json:"expires"`        // not begun by then: never
	Deadline time.Time `json:"deadline"`       // the host ends it then, whoever says what
	Term     uint64    `json:"term,omitempty"` // of the server that orders, of several: one that leads no more is not heeded
}

// signed is an order on the wire. The bytes are what is signed, so nobody has to encode them the same way again.
type signed struct {
	Order     []byte `json:"order"`
	Signature []byte `json:"signature"`
}

// orderContext keeps a signature of an order from being one of anything else.
const orderContext = "firedrill order 1\x00"

// Sign makes the bytes of an order that Open takes.
func Sign(o Order, key ed25519.PrivateKey) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return seal(orderContext, o, orderMax, key)
}

// seal signs a value in a context, so that it cannot be taken for one of another.
func seal(context string, value any, limit int, key ed25519.PrivateKey) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("fleet: encode an order: %w", err)
	}
	text, err := json.Marshal(signed{Order: body, Signature: ed25519.Sign(key, append([]byte(context), body...))})
	if err == nil && len(text) > limit {
		err = &drill.Error{Op: "order", Kind: drill.Invalid, Err: fmt.Errorf("%d bytes are more than %d", len(text), limit), Hint: "name fewer addresses, or a CIDR"}
	}
	return text, err
}

// unseal checks a signature of a context and decodes what was signed.
func unseal(context string, text []byte, limit int, trusted ed25519.PublicKey, into any) error {
	var s signed
	if err := decode(text, limit, &s); err != nil {
		return fmt.Errorf("not an order: %w", err)
	}
	if len(trusted) != ed25519.PublicKeySize || !ed25519.Verify(trusted, append([]byte(context), s.Order...), s.Signature) {
		return ErrForged
	}
	if err := decode(s.Order, limit, into); err != nil {
		return fmt.Errorf("not an order of this version: %w", err)
	}
	return nil
}

// ErrForged is wrapped when the signature of an order is not one of the key that the host trusts.
var ErrForged = errors.New("the signature is not that of the control plane")

// Open checks the signature of an order and then its form. A field that this version does not know may bound the order, so it refuses it.
func Open(text []byte, trusted ed25519.PublicKey) (o Order, err error) {
	if err := unseal(orderContext, text, orderMax, trusted, &o); err != nil {
		return Order{}, err
	}
	return o, o.check()
}

var (
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	kindForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
	keyForm  = regexp.MustCompile(`^U[A-Z2-7]{55}$`)
)

// decided are the flags of an attack that belong to the agent.
var decided = []string{"--guid", "--json", "--yes", "--dry-run", "--help"}

// CheckArgs refuses arguments that would take from the agent what it decides.
func CheckArgs(kind string, args []string) error {
	if !kindForm.MatchString(kind) {
		return fmt.Errorf("%q is not a kind of attack", kind)
	}
	if len(args) > argsMax {
		return fmt.Errorf("%d arguments are more than %d", len(args), argsMax)
	}
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		switch {
		case arg == "--" || slices.Contains(decided, name):
			return fmt.Errorf("%q is decided by the agent", arg)
		case len(arg) > argMax || strings.ContainsRune(arg, 0):
			return errors.New("an argument is too long, or holds a zero byte")
		case strings.HasPrefix(arg, "@") || strings.Contains(arg, "=@") || strings.Contains(arg, ",@"):
			return fmt.Errorf("%q reads a file, which would be the host's; write the addresses out", arg)
		}
	}
	return nil
}

func (o Order) check() error {
	err := CheckArgs(o.Kind, o.Args)
	switch {
	case err != nil:
	case !uuidForm.MatchString(o.ID) || !uuidForm.MatchString(o.Run):
		err = errors.New("it has no name")
	case !keyForm.MatchString(o.Host):
		err = errors.New("it names no host")
	case o.Fleet == "" || len(o.Fleet) > nameMax || o.By == "" || len(o.By) > nameMax:
		err = errors.New("it does not say whose it is")
	case o.Issued.IsZero() || o.Start.Before(o.Issued) || o.Expires.Before(o.Start) || !o.Deadline.After(o.Start):
		err = errors.New("its times are not in order")
	case o.Expires.Sub(o.Issued) > validMax:
		err = fmt.Errorf("it would stay valid for longer than %s", validMax)
	case o.Deadline.Sub(o.Start) > LengthMax:
		err = fmt.Errorf("it would last for longer than %s", LengthMax)
	}
	if err != nil {
		return &drill.Error{Op: "order", Kind: drill.Invalid, Err: err}
	}
	return nil
}

// Self is what a host knows when it decides about an order.
type Self struct {
	Fleet  string
	Host   string // its public key
	Epoch  uint64 // the highest that it has heard of
	Halted bool   // the lever is engaged
	Term   uint64 // the highest that it has heard of
}

// Admit decides whether a host may begin an order at now, by the host's clock. Whether it was taken before is the ledger's to say.
func (o Order) Admit(now time.Time, self Self) error {
	if why := o.whyNot(now, self); why != "" {
		return &drill.Error{Op: "order " + o.ID, Kind: drill.Refused, Err: errors.New("not attacking: " + why)}
	}
	return nil
}

// whyNot says what stands against a beginning, or nothing.
func (o Order) whyNot(now time.Time, self Self) string {
	why := ""
	switch {
	case o.Fleet != self.Fleet:
		why = "it is of another fleet"
	case o.Host != self.Host:
		why = "it is for another host"
	case o.Epoch != self.Epoch:
		why = fmt.Sprintf("it was given in epoch %d of the lever, and this is %d", o.Epoch, self.Epoch)
	case o.Term < self.Term:
		why = fmt.Sprintf("it is of a server that leads no more: term %d, and this is %d", o.Term, self.Term)
	case self.Halted:
		why = "the lever is engaged: nothing new begins"
	case o.Issued.After(now.Add(SkewMax)):
		why = fmt.Sprintf("it was issued at %s, which is yet to come; are the clocks right?", o.Issued.Format(time.RFC3339))
	case !now.Before(o.Expires):
		why = fmt.Sprintf("it expired at %s", o.Expires.Format(time.RFC3339))
	case !now.Before(o.Deadline):
		why = "its deadline is over"
	}
	return why
}

// decode reads one JSON value strictly: bounded, without unknown fields, and with nothing behind it.
func decode(text []byte, limit int, into any) error {
	if len(text) > limit {
		return fmt.Errorf("%d bytes are more than %d", len(text), limit)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands behind it")
	}
	return nil
}
