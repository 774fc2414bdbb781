package simulation

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// watch is the part that stays on: real alarms and the real policy, fed by what reaches it.
type watch struct {
	w      *world
	rules  []*watched
	policy failover.Policy
	state  failover.State
	hosts  []*beat // in the order of the plan
	ailing map[string]bool
}

// watched is one alarm with its series.
type watched struct {
	series  *alarm.Series
	alarm   alarm.Alarm
	against bool // it speaks against its host
}

// beat is what is known of a host.
type beat struct {
	name, boot string
	last       time.Time
	up         bool
}

func newWatch(w *world, policy failover.Policy) *watch {
	watching := &watch{w: w, policy: policy, state: failover.Begin(policy, 1), ailing: map[string]bool{}}
	for _, a := range w.plan.Alarms {
		rule, err := alarm.Compile(a, *w.service.Metric(a.Metric))
		if err != nil {
			panic(err)
		}
		since := w.now.Add(-time.Minute) // it has been on for a while
		made := alarm.New(rule, since)
		made.State = alarm.OK
		watching.rules = append(watching.rules, &watched{series: alarm.NewSeries(rule, since), alarm: made})
	}
	for _, h := range w.hosts {
		watching.hosts = append(watching.hosts, &beat{name: h.name, boot: h.bootID(), last: w.now, up: true})
	}
	// What came before the run.
	for at := w.now.Add(-20 * time.Second); at.Before(w.now); at = at.Add(time.Second) {
		for _, known := range watching.rules {
			known.series.Add(at.Add(300*time.Millisecond), at, 1)
		}
	}
	return watching
}

// sample takes a measurement of a host in.
func (o *watch) sample(host, metric string, at time.Time, value float64, boot string) {
	for _, known := range o.rules {
		if known.alarm.Rule.Host == host && known.alarm.Rule.Metric == metric {
			known.series.Add(o.w.now, at, value)
		}
	}
	for _, known := range o.hosts {
		if known.name != host || at.Before(known.last) {
			continue
		}
		known.last = at
		if !known.up || known.boot != boot {
			known.up, known.boot = true, boot
			o.tell(&history.Host{Host: host, Up: true, BootID: boot})
		}
	}
}

// live evaluates each second, and loses the conductor at times.
func (o *watch) live() {
	o.w.every(time.Second, func() {
		for _, known := range o.hosts {
			if known.up && o.w.now.Sub(known.last) > 5*time.Second {
				known.up = false
				o.tell(&history.Host{Host: known.name, Detail: "no heartbeat"})
			}
		}
		for _, known := range o.rules {
			var change *alarm.Change
			known.alarm, change = alarm.Step(known.alarm, o.w.now, known.series.Window(o.w.now))
			if change != nil {
				known.against = failover.Signal(known.against, string(change.To))
				o.tell(&history.Alarm{Name: change.Name, Host: change.Host, From: string(change.From), To: string(change.To), Reason: change.Reason})
			}
		}
		if next, changed := failover.Decide(o.policy, o.state, o.unhealthy(), o.w.now); changed {
			o.move(next)
		} else {
			o.state = next
		}
		if o.w.linked && o.w.chance(o.w.temper.blind) {
			o.w.linked = false
			o.w.hear(history.New(o.w.now, "ci", &history.Host{Host: guard.WatchHost, Detail: "connection lost"}))
			o.w.after(time.Second, 10*time.Second, func() { o.w.linked = true; o.w.tellWatch() })
		}
	})
}

// unhealthy are the hosts that an alarm speaks against.
func (o *watch) unhealthy() failover.Unhealthy {
	ill := failover.Unhealthy{}
	for _, known := range o.rules {
		if known.against {
			ill[known.alarm.Rule.Host] = known.alarm.Rule.Name
		}
	}
	return ill
}

