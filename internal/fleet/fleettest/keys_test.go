package fleettest

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/control"
)

func (w *world) identity(h *host) agent.Identity {
	w.t.Helper()
	id, err := agent.LoadIdentity(h.state)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// letsIn is what comes of a log-in as a host, by one of its keys.
func (w *world) letsIn(id agent.Identity, seed string) error {
	w.t.Helper()
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := nats.Connect("tls://"+w.options.Listen, nats.Secure(fleet.PinnedTLS(id.Pin)), nats.TLSHandshakeFirst(), nats.Nkey(id.Key, pair.Sign), nats.CustomInboxPrefix(fleet.Inbox(id.Key)))
	if err == nil {
		conn.Close()
	}
	return err
}

// rekeyed waits until a host has another key and is there with it.
func (w *world) rekeyed(h *host, before agent.Identity) agent.Identity {
	w.t.Helper()
	var now agent.Identity
	w.await("another key of "+h.name, func() error {
		now = w.identity(h)
		if now.Seed == before.Seed || now.Next != "" {
			return errors.New("it has the one before")
		}
		var view fleet.KeysView
		w.must("keys", nil, &view)
		if len(view.AgentsAsked) > 0 {
			return fmt.Errorf("%v have not replaced theirs", view.AgentsAsked)
		}
		return nil
	})
	return now
}

// serves waits until a host carries out an order.
func (w *world) serves(h *host) {
	w.t.Helper()
	w.await("an order to "+h.name, func() error {
		run, err := w.attack("cpu", "0.1", h.name)
		if err != nil {
			return err
		}
		w.ended(run.ID)
		return nil
	})
}

// replaced replaces the key of a host, and says whether the one before lets in.
func replaced(t *testing.T, hoarding bool) error {
	t.Helper()
	w := newWorld(t, func(o *control.Options) { o.Hoarding = hoarding })
	h := w.join("web1", web(), nil)
	w.join("web2", web(), nil) // or the last healthy one would be attacked
	before := w.identity(h)
	old := w.intruder(h) // somebody else who has the key, and is connected
	w.must("rotate", fleet.RotateRequest{What: fleet.KeyOfAgents}, nil)
	now := w.rekeyed(h, before)
	if now.Key != before.Key {
		t.Error("the host has another name on the wire")
	}
	if err := w.letsIn(now, now.Seed); err != nil {
		t.Errorf("the new key does not let in: %v", err)
	}
	w.serves(h)
	if err := w.letsIn(now, before.Seed); !errors.Is(err, nats.ErrAuthorization) {
		return fmt.Errorf("the key before lets in: %w", err)
	}
	w.await("that the key before is cut off", func() error {
		if old.IsConnected() {
			return errors.New("it is connected")
		}
		return nil
	})
	return nil
}

func TestAHostReplacesItsKey(t *testing.T) {
	t.Parallel()
	if err := replaced(t, false); err != nil {
		t.Error(err)
	}
}

func TestAKeyThatLetsInAfterItWasReplacedIsCaught(t *testing.T) {
	t.Parallel()
	if replaced(t, true) == nil {
		t.Error("the planted bug is not noticed")
	}
}

// midway ends an agent between asking for another key and knowing what came of it, and says whether it comes back.
func midway(t *testing.T, taken, hasty bool) error {
	t.Helper()
	w := newWorld(t, nil)
	h := w.join("web1", web(), nil)
	w.join("web2", web(), nil)
	h.stop()
	before := w.identity(h)
	seed, key, err := client.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if taken {
		// What the agent asked, and did not hear the answer to.
		pair, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			t.Fatal(err)
		}
		signature, err := pair.Sign(fleet.RekeyText(before.Key, key))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(fleet.Rekey{Key: key, Signature: signature})
		if err != nil {
			t.Fatal(err)
		}
		conn := w.intruder(h)
		if err := errors.Join(conn.PublishRequest(fleet.FromAgent(before.Key, fleet.WordRekey), fleet.Inbox(before.Key)+".lost", text), conn.Flush()); err != nil && conn.IsConnected() {
			t.Fatal(err)
		}
		w.await("the new key", func() error { return w.letsIn(before, seed) })
	}
	both := before
	both.Next = seed
	if err := durable.Save(filepath.Join(h.state, "agent.json"), both); err != nil {
		t.Fatal(err)
	}
	w.startAgent(h, func(o *agent.Options) { o.Hasty = hasty })
	wait := patience
	if hasty {
		wait = 4 * time.Second // more than two tries; it never comes
	}
	if err := awaited(func() error {
		run, err := w.attack("cpu", "0.1", h.name)
		if err != nil {
			return err
		}
		w.ended(run.ID)
		return nil
	}, wait); err != nil {
		return err
	}
	if !taken {
		return nil // it goes on with the one that it had
	}
	now := w.rekeyed(h, before)
	if now.Seed != seed {
		t.Error("it has gone on with a key that nobody took")
	}
	return nil
}

