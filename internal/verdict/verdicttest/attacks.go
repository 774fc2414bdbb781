package verdicttest

import (
	"fmt"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func (s *story) alarm(when float64, name, host, from, to, reason string) {
	s.say(when, "watch", &history.Alarm{Name: name, Host: host, From: from, To: to, Reason: reason})
}

// blackhole cuts green off until all is decided and returns when it was taken back.
func (s *story) blackhole(step drill.Step) float64 {
	begin, guid := s.now, fmt.Sprintf("0367cfe2-f9fc-41e8-acea-0242db4d118%d", s.step)
	active := step.Live == step.Environment
	length := 8.4
	if active {
		length = 9.6
	}
	// What is awaited in vain is awaited for as long as is allowed, and a little longer.
	if s.twist == DeadAlarm || s.twist == FrozenDNS && active || s.twist == DeadStandby && active {
		length = 18.2
	}
	s.say(begin-0.2, greenHost, &history.AttackPlanned{
		GUID: guid, Attack: "blackhole", Host: greenHost, Length: step.Drill.Attack.Length, Remains: "nothing",
		Steps: []string{"drop egress to and ingress from 5 addresses", "spare 10.77.0.10"},
	})
	for _, target := range []string{cdnTarget, dbTarget} {
		s.canary(begin-0.15, guid, target, "new", "before", true)
	}
	s.say(begin, greenHost, &history.AttackInForce{GUID: guid, Until: at(begin + step.Drill.Attack.Length.Duration().Seconds())})
	s.targets(begin+0.01, guid)
	s.bites(begin, begin+length, guid)
	end := begin + length
	residue := []string(nil)
	if s.twist == Residue {
		residue = []string{"table inet firedrill_0367cfe2"}
	}
	for _, target := range []string{cdnTarget, dbTarget} {
		s.canary(end+0.03, guid, target, "new", "after", true)
	}
	s.say(end+0.04, greenHost, &history.AttackReverted{GUID: guid, Why: "every expectation is decided", Residue: residue})
	from, last, over := at(begin), at(end-0.2), at(end)
	s.say(end+0.05, greenHost, &history.AttackAccount{
		GUID: guid, Attack: "blackhole", Bit: s.twist != Toothless, Reverted: s.twist != Residue, InForceAt: &from, FirstHit: &from, LastHit: &last, EndedAt: &over, Packets: 64,
		Evidence: []string{"the kernel dropped packets in both directions"},
	})
	s.consequences(begin, end, active)
	return end + 0.04
}

func (s *story) canary(when float64, guid, target, flow, moment string, through bool) {
	address := "10.77.2.10:5432"
	if target == cdnTarget {
		address = "10.77.3.1:80"
	}
	s.say(when, greenHost, &history.AttackCanary{GUID: guid, Target: target, Address: address, Flow: flow, When: moment, Through: through})
}

// targets says what is cut. The addresses of the CDN change while the attack runs, and are only ever added.
func (s *story) targets(when float64, guid string) {
	say := func(when float64, address, name, verb string) {
		for _, direction := range []string{"egress", "ingress"} {
			s.say(when, greenHost, &history.AttackTarget{GUID: guid, Address: address, Name: name, Verb: verb, Direction: direction})
		}
	}
	say(when, "10.77.0.10", "control.bookstore.example.test", "spare")
	say(when, "10.77.3.1", "cdn.bookstore.example.test", "drop")
	say(when, "10.77.3.2", "cdn.bookstore.example.test", "drop")
	say(when, "10.77.2.10", "db.bookstore.example.test", "drop")
	say(when+3.1, "10.77.3.3", "cdn.bookstore.example.test", "drop")
	say(when+6.1, "10.77.3.4", "cdn.bookstore.example.test", "drop")
}

func (s *story) bites(begin, end float64, guid string) {
	toothless := s.twist == Toothless
	for i := 1; begin+float64(i) < end; i++ {
		when := begin + float64(i)
		hits := &history.AttackHits{GUID: guid, Egress: uint64(7*i + i%3), Ingress: uint64(2 * i)}
		hits.Addresses = []history.AddressHits{
			{Address: "10.77.2.10", Name: "db.bookstore.example.test", Egress: uint64(4 * i), Ingress: uint64(i)},
			{Address: "10.77.3.1", Name: "cdn.bookstore.example.test", Egress: hits.Egress - uint64(4*i), Ingress: uint64(i)},
		}
		if toothless {
			hits = &history.AttackHits{GUID: guid}
		}
		s.say(when, greenHost, hits)
		for _, target := range []string{cdnTarget, dbTarget} {
			s.canary(when+0.02, guid, target, "new", "in force", toothless)
			if i >= 3 {
				s.canary(when+0.03, guid, target, "established", "in force", toothless)
			}
		}
	}
}

// consequences are the alarms, the answer and the clients of an environment that is cut off.
func (s *story) consequences(begin, end float64, active bool) {
	if s.twist == Toothless {
		return
	}
	raise := func(suffix string, when, clear float64) {
		if s.twist == DeadAlarm && suffix == "db" {
			return
		}
		name := greenHost + "-" + suffix + "-connectivity-failed"
		s.alarm(when, name, greenHost, history.AlarmOK, history.AlarmRaised,
			"Threshold Crossed: 2 out of the last 2 datapoints [0.0, 0.0] were less than the threshold (1.0) (minimum 2 datapoints for OK -> ALARM transition).")
		s.alarm(clear, name, greenHost, history.AlarmRaised, history.AlarmOK, "Threshold Crossed: 1 out of the last 2 datapoints [1.0] was not less than the threshold (1.0).")
	}
	raise("cdn", begin+4.14, end+3.1)
	raise("db", begin+4.31, end+3.3)
	if !active {
		return
	}
	lastFailure := end
	if s.twist != FrozenDNS {
		s.decide(begin+4.2, "blue", greenHost+"-cdn-connectivity-failed is raised")
	}
	s.samples = append(s.samples, broken{environment: "green", from: begin - 0.05, to: lastFailure, cause: history.CauseStatus})
	if s.twist == DeadStandby {
		s.samples = append(s.samples, broken{environment: "blue", from: begin + 1, to: 1e6, cause: history.CauseRefused})
	}
}

// shutdown takes the host of blue down and returns when it was up again.
func (s *story) shutdown() float64 {
	begin, guid := s.now, fmt.Sprintf("22cdba53-f9fd-41e8-8292-024230fbb3f%d", s.step)
	s.say(begin-0.2, blueHost, &history.AttackPlanned{GUID: guid, Attack: "shutdown", Host: blueHost, Remains: "one-way", Steps: []string{"reboot this host"}})
	s.say(begin, blueHost, &history.AttackInForce{GUID: guid, Until: at(begin)})
	from := at(begin)
	s.say(begin+0.01, blueHost, &history.AttackAccount{GUID: guid, Attack: "shutdown", Bit: true, InForceAt: &from, Evidence: []string{"the host accepted the order to go down"}})
	s.say(begin+0.6, "watch", &history.Host{Host: blueHost, Up: false, Detail: "the connection was lost and no heartbeat came"})
	name := blueHost + "-StatusCheckFailed"
	s.alarm(begin+3.21, name, blueHost, history.AlarmOK, history.AlarmRaised, "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as [Breaching].")
	for _, suffix := range []string{"cdn", "db"} {
		name := blueHost + "-" + suffix + "-connectivity-failed"
		s.alarm(begin+5.4, name, blueHost, history.AlarmOK, history.AlarmInsufficient, "Insufficient Data: 4 datapoints were unknown.")
		s.alarm(begin+9.9, name, blueHost, history.AlarmInsufficient, history.AlarmOK, "Threshold Crossed: 1 datapoint [1.0] was not less than the threshold (1.0).")
	}
	if s.twist != FrozenDNS {
		s.decide(begin+3.25, "green", name+" is raised")
	}
	s.boots++
	s.say(begin+7.8, "watch", &history.Host{Host: blueHost, Up: true, BootID: bootID(s.boots)})
	s.alarm(begin+8.9, name, blueHost, history.AlarmRaised, history.AlarmOK, "Threshold Crossed: 1 datapoint [0.0] was not greater than or equal to the threshold (1.0).")
	s.samples = append(s.samples, broken{environment: "blue", from: begin + 0.02, to: begin + 7.9, cause: history.CauseTimeout})
	s.now = begin + 7.9
	return begin + 7.8
}
