package fleettest

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/control"
)

// web are the tags of a service with more hosts than are hit.
func web() map[string]string { return map[string]string{fleet.TagService: "web"} }

func TestARunIsCarriedOutAndAccountedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, b := w.join("web1", web(), nil), w.join("web2", web(), nil)
	run := w.mustAttack("cpu", "0.5", "web1")
	w.await("the impact", a.inForce)
	if b.hit() {
		t.Error("a host that was not chosen is hit")
	}
	run = w.ended(run.ID)
	h := run.Hosts[0]
	if run.State != fleet.RunEnded || h.State != fleet.HostEnded || !h.Bit || !h.Reverted || h.Chain != "whole" || h.Code != 0 {
		t.Errorf("the run is %+v", run)
	}
	var text string
	w.must("journal", []string{run.ID, "web1"}, &text)
	if !strings.Contains(text, "attack_account") && !strings.Contains(text, "account") || strings.Count(text, "\n") != h.Lines {
		t.Errorf("%d lines are said, and the journal is:\n%s", h.Lines, text)
	}
	// The permit is back, and the host may be hit again.
	w.ended(w.mustAttack("cpu", "0.1", "web1").ID)
}

// An order by the labels of pods goes to nodes of which some have no such pod: those have no part in the run, which begins on the others. Where no
// host has one, a name is wrong, and nothing begins.
func TestHostsWithNothingOfWhatIsNamedHaveNoPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, b := w.join("node1", web(), nil), w.join("node2", web(), nil)
	for _, name := range []string{"node3", "node4"} { // which are never chosen: limits allow half of a service
		w.join(name, web(), nil)
	}
	without := func(h *host) {
		if err := os.WriteFile(filepath.Join(h.directory, absentFile), []byte("--pod=app=web: none of the 4 pods"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	without(b)
	run := w.ended(w.mustAttack("cpu", "0.2", "node1", "node2").ID)
	one, other := run.Hosts[0], run.Hosts[1]
	if one.Name != "node1" {
		one, other = other, one
	}
	if one.State != fleet.HostEnded || !one.Bit || !one.Reverted {
		t.Errorf("the host that has it: %+v", one)
	}
	if other.State != fleet.HostNothing || other.Bit || !other.Reverted || !strings.Contains(other.Reason, "none of the 4 pods") || other.Cure != "see: crictl pods" {
		t.Errorf("the host that has nothing: %+v", other)
	}
	if run.State != fleet.RunEnded || len(run.NotReverted()) > 0 {
		t.Errorf("the run is %+v", run)
	}
	without(a)
	run, err := w.attack("cpu", "0.2", "node1", "node2")
	if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "no host has what it names") || !strings.Contains(err.Error(), "none of the 4 pods") {
		t.Errorf("where no host has it: %v", err)
	}
	if a.hit() || b.hit() {
		t.Error("something is in force")
	}
}

func TestAllHostsBeginOrNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var hosts []*host
	for i := range 4 {
		hosts = append(hosts, w.join(fmt.Sprintf("web%d", i), web(), nil))
	}
	// One takes everything for a mistake, as a host's policy may.
	hosts[1].stop()
	w.startAgent(hosts[1], func(o *agent.Options) { o.Program = []string{"/bin/false"} })
	run, err := w.attack("cpu", "5", "web0", "web1")
	if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "web1") {
		t.Errorf("it is not refused, or not for web1: %v", err)
	}
	if run = w.ended(run.ID); run.State != fleet.RunCancelled {
		t.Errorf("the run is %+v", run)
	}
	w.await("the agent's own account", func() error {
		if !strings.Contains(w.log.String(), "cancelled: ") {
			return errors.New("web0 was not told")
		}
		return nil
	})
	if hosts[0].hit() {
		t.Error("web0 has begun")
	}
	w.ended(w.begun("0.1", "web0").ID) // the permit is back
}

// cutOff says whether a host whose agent lost the control plane is whole again within its leash, and a moment.
func cutOff(t *testing.T, unleashed bool) (*world, *host, fleet.Run, error) {
	t.Helper()
	w := newWorld(t, nil)
	h := w.join("web1", web(), func(o *agent.Options) { o.Unleashed = unleashed })
	w.join("web2", web(), nil)
	run := w.mustAttack("cpu", "20", "web1")
	w.await("the impact", h.inForce)
	h.proxy.set(true)
	return w, h, run, awaited(h.whole, 2*leash)
}

