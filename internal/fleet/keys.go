package fleet

import (
	"crypto/ed25519"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"firedrill/internal/drill"
)

// Bounds of what follows a key.
const (
	handoverMax = 4 << 10 // bytes, signed
	// ChainMax bounds how many keys may have followed each other since somebody heard of the last one.
	ChainMax = 64
	// OverlapDefault is how long an order key still counts for hosts that have not heard of the next one.
	OverlapDefault = time.Minute
	// OverlapMax bounds that: a key that is known to others must not order for weeks.
	OverlapMax = 7 * 24 * time.Hour
)

// Handover says that another key signs the orders of a fleet from now on. The key before signs it, so whoever trusts that one can follow.
type Handover struct {
	Fleet  string    `json:"fleet"`
	Serial uint64    `json:"serial"` // of the key that follows; the first key of a fleet is 0
	Key    []byte    `json:"key"`    // its public half
	At     time.Time `json:"at"`
	Ends   time.Time `json:"ends"` // nothing counts from then on that the key before signs
}

type signedHandover struct {
	Handover  []byte `json:"handover"`
	Signature []byte `json:"signature"`
}

const handoverContext = "firedrill handover 1\x00"

// SignHandover makes the bytes that OpenHandover takes, with the key that ends.
func SignHandover(h Handover, before ed25519.PrivateKey) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signedHandover{Handover: body, Signature: ed25519.Sign(before, append([]byte(handoverContext), body...))})
}

// OpenHandover checks the signature of a handover by the key before, and then its form.
func OpenHandover(text []byte, before ed25519.PublicKey) (Handover, error) {
	var s signedHandover
	if err := decode(text, handoverMax, &s); err != nil {
		return Handover{}, fmt.Errorf("not a handover: %w", err)
	}
	if len(before) != ed25519.PublicKeySize || !ed25519.Verify(before, append([]byte(handoverContext), s.Handover...), s.Signature) {
		return Handover{}, ErrForged
	}
	var h Handover
	if err := decode(s.Handover, handoverMax, &h); err != nil {
		return Handover{}, fmt.Errorf("not a handover of this version: %w", err)
	}
	if h.Fleet == "" || len(h.Key) != ed25519.PublicKeySize || h.At.IsZero() || h.Ends.Before(h.At) || h.Ends.Sub(h.At) > OverlapMax {
		return Handover{}, &drill.Error{Op: "handover", Kind: drill.Invalid, Err: errors.New("it says nothing that can be")}
	}
	return h, nil
}

// Trust is by which key a host takes orders.
type Trust struct {
	OrderKey    []byte    `json:"order_key"`
	OrderSerial uint64    `json:"order_serial,omitempty"`
	OrderBefore []byte    `json:"order_key_before,omitempty"` // counts until OrderEnds
	OrderEnds   time.Time `json:"order_key_before_ends,omitzero"`
}

// Follow goes from key to key as far as handovers lead, and reports whether it went on. What is not signed by the key that is trusted is passed over:
// it is of before, or forged. A key that was left is never trusted to hand over again.
func (t Trust) Follow(fleet string, handovers [][]byte) (Trust, bool) {
	moved := false
	for _, text := range handovers[:min(len(handovers), ChainMax)] {
		h, err := OpenHandover(text, t.OrderKey)
		if err != nil || h.Fleet != fleet || h.Serial != t.OrderSerial+1 {
			continue
		}
		t = Trust{OrderKey: h.Key, OrderSerial: h.Serial, OrderBefore: t.OrderKey, OrderEnds: h.Ends}
		moved = true
	}
	return t, moved
}

// Keys are those whose signature makes an order at now.
func (t Trust) Keys(now time.Time) []ed25519.PublicKey {
	keys := []ed25519.PublicKey{t.OrderKey}
	if len(t.OrderBefore) > 0 && now.Before(t.OrderEnds) {
		keys = append(keys, t.OrderBefore)
	}
	return keys
}

// Over drops the key before once it has ended, for good: whatever the clock says later, it does not come back.
func (t Trust) Over(now time.Time) (Trust, bool) {
	if len(t.OrderBefore) == 0 || now.Before(t.OrderEnds) {
		return t, false
	}
	t.OrderBefore, t.OrderEnds = nil, time.Time{}
	return t, true
}

// FollowPin goes from a pinned key to the one that a server shows now: chain is what it shows, its own certificate first, each signed by the key of the
// next. It returns the pin of the first where the pinned key is in the chain, and ErrPin where not.
func FollowPin(pin string, chain []*x509.Certificate) (string, error) {
	for i, certificate := range chain[:min(len(chain), ChainMax)] {
		if i > 0 {
			child := chain[i-1]
			if certificate.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) != nil {
				break
			}
		}
		if subtle.ConstantTimeCompare([]byte(Pin(certificate)), []byte(pin)) == 1 {
			return Pin(chain[0]), nil
		}
	}
	return "", ErrPin
}

// ParseChain reads certificates as they go over the wire.
func ParseChain(raw [][]byte) ([]*x509.Certificate, error) {
	chain := make([]*x509.Certificate, 0, len(raw))
	for _, one := range raw[:min(len(raw), ChainMax)] {
		certificate, err := x509.ParseCertificate(one)
		if err != nil {
			return nil, err
		}
		chain = append(chain, certificate)
	}
	return chain, nil
}

// Rekey asks for another key to log in with, in place of the one that the asker logged in with. Signature is by the new one, over RekeyText.
type Rekey struct {
	Key       string `json:"key"`
	Signature []byte `json:"signature"`
}

// RekeyText is what is signed to prove that a new key is the member's own. A member keeps the name that was its first key.
func RekeyText(member, key string) []byte {
	return []byte("firedrill rekey 1\x00" + member + "\x00" + key)
}

func (r Rekey) check() error {
	if !keyForm.MatchString(r.Key) {
		return errors.New("it has no key")
	}
	return nil
}

// What can be replaced.
const (
	KeyOfAgents    = "agents"      // with which hosts log in
	KeyOfOrders    = "orders"      // that signs orders
	KeyCertificate = "certificate" // by which servers are known
)

// RotateRequest asks for other keys.
type RotateRequest struct {
	What    string        `json:"what"`
	Hosts   []string      `json:"hosts,omitempty"`           // of agents; none: all
	Overlap drill.Seconds `json:"overlap_seconds,omitempty"` // how long the key before still counts; 0: OverlapDefault
	Now     bool          `json:"now,omitempty"`             // it counts no longer: it is known to others
}

// KeysView is which keys count now, and who does not follow yet.
type KeysView struct {
	OrderSerial uint64    `json:"order_serial"`
	OrderKey    []byte    `json:"order_key"`
	OrderSince  time.Time `json:"order_since,omitzero"` // zero: since the first start
	OrderEnds   time.Time `json:"order_key_before_ends,omitzero"`
	OrderBehind []string  `json:"order_behind"` // hosts that do not trust it yet

	Pin       string    `json:"pin"`
	PinSince  time.Time `json:"pin_since"`
	PinEnds   time.Time `json:"pin_before_ends,omitzero"` // until then servers of a fleet know each other by the key before too
	PinBehind []string  `json:"pin_behind"`               // hosts that know the servers by an older one

	AgentsAsked []string `json:"agents_asked"` // hosts that are to replace their key, and have not yet
}