func TestAnAgentThatEndsWhileItsKeyIsReplacedComesBack(t *testing.T) {
	t.Parallel()
	for _, taken := range []bool{true, false} {
		if err := midway(t, taken, false); err != nil {
			t.Errorf("where the new key is taken, %v: %v", taken, err)
		}
	}
}

func TestAnAgentThatThrowsItsKeyAwayTooEarlyIsCaught(t *testing.T) {
	t.Parallel()
	if midway(t, false, true) == nil {
		t.Error("the planted bug is not noticed")
	}
}

// unheard has the first welcome lost that a host would get with its new key, and says whether it goes on with that key.
func unheard(t *testing.T, shy bool) error {
	t.Helper()
	var w *world
	var before agent.Identity
	var lose, lost atomic.Bool
	w = newWorld(t, func(o *control.Options) {
		o.Lost = func(host string) bool {
			// The first one after the key was taken.
			return host == "web1" && lose.Load() && !lost.Load() && w.letsIn(before, before.Seed) != nil && lost.CompareAndSwap(false, true)
		}
	})
	h := w.join("web1", web(), func(o *agent.Options) { o.Shy = shy })
	before = w.identity(h)
	w.await("the first welcome", func() error {
		if strings.Contains(w.log.String(), "the control plane knows us") {
			return nil
		}
		return errors.New("it has not come")
	})
	lose.Store(true)
	w.must("rotate", fleet.RotateRequest{What: fleet.KeyOfAgents}, nil)
	w.await("a lost welcome", func() error {
		if !lost.Load() {
			return errors.New("it says no hello")
		}
		return nil
	})
	wait := patience
	if shy {
		wait = 4 * time.Second // several pulses; it never comes
	}
	return awaited(func() error {
		if now := w.identity(h); now.Seed == before.Seed || now.Next != "" {
			return errors.New("it has the one before")
		}
		return nil
	}, wait)
}

func TestAHostWhoseWelcomeWasLostAsksAgain(t *testing.T) {
	t.Parallel()
	if err := unheard(t, false); err != nil {
		t.Error(err)
	}
}

func TestAHostThatAsksOnceIsCaught(t *testing.T) {
	t.Parallel()
	if unheard(t, true) == nil {
		t.Error("the planted bug is not noticed")
	}
}

