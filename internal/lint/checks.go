package lint

import (
	"fmt"
	"net/netip"
	"time"
)

// deepMax is how far calculated checks are followed into others.
const deepMax = 8

// check looks at a health check that a record uses, and at those that it counts.
func (l *zoneLinter) check(record Record, id string, deep int) {
	where := "health check " + id
	check, there := l.zone.Checks[id]
	if !there {
		l.add(Error, "check-missing", record.String(), "Attach one that is there.", "its health check %s is not there", id)
		return
	}
	if !l.ours[id] {
		if check.Disabled {
			l.add(Error, "check-disabled", where, "Enable it.", "it is disabled, which means healthy%s, whatever happens", map[bool]string{true: ", and inverted unhealthy"}[check.Inverted])
		}
		if check.Inverted {
			l.add(Error, "check-inverted", where, "Take the inversion back: it tests DNS and not the detection.", "it is inverted: healthy endpoints count as dead, and dead ones as healthy")
		}
	}
	switch check.Kind {
	case kindSum:
		switch {
		case check.Threshold == 0:
			l.add(Error, "calculated-always-healthy", where, "Write a threshold of 1 or more.", "its threshold is 0: it is always healthy")
		case check.Threshold > len(check.Children):
			l.add(Error, "calculated-never-healthy", where, "Write a threshold of at most the number of its checks.", "its threshold is %d and it counts %d checks: it is never healthy", check.Threshold, len(check.Children))
		}
		for _, child := range check.Children {
			if deep < deepMax {
				l.check(record, child, deep+1)
			}
		}
	case kindAlarm:
		l.alarmCheck(where, check)
	case kindControl:
	default:
		l.endpointCheck(record, where, check)
	}
}

func (l *zoneLinter) endpointCheck(record Record, where string, check Check) {
	if address, err := netip.ParseAddr(check.Address); err == nil && l.zone.Public && (address.IsPrivate() || address.IsLoopback() || address.IsLinkLocalUnicast()) {
		l.add(Error, "check-private", where, "Check a public address, or an alarm, or turn a routing control.", "%s is private: Amazon's checkers cannot reach it", address)
	}
	slowest := time.Duration(check.Interval*check.Failures+connectMax) * time.Second
	ttl := time.Duration(record.TTL) * time.Second
	switch {
	case l.rto > 0 && slowest+ttl > l.rto:
		l.add(Error, "check-too-slow", where, "Use an interval of 10 s (a new check: it cannot be changed) and a lower failure threshold and TTL.",
			"a dead endpoint is noticed after up to %s (%d tries, %d s apart), and clients follow within the TTL of %s: the objective of %s cannot be met", slowest, check.Failures, check.Interval, ttl, l.rto)
	case check.Interval >= checkersEvery:
		l.add(Warning, "check-slow", where, "Make one with an interval of 10 s: it cannot be changed.", "it tries every %d s: a dead endpoint is noticed after up to %s", check.Interval, slowest)
	}
}

// alarmCheck looks at a check on an alarm: it copies a part of the alarm, once, and looks at the data by itself.
func (l *zoneLinter) alarmCheck(where string, check Check) {
	if check.Insufficient != "Unhealthy" {
		l.add(Error, "silence-is-healthy", where, "Set InsufficientDataHealthStatus to Unhealthy.",
			"when a host dies its data ends, and without data this check is %s", map[string]string{"Healthy": "healthy", "LastKnownStatus": "what it was before: healthy"}[check.Insufficient])
	}
	alarm := check.Alarm
	if alarm == nil {
		l.add(Error, "alarm-gone", where, "Make the alarm again and update the check, or take another check.", "the alarm %s is not there any more; the check goes on with the copy that it made", check.AlarmName)
		return
	}
	lost := func(rule, format string, args ...any) {
		l.add(Error, rule, where, "Choose settings that a check copies, or let the watch decide (provider route53 with controls or checks).",
			"of the alarm %s the check does not copy that %s: it decides otherwise than the alarm", check.AlarmName, fmt.Sprintf(format, args...))
	}
	if alarm.Datapoints > 0 && alarm.Datapoints < alarm.Periods {
		lost("alarm-m-of-n", "%d of %d datapoints are enough", alarm.Datapoints, alarm.Periods)
	}
	if alarm.Extended != "" {
		lost("alarm-extended", "its statistic is %s", alarm.Extended)
	}
	if alarm.Math {
		lost("alarm-math", "it is on an expression")
	}
	if alarm.Period > 0 && alarm.Period < metricMin {
		lost("alarm-high-resolution", "its period is %d s", alarm.Period)
	}
	if alarm.Missing != "" && alarm.Missing != "missing" {
		l.add(Warning, "alarm-missing-data", where, "Say it in InsufficientDataHealthStatus.", "the alarm %s treats missing data as %s, which the check does not copy", check.AlarmName, alarm.Missing)
	}
	if check.Copied != nil && check.Copied.copyable() != alarm.copyable() {
		l.add(Error, "alarm-changed", where, "Update the check (any setting of it): that copies the alarm anew.", "the alarm %s was changed after the check had copied it; the check still does the old", check.AlarmName)
	}
}