func TestAHostThatLosesTheControlPlaneRevertsAndTellsLater(t *testing.T) {
	t.Parallel()
	w, h, run, err := cutOff(t, false)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing was heard of it, so its service stays taken.
	if _, err := w.attack("cpu", "1", "web2"); drill.KindOf(err) != drill.Refused {
		t.Errorf("the permit was handed out twice: %v", err)
	}
	h.proxy.set(false)
	run = w.ended(run.ID)
	if h := run.Hosts[0]; h.State != fleet.HostEnded || !h.Reverted || h.Chain != "whole" || !strings.Contains(h.Reason, "was not heard") {
		t.Errorf("the account is %+v", h)
	}
}

// stoppedMeanwhile says how a run ended on a host that was reconnecting when it was stopped.
func stoppedMeanwhile(t *testing.T, once bool) (reason string, err error) {
	t.Helper()
	w := newWorld(t, func(o *control.Options) { o.StopsOnce = once })
	h := w.join("web1", web(), func(o *agent.Options) { o.Leash = 10 * leash })
	w.join("web2", web(), nil)
	run := w.mustAttack("cpu", "60", "web1")
	w.await("the impact", h.inForce)
	h.proxy.drop()
	w.must("stop", run.ID, nil)
	most := patience // of an impact that lasts twice as long
	if once {
		most = 4 * leash
	}
	err = awaited(h.whole, most)
	if err == nil {
		reason = w.ended(run.ID).Hosts[0].Reason
	}
	return reason, err
}

func TestAStopReachesAHostThatReconnects(t *testing.T) {
	t.Parallel()
	if reason, err := stoppedMeanwhile(t, false); err != nil || !strings.Contains(reason, "stopped by") {
		t.Errorf("it ended for %q, %v", reason, err)
	}
}

func TestAStopThatIsSaidOnceIsCaught(t *testing.T) {
	t.Parallel()
	if reason, err := stoppedMeanwhile(t, true); err == nil {
		t.Errorf("the planted bug is not noticed: %s", reason)
	}
}

// strandedAgent says whether an agent is heard again soon whose connection has died without a word, while new ones would pass.
func strandedAgent(t *testing.T, clinging bool) error {
	t.Helper()
	most := patience
	if clinging {
		most = 4 * leash
	}
	w := newWorld(t, nil)
	h := w.join("web1", web(), func(o *agent.Options) { o.Clinging = clinging })
	h.proxy.strand()
	since := time.Now().Add(100 * time.Millisecond) // what was on its way has come by then
	return awaited(func() error {
		var hosts []fleet.HostView
		w.must("hosts", nil, &hosts)
		if !slices.ContainsFunc(hosts, func(seen fleet.HostView) bool { return seen.Name == "web1" && seen.Heard.After(since) }) {
			return errors.New("it is not heard")
		}
		return nil
	}, most)
}

func TestAnAgentLeavesAConnectionThatIsDead(t *testing.T) {
	t.Parallel()
	if err := strandedAgent(t, false); err != nil {
		t.Error(err)
	}
}

func TestAnAgentThatClingsToADeadConnectionIsCaught(t *testing.T) {
	t.Parallel()
	if err := strandedAgent(t, true); err == nil {
		t.Error("the planted bug is not noticed")
	}
}

func TestAnAgentWithoutALeashIsCaught(t *testing.T) {
	t.Parallel()
	w, h, run, err := cutOff(t, true)
	if err == nil {
		t.Error("the planted bug is not noticed")
	}
	h.proxy.set(false)
	w.must("stop", run.ID, nil)
	w.ended(run.ID)
}