// ordersEnd replaces the key of orders, and says whether an order by the one before is carried out after its end.
func ordersEnd(t *testing.T, faithful bool) error {
	t.Helper()
	// The engine's own lock is left open, so that what is tried reaches the host.
	w := newWorld(t, func(o *control.Options) { o.OpenGate = true })
	h, other := w.join("web1", web(), func(o *agent.Options) { o.Faithful = faithful }), w.join("web2", web(), nil)
	stolen := w.orderKey()
	conn := w.intruder(other)
	// What becomes of an order is seen on the host: it is taken, or refused because of its signature. Where it is refused for another reason, a busy
	// machine for instance, another one is sent.
	by := func(key ed25519.PrivateKey) (taken bool) {
		var sent fleet.Order
		others := -1
		forged := strings.Count(w.log.String(), fleet.ErrForged.Error())
		w.await("what becomes of an order", func() error {
			log := w.log.String()
			refused := strings.Count(log, "an order is refused")
			switch {
			case strings.Count(log, fleet.ErrForged.Error()) > forged:
				return nil
			case others >= 0 && tookAt(h.state, sent.ID):
				taken = true
				return nil
			case others >= 0 && others == refused:
				return errors.New("it is on its way")
			}
			others, sent = refused, w.order(h)
			return errors.Join(conn.Publish(fleet.ToAgent(h.key, fleet.WordOrder), signed(w, sent, key)), conn.Flush(), errors.New("it was sent"))
		})
		word, err := json.Marshal(fleet.Cancel{Order: sent.ID, Reason: "it was seen"})
		if err := errors.Join(err, conn.Publish(fleet.ToAgent(h.key, fleet.WordCancel), word), conn.Flush()); err != nil {
			t.Fatal(err)
		}
		return taken
	}
	follows := func() {
		w.await("that hosts follow", func() error {
			var view fleet.KeysView
			w.must("keys", nil, &view)
			if len(view.OrderBehind) > 0 {
				return fmt.Errorf("%v do not", view.OrderBehind)
			}
			return nil
		})
	}
	w.must("rotate", fleet.RotateRequest{What: fleet.KeyOfOrders, Overlap: drill.Seconds(time.Hour)}, nil)
	follows()
	if !by(stolen) || !by(w.orderKey()) {
		t.Error("within the overlap not both keys order")
	}
	var refused fleet.KeysView
	if err := w.call("rotate", fleet.RotateRequest{What: fleet.KeyOfOrders}, &refused); drill.KindOf(err) != drill.Refused {
		t.Errorf("a third key while two count: %v", err)
	}
	// Another one at once: both before have ended.
	second := w.orderKey()
	w.must("rotate", fleet.RotateRequest{What: fleet.KeyOfOrders, Now: true}, nil)
	follows()
	if by(stolen) {
		return errors.New("the first key orders after its end")
	}
	if by(second) {
		return errors.New("the key before orders after its end")
	}
	if !by(w.orderKey()) {
		t.Error("the new key does not order")
	}
	w.serves(h)
	return nil
}

func TestAnOrderKeyOrdersNothingAfterItsEnd(t *testing.T) {
	t.Parallel()
	if err := ordersEnd(t, false); err != nil {
		t.Error(err)
	}
}

func TestAHostThatHeedsAKeyAfterItsEndIsCaught(t *testing.T) {
	t.Parallel()
	if ordersEnd(t, true) == nil {
		t.Error("the planted bug is not noticed")
	}
}

func TestWhoWasAwayWhileAllKeysWereReplacedComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h, stays := w.join("web1", web(), nil), w.join("web2", web(), nil)
	before := w.identity(h)
	h.stop()
	first := w.control.Pin()
	for range 2 {
		w.must("rotate", fleet.RotateRequest{What: fleet.KeyOfOrders, Now: true}, nil)
		w.must("rotate", fleet.RotateRequest{What: fleet.KeyCertificate}, nil)
		w.must("rotate", fleet.RotateRequest{What: fleet.KeyOfAgents}, nil)
		w.rekeyedAlone(stays)
	}
	if w.control.Pin() == first {
		t.Fatal("the certificate is that of before")
	}
	w.startAgent(h, nil)
	w.rekeyed(h, before)
	w.serves(h)
	w.serves(stays)
	for _, one := range []*host{h, stays} {
		if id := w.identity(one); id.Pin != w.control.Pin() || id.OrderSerial != 2 {
			t.Errorf("%s knows the server by %s and orders by number %d", one.name, id.Pin, id.OrderSerial)
		}
	}
	// A server that is started anew is the same, and one that died before it had followed itself follows at its start.
	pin := w.control.Pin()
	identityFile := filepath.Join(w.directory, "identity.json")
	earlier, err := os.ReadFile(identityFile)
	if err != nil {
		t.Fatal(err)
	}
	w.must("rotate", fleet.RotateRequest{What: fleet.KeyOfOrders, Now: true}, nil)
	w.must("rotate", fleet.RotateRequest{What: fleet.KeyCertificate}, nil)
	w.admin.Close()
	w.stop()
	if err := os.WriteFile(identityFile, earlier, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	if w.control.Pin() == pin {
		t.Error("a change of keys is lost by a restart")
	}
	w.serves(h)
	// People follow too, by the credentials of before.
	person, err := client.Load(filepath.Join(w.directory, control.AdminFile))
	if err != nil {
		t.Fatal(err)
	}
	person.Pin = first
	c, err := client.Connect(person)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if now := c.Credentials().Pin; now != w.control.Pin() {
		t.Errorf("who has come in by an old certificate knows %s", now)
	}
}