// move carries a decision to the name servers, each in its own time.
func (o *watch) move(next failover.State) {
	o.state = next
	answer := &history.Answer{Name: o.policy.Name, Environment: next.Active, Serial: next.Serial, Decided: true, Reason: next.Reason}
	for _, address := range next.Addresses {
		answer.Addresses = append(answer.Addresses, address.String())
	}
	o.tell(answer)
	for _, s := range o.w.servers {
		most := 200 * time.Millisecond
		if o.w.chance(o.w.temper.slowDNS) {
			most = 15 * time.Second
		}
		o.w.after(20*time.Millisecond, most, func() {
			if next.Serial >= s.serial {
				s.serial, s.served = next.Serial, next.Addresses
			}
		})
	}
}

// tell sends something to the conductor over one connection: in order, or not at all.
func (o *watch) tell(fact history.Fact) {
	w := o.w
	if !w.linked || w.over {
		return
	}
	arrives := w.between(time.Millisecond, 100*time.Millisecond)
	if arrives.Before(w.heard) {
		arrives = w.heard
	}
	w.heard = arrives
	event := history.New(w.now, "watch", fact)
	w.at(arrives, func() {
		if w.linked {
			w.hear(event)
		}
	})
}

// tellWatch says all that the watch knows, as it does to whoever asks anew.
func (w *world) tellWatch() {
	w.hear(history.New(w.now, "ci", &history.Host{Host: guard.WatchHost, Up: true}))
	for _, known := range w.watch.hosts {
		w.hear(history.New(w.now, "watch", &history.Host{Host: known.name, Up: known.up, BootID: known.boot}))
	}
	for _, known := range w.watch.rules {
		w.hear(history.New(w.now, "watch", &history.Alarm{Name: known.alarm.Rule.Name, Host: known.alarm.Rule.Host, To: string(known.alarm.State)}))
	}
}

// nameServer answers for the service.
type nameServer struct {
	w      *world
	name   string
	served []netip.Addr
	serial uint64
}

// live has the conductor's witness ask it each second.
func (s *nameServer) live() {
	ttl := drill.Seconds(5 * time.Second)
	s.w.every(time.Second, func() {
		most := 20 * time.Millisecond
		if s.w.chance(s.w.temper.slowDNS) {
			most = 3 * time.Second
		}
		s.w.after(time.Millisecond, most, func() {
			answer := &history.Answer{Name: s.w.plan.Failover[0].Name, Server: s.name, TTL: &ttl}
			if most > 2*time.Second && s.w.chance(0.3) {
				answer.Error = "i/o timeout"
			} else {
				for _, address := range s.served {
					answer.Addresses = append(answer.Addresses, address.String())
				}
			}
			s.w.hear(history.New(s.w.now, "ci", answer))
		})
	})
}

// client keeps an answer for its TTL, and asks one of the hosts in it.
type client struct {
	answer []netip.Addr
	until  time.Time
}

func (c *client) live(w *world) {
	random := rand.New(rand.NewPCG(w.seed, 2))
	w.every(500*time.Millisecond, func() {
		if !w.now.Before(c.until) {
			c.answer, c.until = w.servers[random.IntN(len(w.servers))].served, w.now.Add(5*time.Second)
		}
		address := c.answer[random.IntN(len(c.answer))]
		h := w.hosts[slices.IndexFunc(w.hosts, func(h *host) bool { return w.address(h.name) == address })]
		sample := &history.Sample{Probe: "client", Scheduled: w.now, OK: h.reachesDB(), Address: address.String(), Took: drill.Seconds(5 * time.Millisecond)}
		if !sample.OK {
			sample.Cause, sample.Took = history.CauseTimeout, drill.Seconds(time.Second)
		}
		w.at(w.now.Add(sample.Took.Duration()), func() { w.hear(history.New(w.now, "ci", sample)) })
	})
}

func (w *world) address(host string) netip.Addr {
	for _, environment := range w.plan.Environments {
		for _, known := range environment.Hosts {
			if known.Name == host {
				return known.Address
			}
		}
	}
	return netip.Addr{}
}