// intruder holds the key of an agent, and speaks without being one.
func (w *world) intruder(h *host) *nats.Conn {
	w.t.Helper()
	id, err := agent.LoadIdentity(h.state)
	if err != nil {
		w.t.Fatal(err)
	}
	pair, err := nkeys.FromSeed([]byte(id.Seed))
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := nats.Connect("tls://"+w.options.Listen, nats.Secure(fleet.PinnedTLS(id.Pin)), nats.TLSHandshakeFirst(), nats.Nkey(id.Key, pair.Sign),
		nats.CustomInboxPrefix(fleet.Inbox(id.Key)), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(conn.Close)
	return conn
}

// orderKey is what nobody but the control plane has.
func (w *world) orderKey() ed25519.PrivateKey {
	w.t.Helper()
	var id struct {
		OrderSeed []byte `json:"order_seed"`
	}
	text, err := os.ReadFile(filepath.Join(w.directory, "identity.json"))
	if err == nil {
		err = json.Unmarshal(text, &id)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return ed25519.NewKeyFromSeed(id.OrderSeed)
}

// order makes an order that would be carried out.
func (w *world) order(h *host) fleet.Order {
	id, err := agent.LoadIdentity(h.state)
	if err != nil {
		w.t.Fatal(err)
	}
	now := time.Now()
	return fleet.Order{ID: uuid.NewString(), Run: uuid.NewString(), Fleet: id.Fleet, Host: h.key, Kind: "cpu", Args: []string{"-l", "0.3"}, By: "somebody",
		Issued: now, Start: now.Add(time.Millisecond), Expires: now.Add(time.Minute), Deadline: now.Add(90 * time.Second)}
}

// refusedFor is for how long an order that must not be carried out is seen not to be.
const refusedFor = 1500 * time.Millisecond

// send says an order to a host as the control plane would, and reports whether the host began it within some time.
func (w *world) send(conn *nats.Conn, h *host, text []byte, order string, within time.Duration) (began bool) {
	w.t.Helper()
	err := errors.Join(conn.Publish(fleet.ToAgent(h.key, fleet.WordOrder), text), conn.Flush())
	word, encodeErr := json.Marshal(fleet.Go{Order: order})
	if err := errors.Join(err, encodeErr); err != nil {
		w.t.Fatal(err)
	}
	// Said again and again: it is only heard once the order was accepted.
	return awaited(func() error {
		return errors.Join(conn.Publish(fleet.ToAgent(h.key, fleet.WordGo), word), conn.Flush(), h.inForce())
	}, within) == nil
}

// tricks are ways to have an order carried out that must not be. Each gets an order that would be, and a key of its own.
var tricks = map[string]func(w *world, h, other *host, o fleet.Order, key ed25519.PrivateKey) []byte{
	"signed by another": func(w *world, _, _ *host, o fleet.Order, _ ed25519.PrivateKey) []byte {
		_, other, _ := ed25519.GenerateKey(nil)
		return signed(w, o, other)
	},
	"changed after it was signed": func(w *world, _, _ *host, o fleet.Order, key ed25519.PrivateKey) []byte {
		var s struct {
			Order     []byte `json:"order"`
			Signature []byte `json:"signature"`
		}
		if err := json.Unmarshal(signed(w, o, key), &s); err != nil {
			w.t.Fatal(err)
		}
		s.Order = []byte(strings.Replace(string(s.Order), `"0.3"`, `"0.4"`, 1))
		text, err := json.Marshal(s)
		if err != nil {
			w.t.Fatal(err)
		}
		return text
	},
	"for another host": func(w *world, _, other *host, o fleet.Order, key ed25519.PrivateKey) []byte {
		o.Host = other.key
		return signed(w, o, key)
	},
	"of another fleet": func(w *world, _, _ *host, o fleet.Order, key ed25519.PrivateKey) []byte {
		o.Fleet = uuid.NewString()
		return signed(w, o, key)
	},
	"expired": func(w *world, _, _ *host, o fleet.Order, key ed25519.PrivateKey) []byte {
		o.Issued, o.Start, o.Expires = o.Issued.Add(-time.Minute), o.Start.Add(-time.Minute), o.Start.Add(-time.Millisecond)
		return signed(w, o, key)
	},
	"of before a halt": func(w *world, _, _ *host, o fleet.Order, key ed25519.PrivateKey) []byte {
		o.Epoch += 7
		return signed(w, o, key)
	},
	"longer than it says": func(w *world, _, _ *host, o fleet.Order, key ed25519.PrivateKey) []byte {
		o.Args = []string{"-l", "3600"}
		return signed(w, o, key)
	},
}

func signed(w *world, o fleet.Order, key ed25519.PrivateKey) []byte {
	w.t.Helper()
	text, err := fleet.Sign(o, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func TestOrdersThatMustNotBeCarriedOutAreNot(t *testing.T) {
	t.Parallel()
	// The engine's own lock is left open, so that what is tried reaches the host.
	w := newWorld(t, func(o *control.Options) { o.OpenGate = true })
	h, other := w.join("web1", web(), nil), w.join("web2", web(), nil)
	conn, key := w.intruder(other), w.orderKey()
	good := w.order(h)
	text := signed(w, good, key)
	if !w.send(conn, h, text, good.ID, patience) {
		t.Fatal("the order that is right is not carried out, so the others prove nothing")
	}
	w.await("its end", h.whole)
	if w.send(conn, h, text, good.ID, refusedFor) {
		t.Error("an order was carried out twice")
	}
	// A new life of the agent remembers too.
	h.stop()
	w.startAgent(h, nil)
	w.await("an order after the restart", func() error {
		fresh := w.order(h)
		if !w.send(conn, h, signed(w, fresh, key), fresh.ID, refusedFor) {
			return errors.New("it does not take orders yet")
		}
		return nil
	})
	w.await("its end", h.whole)
	if w.send(conn, h, text, good.ID, refusedFor) {
		t.Error("an order was carried out twice, after a restart")
	}
	for name, trick := range tricks {
		o := w.order(h)
		if w.send(conn, h, trick(w, h, other, o, key), o.ID, refusedFor) {
			t.Errorf("an order %s is carried out", name)
			w.await("its end", h.whole)
		}
	}
	for _, said := range []string{"the signature is not that of the control plane", "taken before", "it expired at", "is for another host", "of another fleet", "in epoch 7"} {
		if !strings.Contains(w.log.String(), said) {
			t.Errorf("no line says %q", said)
		}
	}
}

func TestAgentsThatTakeWhatTheyMustNotAreCaught(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *control.Options) { o.OpenGate = true })
	h := w.join("web1", web(), func(o *agent.Options) {
		o.Forgetful = true
		o.OpenOrder = func(text []byte, _ ed25519.PublicKey) (fleet.Order, error) { // whatever the signature is
			var s struct{ Order []byte }
			var order fleet.Order
			err := json.Unmarshal(text, &s)
			return order, errors.Join(err, json.Unmarshal(s.Order, &order))
		}
	})
	other := w.join("web2", web(), nil)
	conn, key := w.intruder(other), w.orderKey()
	o := w.order(h)
	if !w.send(conn, h, tricks["signed by another"](w, h, other, o, key), o.ID, patience) {
		t.Error("an agent that checks no signature is not noticed")
	}
	w.await("its end", h.whole)
	w.await("its journal's end", func() error { return gone(filepath.Join(h.state, "journal", o.ID+".jsonl")) })
	// Its journal would stand in the way of a second life of the same order; the ledger is what is tried.
	if err := os.RemoveAll(filepath.Join(h.state, "journal", o.ID+".jsonl")); err != nil {
		t.Fatal(err)
	}
	if !w.send(conn, h, signed(w, o, key), o.ID, patience) {
		t.Error("an agent that takes orders twice is not noticed")
	}
	w.await("its end", h.whole)
}

func gone(path string) error {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s is there", path)
	}
	return nil
}

func TestAnAgentsKeyCannotOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h, other := w.join("web1", web(), nil), w.join("web2", web(), nil)
	conn := w.intruder(other)
	// Even with the key that signs orders an agent cannot say them to another: the engine does not carry them.
	o := w.order(h)
	if w.send(conn, h, signed(w, o, w.orderKey()), o.ID, refusedFor) {
		t.Error("an agent has ordered another")
	}
	for _, subject := range []string{fleet.SubjectHalt, fleet.SubjectPulse, fleet.FromAgent(h.key, fleet.WordPresence), fleet.APISubject(other.key, "halt"), "$JS.API.STREAM.NAMES", "fd.kept." + other.key + ".x"} {
		conn.SetErrorHandler(nil)
		refused := make(chan error, 4)
		conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
		if err := errors.Join(conn.Publish(subject, []byte("{}")), conn.Flush()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", subject, err)
			}
		case <-time.After(patience):
			t.Errorf("an agent may publish on %s", subject)
		}
	}
}