// rekeyedAlone waits until no host but those that are away is to replace its key.
func (w *world) rekeyedAlone(h *host) {
	w.t.Helper()
	w.await("another key of "+h.name, func() error {
		var members []fleet.Member
		w.must("members", nil, &members)
		for _, m := range members {
			if m.Name == h.name && m.Renew != nil {
				return errors.New("it has the one before")
			}
		}
		return nil
	})
}

func TestAPersonReplacesTheirKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	path := filepath.Join(w.directory, control.AdminFile)
	had, err := client.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var kept []fleet.Credentials
	if err := w.admin.Renew(t.Context(), func(c fleet.Credentials) error { kept = append(kept, c); return durable.Save(path, c) }); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 2 || kept[0].Seed != had.Seed || kept[0].Next == "" || kept[1].Seed != kept[0].Next || kept[1].Next != "" {
		t.Errorf("what was written down is %+v", kept)
	}
	if _, err := client.Connect(had); drill.KindOf(err) != drill.Refused {
		t.Errorf("the key before: %v", err)
	}
	// Who died in between has both, and the one that counts lets in.
	c, err := client.Connect(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	if now := c.Credentials(); now.Seed != kept[1].Seed || now.Next != "" {
		t.Errorf("it goes on with %+v", now)
	}
	w.admin.Close()
	w.admin = c
	w.must("members", nil, nil)
}

func TestKeysAreReplacedByAdminsAlone(t *testing.T) {
	t.Parallel()
	if fleet.MayCall(fleet.RoleOperator, "rotate") || !fleet.MayCall(fleet.RoleAdmin, "rotate") {
		t.Error("the wrong people replace keys")
	}
	w := newWorld(t, nil)
	h := w.join("web1", web(), nil)
	w.join("web2", web(), nil) // or the last healthy one would be attacked
	// The key of somebody else is no key to take.
	seed, key, err := client.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	for name, signed := range map[string][]byte{"nobody": nil, "another's name": fleet.RekeyText("U", key)} {
		signature, err := pair.Sign(signed)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.call("rekey", fleet.Rekey{Key: key, Signature: signature}, nil); drill.KindOf(err) != drill.Refused {
			t.Errorf("a key signed for %s: %v", name, err)
		}
	}
	id := w.identity(h)
	theirs, err := nkeys.FromSeed([]byte(id.Seed))
	if err != nil {
		t.Fatal(err)
	}
	var members []fleet.Member
	w.must("members", nil, &members)
	for _, m := range members {
		if m.Role == fleet.RoleAdmin {
			signature, err := theirs.Sign(fleet.RekeyText(m.Key, id.Key))
			if err != nil {
				t.Fatal(err)
			}
			if err := w.call("rekey", fleet.Rekey{Key: id.Key, Signature: signature}, nil); drill.KindOf(err) != drill.Refused {
				t.Errorf("the key of a host: %v", err)
			}
		}
	}
	for name, r := range map[string]fleet.RotateRequest{"nothing": {}, "no host": {What: fleet.KeyOfAgents, Hosts: []string{"web9"}}, "hosts of orders": {What: fleet.KeyOfOrders, Hosts: []string{"web1"}}, "for ever": {What: fleet.KeyOfOrders, Overlap: drill.Seconds(fleet.OverlapMax + time.Second)}, "now and later": {What: fleet.KeyOfOrders, Now: true, Overlap: 1}} {
		if err := w.call("rotate", r, nil); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Joined again, a host that has another key by now keeps it.
	w.must("rotate", fleet.RotateRequest{What: fleet.KeyOfAgents, Hosts: []string{"web1"}}, nil)
	now := w.rekeyed(h, id)
	h.stop()
	var text string
	w.must("token", fleet.TokenRequest{Uses: 1}, &text)
	token, err := fleet.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := agent.Join(t.Context(), h.state, h.proxy.address(), token, agent.Identity{Name: "web1", Tags: web()})
	if err != nil || again.Key != id.Key || again.Seed != now.Seed {
		t.Fatalf("joined again: %+v, %v", again, err)
	}
	w.startAgent(h, nil)
	w.serves(h)
}
