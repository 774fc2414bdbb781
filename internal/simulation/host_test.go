package simulation

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Of hosts and their kernels. What the kernel does is a model: a gate that shuts when its lease runs out, and spares that win.
const (
	skewMax = 50 * time.Millisecond // what is left of a clock's difference after it was measured and corrected
	leaseOf = 3 * time.Second
)

// host is one machine.
type host struct {
	w           *world
	name        string
	environment string
	skew        time.Duration
	up          bool
	boot        int
	impacts     []*impact
	heard       time.Time // when the last message of its attack arrives: they keep their order
	cutUntil    time.Time // no connection reaches it
}

// impact is damage that is done to a host, as its kernel has it.
type impact struct {
	guid      string
	foreign   bool
	bites     bool // it hits db
	toothless bool // it hits nothing
	applied   time.Time
	length    time.Duration // as planned
	until     time.Time     // the deadline, as the attack set it
	lease     time.Time     // when the gate shuts unless it is renewed
	hits      []netip.Addr  // after spares
	spared    []netip.Addr
}

func newHost(w *world, environment string, known drill.Host) *host {
	return &host{w: w, name: known.Name, environment: environment, up: true, boot: 1, skew: time.Duration(w.random.Int64N(int64(2*skewMax))) - skewMax}
}

func (h *host) bootID() string { return fmt.Sprintf("%s-boot-%d", h.name, h.boot) }

func (h *host) cut(now time.Time) bool { return now.Before(h.cutUntil) }

// active are the impacts that hold now.
func (h *host) active() []*impact {
	h.impacts = slices.DeleteFunc(h.impacts, func(i *impact) bool { return !h.w.now.Before(i.lease) })
	return h.impacts
}

func (h *host) inForce() []string {
	var guids []string
	for _, i := range h.active() {
		guids = append(guids, i.guid)
	}
	return guids
}

// reachesDB says whether the service on the host works.
func (h *host) reachesDB() bool {
	return h.up && !slices.ContainsFunc(h.active(), func(i *impact) bool { return i.bites })
}

// live lets a host measure, and crash.
func (h *host) live() {
	h.w.every(time.Second, func() {
		if h.w.chance(h.w.temper.crash) && h.up {
			h.down(h.w.random.IntN(10) > 0)
		}
		if !h.up {
			return
		}
		at, value := h.w.now.Add(h.skew), 0.0
		if h.reachesDB() {
			value = 1
		}
		boot := h.bootID()
		h.w.message(func() { h.w.watch.sample(h.name, "db", at, value, boot) })
		h.w.message(func() { h.w.watch.sample(h.name, "status", at, 1, boot) })
	})
}

// down takes a host down, with all that is on it.
func (h *host) down(comesBack bool) {
	h.up, h.impacts = false, nil
	if comesBack {
		h.w.after(8*time.Second, 45*time.Second, func() { h.up, h.boot = true, h.boot+1 })
	}
}

// attacker is the attack's process on a host, and what the crew knows of it.
type attacker struct {
	t        *task
	h        *host
	boot     int
	impact   *impact
	targets  attack.Targets
	dead     bool
	frozen   bool
	stubborn bool // it neither ends by itself nor hears that it should
	residue  bool
	bites    bool
	ticks    int
	through  map[string]bool
}

// names are what DNS says. The dependency shares an address with the watch at times, as behind a CDN.
func (w *world) names(name string) []netip.Addr {
	switch name {
	case "db.test":
		addresses := []netip.Addr{netip.MustParseAddr("10.0.1.5")}
		if w.seed%3 == 0 {
			addresses = append(addresses, netip.MustParseAddr("10.0.1.9"))
		}
		return addresses
	case "control.test":
		return []netip.Addr{netip.MustParseAddr("10.0.1.9")}
	}
	return nil
}