func TestAGateThatIsOpenIsCaught(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *control.Options) { o.OpenGate = true })
	h, other := w.join("web1", web(), nil), w.join("web2", web(), nil)
	o := w.order(h)
	if !w.send(w.intruder(other), h, signed(w, o, w.orderKey()), o.ID, patience) {
		t.Error("the planted bug is not noticed")
	}
	w.await("its end", h.whole)
}

// borrowed says hello in the name of one agent, and asks for the answer to be said to another as the control plane's own word.
func borrowed(t *testing.T, trusting bool) (halted bool) {
	t.Helper()
	w := newWorld(t, func(o *control.Options) { o.TrustingReplies = trusting })
	h, other := w.join("web1", web(), nil), w.join("web2", web(), nil)
	run := w.mustAttack("cpu", "3", "web1")
	w.await("the impact", h.inForce)
	hello, err := json.Marshal(fleet.Presence{At: time.Now(), Facts: &fleet.Facts{Hostname: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.intruder(other).PublishRequest(fleet.FromAgent(other.key, fleet.WordHello), fleet.SubjectHalt, hello); err != nil {
		t.Fatal(err)
	}
	run = w.ended(run.ID)
	return strings.Contains(run.Hosts[0].Reason, "halt")
}

func TestTheControlPlaneAnswersAMemberAlone(t *testing.T) {
	t.Parallel()
	if borrowed(t, false) {
		t.Error("an agent has spoken with the voice of the control plane")
	}
}

func TestAControlPlaneThatAnswersAnywhereIsCaught(t *testing.T) {
	t.Parallel()
	if !borrowed(t, true) {
		t.Error("the planted bug is not noticed")
	}
}

// twice asks for two runs on one service, on different hosts, and reports whether the second begins beside the first.
func twice(t *testing.T, blind bool) bool {
	t.Helper()
	w := newWorld(t, func(o *control.Options) { o.BlindPermits = blind })
	for i := range 4 {
		w.join(fmt.Sprintf("web%d", i), web(), nil)
	}
	first := w.mustAttack("cpu", "3", "web0")
	second, err := w.attack("cpu", "0.1", "web1")
	if err != nil && (drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "permit")) {
		t.Errorf("it is refused for something else: %v", err)
	}
	w.must("stop", first.ID, nil)
	w.ended(first.ID)
	if err == nil {
		w.ended(second.ID)
		return true
	}
	w.ended(w.mustAttack("cpu", "0.1", "web1").ID) // it was given back
	return false
}

func TestAServiceIsAttackedByOneRunAtATime(t *testing.T) {
	t.Parallel()
	if twice(t, false) {
		t.Error("a permit was handed out twice")
	}
}

func TestPermitsThatAreOnlyWrittenDownAreCaught(t *testing.T) {
	t.Parallel()
	if !twice(t, true) {
		t.Error("the planted bug is not noticed")
	}
}

// Of services that stand in for each other one is attacked at a time, also when one of its hosts has joined without saying so.
func TestServicesOfARedundancyGroupAreAttackedOneAtATime(t *testing.T) {
	t.Parallel()
	for _, groupless := range []bool{false, true} {
		w := newWorld(t, func(o *control.Options) { o.Groupless = groupless })
		for _, service := range []string{"cards", "wires", "news"} {
			for i := range 2 {
				tags := map[string]string{fleet.TagService: service}
				if service != "news" && i == 0 {
					tags[fleet.TagGroup] = "payments"
				}
				w.join(fmt.Sprintf("%s%d", service, i), tags, nil)
			}
		}
		first := w.mustAttack("cpu", "30", "cards1")
		w.ended(w.mustAttack("cpu", "0.1", "news0").ID) // of another group, or of none
		second, err := w.attack("cpu", "0.1", "wires1")
		if refused := drill.KindOf(err) == drill.Refused && strings.Contains(err.Error(), "redundancy group payments"); refused == groupless {
			t.Errorf("groupless %v: what stands in for an attacked service is attacked: %v", groupless, err)
		}
		if err == nil {
			w.ended(second.ID)
		}
		w.must("stop", first.ID, nil)
		w.ended(first.ID)
		w.ended(w.mustAttack("cpu", "0.1", "wires1").ID) // it was given back
	}
}

func TestAHaltEndsEverythingAndHoldsUntilReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, b := w.join("web1", web(), nil), w.join("db1", map[string]string{fleet.TagService: "db"}, nil)
	w.join("web2", web(), nil)
	w.join("db2", map[string]string{fleet.TagService: "db"}, nil)
	one, two := w.mustAttack("cpu", "60", "web1"), w.mustAttack("io", "60", "db1")
	w.await("both", func() error { return errors.Join(a.inForce(), b.inForce()) })
	var report fleet.HaltReport
	w.must("halt", fleet.HaltRequest{Reason: "enough"}, &report)
	if a.hit() || b.hit() || len(report.Left) > 0 || len(report.Halted) != 4 || report.Ended != 2 || !report.Lever.Engaged {
		t.Errorf("in force %v %v; the report is %+v", a.hit(), b.hit(), report)
	}
	for _, id := range []string{one.ID, two.ID} {
		if h := w.ended(id).Hosts[0]; !h.Reverted || !strings.Contains(h.Reason, "halt") {
			t.Errorf("the account is %+v", h)
		}
	}
	// A restart forgets neither the lever nor who is a member; the agents come back by themselves.
	w.admin.Close()
	w.stop()
	w.start()
	if _, err := w.attack("cpu", "1", "web1"); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "lever") {
		t.Errorf("the lever does not hold: %v", err)
	}
	var lever fleet.Lever
	w.must("release", nil, &lever)
	by, at := lever.Released, lever.ReleasedAt
	if w.must("release", nil, &lever); lever.Engaged || by != "admin" || at.IsZero() || !lever.ReleasedAt.Equal(at) {
		t.Errorf("released by %q at %s, and then %+v", by, at, lever)
	}
	w.await("a run after the release", func() error {
		run, err := w.attack("cpu", "0.1", "web1")
		if err == nil {
			w.ended(run.ID)
		}
		return err
	})
}

func TestWhatARestartedAgentFindsIsAccountedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h := w.join("web1", web(), nil)
	w.join("web2", web(), nil)
	run := w.mustAttack("cpu", "60", "web1")
	w.await("the impact", h.inForce)
	h.stop() // in order: it ends what it does, and tells
	if h.hit() {
		t.Error("the agent has left something in force")
	}
	if end := w.ended(run.ID).Hosts[0]; !end.Reverted || end.Reason != "the agent was stopped" {
		t.Errorf("the account is %+v", end)
	}
	// A journal without an end is that of an agent that died.
	dead := uuid.NewString()
	if err := os.WriteFile(filepath.Join(h.state, "journal", dead+".jsonl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.startAgent(h, nil)
	w.await("its end", func() error { return gone(filepath.Join(h.state, "journal", dead+".jsonl")) })
}

func TestRolesBoundWhatPeopleMayDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join("web1", web(), nil)
	w.join("web2", web(), nil)
	for role, may := range map[string][]string{fleet.RoleViewer: {"hosts"}, fleet.RoleOperator: {"hosts", "release"}} {
		seed, key, err := client.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		w.must("add", fleet.Member{Key: key, Name: role + "1", Role: role}, nil)
		credentials, err := client.Load(filepath.Join(w.directory, control.AdminFile))
		if err != nil {
			t.Fatal(err)
		}
		credentials.Seed = seed
		person, err := client.Connect(credentials)
		if err != nil {
			t.Fatal(err)
		}
		defer person.Close()
		for _, call := range []string{"hosts", "release", "token"} {
			err := person.Call(t.Context(), call, map[string]int{}, nil)
			if refused := drill.KindOf(err) == drill.Refused && err != nil; refused == slices.Contains(may, call) {
				t.Errorf("%s, %s: %v", role, call, err)
			}
		}
		// Put out: at once, and for good.
		w.must("revoke", role+"1", nil)
		w.await("the end of the connection", func() error {
			if person.Call(t.Context(), "hosts", nil, nil) == nil {
				return errors.New("it is still answered")
			}
			return nil
		})
		if again, err := client.Connect(credentials); drill.KindOf(err) != drill.Refused {
			t.Errorf("it came in again: %v %v", again, err)
		}
	}
}

func TestATokenLetsInAsOftenAsItSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var text string
	w.must("token", fleet.TokenRequest{Uses: 1}, &text)
	token, err := fleet.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	other := token
	other.Pin = fleet.TokenID("x") + other.Pin[len(fleet.TokenID("x")):]
	if _, err := agent.Join(t.Context(), t.TempDir(), w.options.Listen, other, agent.Identity{Name: "a"}); !errors.Is(err, fleet.ErrPin) {
		t.Errorf("a server that is not the one meant is believed: %v", err)
	}
	state := t.TempDir()
	if _, err := agent.Join(t.Context(), state, w.options.Listen, token, agent.Identity{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Join(t.Context(), t.TempDir(), w.options.Listen, token, agent.Identity{Name: "b"}); drill.KindOf(err) != drill.Refused {
		t.Errorf("a second host came in with it: %v", err)
	}
	if info, err := os.Stat(filepath.Join(state, "agent.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the agent's key: %v %v", info, err)
	}
}

func TestOneHostHasOneAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h := w.join("web1", web(), nil)
	if _, err := agent.Open(agent.Options{Directory: h.state, Log: w.logger("second")}); drill.KindOf(err) != drill.Refused {
		t.Errorf("a second agent with the same ledger: %v", err)
	}
}

// A list of all is longer than one message of the engine may be, in a fleet that is large.
func TestAnAnswerThatIsLongerThanAMessageArrives(t *testing.T) {
	w := newWorld(t, nil)
	const more = 300
	var services []string
	for i := range 64 {
		services = append(services, fmt.Sprintf("%s%d", strings.Repeat("x", 100), i))
	}
	for i := range more {
		_, key, err := client.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		w.must("add", fleet.Member{Key: key, Name: fmt.Sprintf("person%d", i), Role: fleet.RoleViewer, Services: services}, nil)
	}
	var members []fleet.Member
	w.must("members", nil, &members)
	if len(members) != more+1 {
		t.Errorf("%d members are listed, want %d", len(members), more+1)
	}
	if text, err := json.Marshal(members); err != nil || len(text) < 1<<20 {
		t.Errorf("%d bytes would fit into one message: the test tests nothing", len(text))
	}
}

