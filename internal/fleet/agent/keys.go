package agent

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"github.com/nats-io/nkeys"

	"firedrill/internal/durable"
	"firedrill/internal/fleet"
)

// change changes what is known of keys; the file is written before it counts.
func (a *Agent) change(with func(Identity) (Identity, bool)) bool {
	a.keying.Lock()
	defer a.keying.Unlock()
	a.mu.Lock()
	id := a.known
	a.mu.Unlock()
	next, changed := with(id)
	if !changed {
		return false
	}
	if err := durable.Save(filepath.Join(a.options.Directory, identityFile), next); err != nil {
		a.log.Error("what is known of keys cannot be written down, and does not count", "error", err) //nolint:sloglint // no context
		return false
	}
	a.mu.Lock()
	a.known = next
	a.mu.Unlock()
	return true
}

// login is one try to log in.
type login struct {
	number int
	seed   string
}

// login is the last try. Where it is the same before a question and after its answer, both went over the connection that it made.
func (a *Agent) login() login {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// sign logs in. While two keys are known, one of which the control plane takes, each is tried in its turn.
func (a *Agent) sign(nonce []byte) ([]byte, error) {
	a.mu.Lock()
	a.last.seed = a.known.Seed
	if a.known.Next != "" && (a.options.Hasty || a.last.number%2 == 0) {
		a.last.seed = a.known.Next
	}
	a.last.number++
	seed := a.last.seed
	a.mu.Unlock()
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return nil, err
	}
	return pair.Sign(nonce)
}

// pins are by what the control plane is known.
func (a *Agent) pins() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return []string{a.known.Pin}
}

// pinMoved takes a certificate for that of the control plane which has followed the one that was known.
func (a *Agent) pinMoved(pin string) {
	if a.change(func(id Identity) (Identity, bool) {
		moved := id.Pin != pin
		id.Pin = pin
		return id, moved
	}) {
		a.log.Info("the control plane has another certificate, signed by the one before", "pin", pin) //nolint:sloglint // no context
	}
}

// trusts is what is said of keys to the control plane.
func (a *Agent) trusts() (serial uint64, pin string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known.OrderSerial, a.known.Pin
}

// behind reports whether the control plane has keys that are not known here. The lock is held.
func (a *Agent) behind(pulse fleet.Pulse) bool {
	return pulse.OrderSerial > a.known.OrderSerial || pulse.Pin != "" && pulse.Pin != a.known.Pin
}

// welcomed follows the keys of the control plane, and knows by which of our own it let us in: that of the log-in over which it was asked.
func (a *Agent) welcomed(welcome fleet.Welcome, over login) {
	if chain, err := fleet.ParseChain(welcome.Chain); err == nil && len(chain) > 0 {
		if pin, err := fleet.FollowPin(a.pins()[0], chain); err == nil {
			a.pinMoved(pin)
		} else {
			a.log.Warn("the control plane shows a certificate that does not follow the one that is known", "error", err) //nolint:sloglint // no context
		}
	}
	same := a.login() == over
	moved := false
	a.change(func(id Identity) (Identity, bool) {
		taken := id.Next != "" && same && over.seed == id.Next
		if taken {
			id.Seed, id.Next = id.Next, ""
		}
		id.Trust, moved = id.Follow(a.id.Fleet, welcome.Handovers)
		return id, taken || moved
	})
	if serial, _ := a.trusts(); moved {
		a.log.Info("another key signs orders", "serial", serial) //nolint:sloglint // no context
	}
	if moved || len(welcome.Chain) > 0 {
		a.present()
	}
}

// keyOver drops the order key before when it has ended.
func (a *Agent) keyOver() {
	if a.options.Faithful {
		return
	}
	now := time.Now()
	a.mu.Lock()
	_, over := a.known.Over(now)
	a.mu.Unlock()
	if over {
		a.change(func(id Identity) (Identity, bool) {
			id.Trust, over = id.Over(now)
			return id, over
		})
	}
}

// renewKey makes another key, writes it down beside the one that is used, and asks for it to be taken. The answer may be lost, because what is
// connected by the key before is cut off: from then on each is tried in turn, until a welcome says which. While an order is carried out it
// waits; it will be said again.
func (a *Agent) renewKey() {
	a.mu.Lock()
	busy := len(a.tasks) > 0 || a.closed
	a.mu.Unlock()
	if busy {
		return
	}
	a.change(func(id Identity) (Identity, bool) {
		if id.Next != "" {
			return id, false // asked before
		}
		pair, err := nkeys.CreateUser()
		if err != nil {
			return id, false
		}
		seed, err := pair.Seed()
		if err != nil {
			return id, false
		}
		id.Next = string(seed)
		return id, true
	})
	a.mu.Lock()
	next := a.known.Next
	a.last.number += a.last.number % 2 // when we are cut off, the new one is tried first
	a.mu.Unlock()
	go a.askForKey(next)
}

// askForKey asks for a new key to be taken.
func (a *Agent) askForKey(seed string) {
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return
	}
	key, err1 := pair.PublicKey()
	signature, err2 := pair.Sign(fleet.RekeyText(a.id.Key, key))
	if errors.Join(err1, err2) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(a.ctx, helloMax)
	defer cancel()
	reply, err := a.conn.RequestWithContext(ctx, fleet.FromAgent(a.id.Key, fleet.WordRekey), encode(fleet.Rekey{Key: key, Signature: signature}))
	if err != nil {
		return // cut off, as a rule, because it was taken
	}
	var said fleet.Reply
	if err := json.Unmarshal(reply.Data, &said); err != nil || said.Error != nil {
		a.log.Warn("the new key is not taken", "error", err, "said", said.Error) //nolint:sloglint // no context
		return
	}
	a.log.Info("the control plane has taken our new key") //nolint:sloglint // no context
	_ = a.conn.ForceReconnect()                           // it is closed only when we end; the welcome says that the new key lets in
}

// trusted are the keys of orders that count now.
func (a *Agent) trusted() []ed25519.PublicKey {
	a.mu.Lock()
	trust := a.known.Trust
	a.mu.Unlock()
	keys := trust.Keys(time.Now())
	if a.options.Faithful && len(trust.OrderBefore) > 0 {
		keys = []ed25519.PublicKey{trust.OrderKey, trust.OrderBefore}
	}
	return keys
}

// open checks the signature of an order by the keys that count now.
func (a *Agent) open(text []byte) (fleet.Order, error) {
	opening := a.options.OpenOrder
	if opening == nil {
		opening = fleet.Open
	}
	return opened(text, a.trusted(), opening)
}

// opened opens what is signed by one of some keys.
func opened[T any](text []byte, keys []ed25519.PublicKey, open func([]byte, ed25519.PublicKey) (T, error)) (order T, err error) {
	for _, key := range keys {
		if order, err = open(text, key); err == nil || !errors.Is(err, fleet.ErrForged) {
			break
		}
	}
	return order, err
}