// attack starts the process on the host.
func (t *task) attack() {
	w := t.w
	a := &attacker{t: t, h: w.host(t.Hosts[0].Name), stubborn: w.chance(w.temper.stubborn), residue: w.chance(w.temper.residue), bites: !w.chance(w.temper.toothless)}
	t.stop = func() { a.stop("told to") }
	// The crew gives up when nothing can be learnt any more.
	w.at(w.now.Add(t.Order.Delay.Duration()+t.Order.Length.Duration()+40*time.Second), func() { a.lost("it gave no word") })
	w.after(100*time.Millisecond, 2*time.Second, a.plan)
	if w.chance(w.temper.cutOff) {
		w.after(time.Second, t.Order.Length.Duration()+5*time.Second, a.cutOff)
	}
	if w.chance(w.temper.frozen) {
		w.after(time.Second, t.Order.Length.Duration()+2*time.Second, func() {
			a.frozen = true
			w.after(2*time.Second, time.Minute, func() { a.frozen = false })
		})
	}
}

func (a *attacker) gone() bool { return a.dead || !a.h.up || a.boot != 0 && a.boot != a.h.boot }

// say sends an event to the conductor over the connection that the attack has. Order is kept; some get lost all the same, so that
// verdicts from a part of the evidence are asked for.
func (a *attacker) say(fact history.Fact) {
	w, h := a.t.w, a.h
	if h.cut(w.now) || w.chance(w.temper.lost) {
		return
	}
	event := history.New(w.now.Add(h.skew), h.name, fact)
	arrives := w.between(time.Millisecond, 60*time.Millisecond)
	if arrives.Before(h.heard) {
		arrives = h.heard
	}
	h.heard = arrives
	w.at(arrives, func() { w.hear(event) })
	if w.chance(w.temper.doubled) {
		w.at(arrives, func() { w.hear(event) })
	}
}

// over ends the task after all that was said.
func (a *attacker) over(err error) {
	a.dead = true
	arrives := a.h.heard
	if arrives.Before(a.t.w.now) {
		arrives = a.t.w.now
	}
	a.t.w.at(arrives.Add(time.Millisecond), func() { a.t.end(conductor.Ended{Err: err}) })
}

// lost ends the task from the crew's side: the process may still be there.
func (a *attacker) lost(why string) {
	if a.t.w.tasks[a.t.ID] == a.t {
		a.t.end(conductor.Ended{Err: errors.New(why)})
	}
}

// cutOff breaks the connection. The process notices that its input has ended, if it notices anything.
func (a *attacker) cutOff() {
	w := a.t.w
	a.h.cutUntil = w.between(2*time.Second, 20*time.Second)
	w.after(500*time.Millisecond, 3*time.Second, func() { a.lost("connection lost") })
	w.after(100*time.Millisecond, 5*time.Second, func() { a.stop("connection lost") })
}

func (a *attacker) plan() {
	w, h, order := a.t.w, a.h, a.t.Order
	if !h.up || h.cut(w.now) {
		a.over(errors.New("no route to host"))
		return
	}
	a.boot = h.boot
	remains := "nothing"
	if order.OneWay {
		remains = "one-way"
	}
	values := attack.Values{}
	for _, arg := range order.Args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		values[name] = append(values[name], value)
	}
	var err error
	if a.targets, err = attack.ParseTargets(values); err != nil {
		w.fail("targets: %v", err)
		return
	}
	a.say(&history.AttackPlanned{GUID: a.t.GUID, Attack: order.Attack, Host: h.name, Length: order.Length, Remains: remains})
	if order.OneWay {
		w.at(w.now.Add(order.Delay.Duration()), a.shutDown)
		return
	}
	a.canaries("before", "new")
	length, err := strconv.Atoi(values["length"][0])
	if err != nil {
		w.fail("length: %v", err)
		return
	}
	w.after(50*time.Millisecond, 500*time.Millisecond, func() { a.apply(time.Duration(length) * time.Second) })
}

func (a *attacker) shutDown() {
	if a.gone() {
		return
	}
	a.say(&history.AttackInForce{GUID: a.t.GUID})
	a.t.w.truth.applied(a.t, nil)
	a.over(nil)
	a.t.w.after(200*time.Millisecond, time.Second, func() { a.h.down(true) })
}