// A dry run orders nothing, and is refused as what it stands for would be: by the limits, the permit, and the lever. A seed that nobody gave is drawn.
func TestADryRunSaysWhatWouldBeRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h := w.join("web1", web(), nil)
	w.join("web2", web(), nil)
	w.join("web3", web(), nil)
	w.join("web4", web(), nil) // of four two may be hit
	look := func() (run fleet.Run, err error) {
		err = w.call("attack", fleet.AttackRequest{Selector: fleet.Selector{Tags: web(), Count: 1}, Kind: "cpu", Args: []string{"-l", "1"}, DryRun: true}, &run)
		return run, err
	}
	seeds := map[uint64]bool{}
	for range 3 {
		run, err := look()
		if err != nil || run.State != fleet.RunPlanned || len(run.Hosts) != 1 || run.Hosts[0].State != fleet.HostPlanned || run.Seed == 0 {
			t.Fatalf("%+v %v", run, err)
		}
		seeds[run.Seed] = true
	}
	if len(seeds) == 1 {
		t.Errorf("three looks have one seed: %v", seeds)
	}
	var runs []fleet.Run
	if w.must("runs", nil, &runs); len(runs) != 0 {
		t.Errorf("a look has left %v", runs)
	}
	run := w.begun("60", "web1")
	w.await("the impact", h.inForce)
	if _, err := look(); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "holds the permit of service web") || !strings.Contains(drill.HintOf(err), "fleet stop "+run.ID) {
		t.Errorf("while a run has the permit: %v", err)
	}
	w.must("halt", nil, nil)
	if _, err := look(); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "the lever is engaged") {
		t.Errorf("while the lever is engaged: %v", err)
	}
}
