package guard

import (
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestAttackStopsWhenTheUserSaysSo(t *testing.T) {
	const line, file = "corrupt", "/var/log/shop.log"
	with := func(stop drill.StopWhen, change func(*scene)) func(*scene) {
		return func(s *scene) {
			stop.Text = "STOP"
			s.plan.Objectives.RTO = 0
			s.plan.Probes = []drill.Probe{{Name: "orders", Every: drill.Seconds(time.Second), Timeout: drill.Seconds(time.Second)}}
			s.plan.Alarms = append(s.plan.Alarms, drill.Alarm{Name: "checkout"})
			s.plan.Steps[drillGreen].Drill.StopWhen = []drill.StopWhen{stop}
			s.alarm("checkout", history.AlarmOK)
			s.add(begun.Add(-time.Minute), "ci", &history.Followed{Host: "green-1", File: file, Up: true})
			for at := moment.Add(-40 * time.Second); at.Before(moment); at = at.Add(time.Second) {
				s.add(at, "ci", &history.Sample{Probe: "orders", Scheduled: at, OK: true})
			}
			if change != nil {
				change(s)
			}
		}
	}
	failing := func(span time.Duration) func(*scene) {
		return func(s *scene) { s.without(noSamples); s.served(0, span, false) }
	}
	orders := func(from, to time.Duration) func(*scene) {
		return func(s *scene) {
			s.without(func(fact history.Fact) bool {
				sample, is := fact.(*history.Sample)
				return is && sample.Probe == "orders" && !sample.Scheduled.Before(moment.Add(-from)) && sample.Scheduled.Before(moment.Add(-to))
			})
			for at := moment.Add(-from); at.Before(moment.Add(-to)); at = at.Add(time.Second) {
				s.add(at, "ci", &history.Sample{Probe: "orders", Scheduled: at, Cause: history.CauseExit})
			}
		}
	}
	alarm := drill.StopWhen{Kind: drill.StopAlarm, Alarm: "checkout"}
	probe := drill.StopWhen{Kind: drill.StopProbe, Probe: "orders", For: drill.Seconds(3 * time.Second)}
	clients := drill.StopWhen{Kind: drill.StopClients, For: drill.Seconds(2 * time.Second)}
	share := drill.StopWhen{Kind: drill.StopAvailable, Value: 90, For: drill.Seconds(10 * time.Second)}
	lines := drill.StopWhen{Kind: drill.StopLine, Host: "green-1", File: file, Line: line}
	wrote := func(at time.Time) func(*scene) {
		return func(s *scene) {
			s.add(at, "ci", &history.Line{Host: "green-1", File: file, Pattern: line, Text: "corrupt page"})
		}
	}
	rows := []row{
		{"alarm raised", with(alarm, func(s *scene) { s.alarm("checkout", history.AlarmRaised) }), "STOP checkout is ALARM"},
		{"alarm without data", with(alarm, func(s *scene) { s.alarm("checkout", history.AlarmInsufficient) }), "STOP checkout is INSUFFICIENT_DATA"},
		{"fine: alarm OK", with(alarm, nil), ""},
		{"probe fails", with(probe, orders(4*time.Second, 0)), "STOP orders for 4s"},
		{"fine: probe failed, and is good again", with(probe, orders(6*time.Second, time.Second)), ""},
		{"fine: probe fails for less", with(probe, orders(2*time.Second, 0)), ""},
		{"probe silent", with(probe, func(s *scene) {
			s.without(func(fact history.Fact) bool {
				sample, is := fact.(*history.Sample)
				return is && sample.Probe == "orders" && sample.Scheduled.After(moment.Add(-8*time.Second))
			})
		}), "STOP nothing was heard of orders"},
		{"probe silent, told in tenths", with(probe, func(s *scene) {
			s.without(func(fact history.Fact) bool {
				sample, is := fact.(*history.Sample)
				return is && sample.Probe == "orders"
			})
			s.add(moment.Add(-8030*time.Millisecond), "ci", &history.Sample{Probe: "orders", Scheduled: moment.Add(-8030 * time.Millisecond), OK: true})
		}), "STOP nothing was heard of orders for 7s"},
		{"clients fail for as long as is allowed", with(clients, failing(2*time.Second)), "STOP client for 2s"},
		{"clients fail, told in tenths", with(clients, failing(2530*time.Millisecond)), "STOP client for 2.5s"},
		{"clients fail", with(clients, failing(2500*time.Millisecond)), "STOP client for 2.5s"},
		{"fine: clients fail for less", with(clients, failing(1500*time.Millisecond)), ""},
		{"availability low", with(share, failing(1200*time.Millisecond)), "STOP client: 12 of the 100 tries"},
		{"fine: availability just enough", with(share, failing(time.Second)), ""},
		{"a line written", with(lines, wrote(moment)), "STOP it was written"},
		{"fine: a line written before", with(lines, wrote(begun.Add(-time.Second))), ""},
		{"the file not read", with(lines, func(s *scene) {
			s.add(moment, "ci", &history.Followed{Host: "green-1", File: file, Detail: "gone"})
		}), "STOP /var/log/shop.log on green-1 cannot be read"},
		{"a kind of a later version", with(drill.StopWhen{Kind: "moon"}, nil), "STOP this version cannot watch moon"},
	}
	twins := []twin{
		{"asks for no condition", "alarm raised", func(w *World) { w.plan.Steps[drillGreen].Drill.StopWhen = nil }},
		{"takes missing data for good", "alarm without data", func(w *World) { w.alarms["checkout"] = history.AlarmOK }},
		{"takes a silent probe for a good one", "probe silent", func(w *World) {
			w.samples["orders"] = append(w.samples["orders"], history.Sample{Probe: "orders", Scheduled: moment, OK: true})
		}},
		{"remembers lines of before", "fine: a line written before", func(w *World) {
			for key := range w.lines {
				w.lines[key] = moment
			}
		}},
		{"needs no reader", "the file not read", func(w *World) {
			for key := range w.followed {
				w.followed[key] = true
			}
		}},
		{"never looks at clients", "clients fail", needsNoSamples},
		{"forgets good samples", "fine: probe failed, and is good again", func(w *World) {
			for i := range w.samples["orders"] {
				w.samples["orders"][i].OK = false
			}
		}},
	}
	checkTable(t, rows, twins, stopReason(t, drillGreen))
}