// canaries tries connections of our own.
func (a *attacker) canaries(when string, flows ...string) {
	for _, target := range a.t.Order.Canaries {
		for _, flow := range flows {
			through := !slices.ContainsFunc(a.h.active(), func(i *impact) bool { return i.bites })
			a.say(&history.AttackCanary{GUID: a.t.GUID, Target: target, Address: "10.0.1.5", Flow: flow, When: when, Through: through})
		}
	}
}

func (a *attacker) apply(length time.Duration) {
	if a.gone() {
		a.over(errors.New("the host is gone"))
		return
	}
	w, h := a.t.w, a.h
	a.impact = &impact{guid: a.t.GUID, toothless: !a.bites, bites: a.bites && a.t.Order.Attack == "blackhole", applied: w.now, length: a.t.Order.Length.Duration(), until: w.now.Add(length), lease: w.now.Add(leaseOf)}
	for _, name := range a.targets.SpareNames {
		a.impact.spared = append(a.impact.spared, w.names(name)...)
		a.say(&history.AttackTarget{GUID: a.t.GUID, Address: name, Verb: "spare", Direction: "egress"})
	}
	for _, name := range a.targets.HitNames {
		for _, address := range w.names(name) {
			if !slices.Contains(a.impact.spared, address) {
				a.impact.hits = append(a.impact.hits, address)
			}
			a.say(&history.AttackTarget{GUID: a.t.GUID, Address: address.String(), Name: name, Verb: "drop", Direction: "egress"})
		}
	}
	if w.chance(w.temper.betrayal) {
		w.after(0, 5*time.Second, func() {
			for _, other := range w.hosts {
				if other.environment != h.environment && other.up {
					other.down(true)
					return
				}
			}
		})
	}
	h.impacts = append(h.impacts, a.impact)
	w.truth.applied(a.t, a.impact)
	a.say(&history.AttackInForce{GUID: a.t.GUID, Until: a.impact.until.Add(h.skew)})
	w.at(a.impact.until, func() {
		if !a.stubborn {
			a.stop("deadline")
		}
	})
	a.hold()
}

// hold renews the lease each second, and tells what was hit.
func (a *attacker) hold() {
	w := a.t.w
	if a.gone() || a.impact == nil {
		return
	}
	if !a.frozen {
		active := slices.Contains(a.h.active(), a.impact)
		if !active && !(w.bug.pastEnd && a.stubborn) {
			a.revert("the lease had run out")
			return
		}
		a.impact.lease = w.now.Add(leaseOf)
		if a.impact.lease.After(a.impact.until) && !w.bug.pastEnd {
			a.impact.lease = a.impact.until
		}
		a.ticks++
		hits := uint64(0)
		if a.bites {
			hits = uint64(3 * a.ticks)
		}
		a.say(&history.AttackHits{GUID: a.t.GUID, Egress: hits})
		a.canaries("in force", "new", "established")
	}
	w.at(w.now.Add(time.Second), a.hold)
}

func (a *attacker) stop(why string) {
	if a.gone() {
		a.lost("the host went away")
		return
	}
	if a.frozen || a.stubborn && why != "told to" {
		return
	}
	if a.impact == nil { // not yet in force, or never
		a.say(&history.AttackRefused{Attack: a.t.Order.Attack, Reason: "ended before it began"})
		a.over(errors.New("ended before it began"))
		return
	}
	a.revert(why)
}

func (a *attacker) revert(why string) {
	if a.gone() {
		return
	}
	reverted := &history.AttackReverted{GUID: a.t.GUID, Why: why}
	if a.residue && slices.Contains(a.h.active(), a.impact) {
		reverted.Residue = []string{"a rule of nftables"}
	} else {
		a.h.impacts = slices.DeleteFunc(a.h.impacts, func(i *impact) bool { return i == a.impact })
	}
	a.say(reverted)
	a.canaries("after", "new")
	at := a.impact.applied.Add(a.h.skew)
	a.say(&history.AttackAccount{GUID: a.t.GUID, Attack: a.t.Order.Attack, Bit: a.bites, Reverted: len(reverted.Residue) == 0, InForceAt: &at})
	a.over(nil)
}
