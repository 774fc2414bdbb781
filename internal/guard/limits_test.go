package guard

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// A look counts for as long as a slow deployment takes, and not for longer. The limit is written out: it is a promise, not a constant.
func TestALookAtAHostCountsForFiveMinutes(t *testing.T) {
	for ago, counts := range map[time.Duration]bool{0: true, 4 * time.Minute: true, 5 * time.Minute: true, 5*time.Minute + 1: false, time.Hour: false} {
		seen := func(release Release) *World {
			s := allWell()
			for _, host := range []string{"green-1", "green-2"} {
				release.At = moment.Add(-ago)
				s.release(host, release)
			}
			return s.world()
		}
		healthy := seen(Release{Name: "r1", Healthy: true})
		for what, permit := range map[string]history.Permit{
			"a drill":                Admit(healthy, drillGreen, moment),
			"the way of the answer":  AdmitBack(healthy, "green", false, moment),
			"the way of the release": AdmitBack(healthy, "green", true, moment),
		} {
			if permit.Granted != counts || !counts && !strings.Contains(permit.Reason, "is not known") {
				t.Errorf("%s after a look %s ago: %+v", what, ago, permit)
			}
		}
		// Where nothing was ever published there is nothing to lose, which must have been seen lately, too.
		first := Admit(seen(Release{}), deployGreen, moment)
		if said := first.Reason == "green has no release yet"; said != counts {
			t.Errorf("the first release after a look %s ago: %+v", ago, first)
		}
	}
}

// Who is refused reads what to do about it.
func TestARefusalForAMovedAnswerSaysHowToGoOn(t *testing.T) {
	for _, proven := range []bool{false, true} {
		s := allWell()
		s.answer("ns-1", "10.0.0.2")
		s.answer("ns-2", "10.0.0.2")
		want := "make a new plan: run the command again"
		if proven {
			s.plan.Proven = []drill.ProvenStep{{Name: "deploy to green"}}
			want = "move the answer where it was: firedrill rollback blue, then go on: firedrill pipeline --resume"
		}
		if permit := Admit(s.world(), drillGreen, moment); permit.Granted || permit.Cure != want {
			t.Errorf("proven before: %t: %+v", proven, permit)
		}
	}
}

// Figures in what stops a drill are read at night: with one digit after the point.
func TestWhatStopsADrillIsToldInTenthsOfASecond(t *testing.T) {
	s := allWell()
	s.without(noSamples)
	s.served(0, 11*time.Second, false)
	if _, _, detail := MustStop(s.world(), drillGreen, begun, moment.Add(34*time.Millisecond)); detail != "client for 11s of 10s allowed" {
		t.Errorf("unserved: %q", detail)
	}
	w, since, now := burning(levelOf(), 60*time.Second, spanFails(1, 27))
	if _, detail := w.overspent(since, now); detail != "c was unserved for 26s of 25.92s that one drill may cost" {
		t.Errorf("overspent: %q", detail)
	}
	w, since, now = burning(levelOf(), 5*time.Second, spanFails(0, 0))
	if _, detail := w.overspent(since, now.Add(4*time.Second+34*time.Millisecond)); detail != "nothing was heard of c for 3.1s" {
		t.Errorf("silent: %q", detail)
	}
	w.plan.Clients[0].Every = drill.Seconds(130 * time.Millisecond) // so that what was unserved is no whole tenth
	w.samples["c"] = nil
	for at := since; at.Before(now); at = at.Add(130 * time.Millisecond) {
		w.Fold(history.New(at, "c", &history.Sample{Probe: "c", Scheduled: at, Cause: history.CauseTimeout}))
	}
	w.plan.Objectives.Level.Drill = 0.1
	if _, detail := w.overspent(since, now); detail != "c was unserved for 5.1s of 2.592s that one drill may cost" {
		t.Errorf("overspent: %q", detail)
	}
}

// A client that samples rarely is not given up while its next samples may still come; one that samples often has two seconds.
func TestAClientIsGivenUpAfterThreeSamples(t *testing.T) {
	for _, row := range []struct {
		every, silent time.Duration // silent counts from when its last sample must have ended
		gone          bool
	}{
		{100 * time.Millisecond, 2 * time.Second, false},
		{100 * time.Millisecond, 2*time.Second + 1, true},
		{2 * time.Second, 6 * time.Second, false},
		{2 * time.Second, 6*time.Second + 1, true},
	} {
		w, since, _ := burning(levelOf(), 0, spanFails(0, 0))
		w.plan.Clients[0].Every = drill.Seconds(row.every)
		w.Fold(history.New(since, "c", &history.Sample{Probe: "c", Scheduled: since, OK: true}))
		now := since.Add(row.silent + time.Second)
		if condition, detail := w.overspent(since, now); (condition == "clients are not measured") != row.gone {
			t.Errorf("every %s, silent for %s: %q %q", row.every, row.silent, condition, detail)
		}
		client := w.plan.Clients[0]
		if detail := w.silent(client, since, now); (detail != "") != row.gone {
			t.Errorf("stop_when: every %s, silent for %s: %q", row.every, row.silent, detail)
		}
	}
}

// The rate at which a budget burns is that of the samples of the window, the first one too, without those that may be under way; and what is just
// allowed is allowed.
func TestABudgetBurnsAtTheRateOfItsWindow(t *testing.T) {
	now := moment
	world := func(level *drill.ServiceLevel, bad int) *World {
		w := NewWorld(drill.Plan{Objectives: drill.Objectives{Level: level}, Clients: []drill.Client{{Name: "c", Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(time.Second)}}})
		for i := range 29 { // from 2.9 s ago on
			at := now.Add(time.Duration(i-29) * 100 * time.Millisecond)
			sample := &history.Sample{Probe: "c", Scheduled: at, OK: i >= bad}
			if !sample.OK {
				sample.Cause = history.CauseTimeout
			}
			w.Fold(history.New(at, "c", sample))
		}
		return w
	}
	level := &drill.ServiceLevel{Target: 99, Window: drill.Seconds(1000 * time.Second), Drill: 100}
	for bad, want := range map[int]float64{0: 0, 1: 5, 10: 50, 20: 100} { // of the 20 samples that are at least a second old
		w := world(level, bad)
		if got := w.burnRate(w.plan.Clients[0], now, 2*time.Second); got != want {
			t.Errorf("%d of 20 failed: %v times as fast, want %v", bad, got, want)
		}
	}
	for rate, stops := range map[float64]bool{50: false, 49.9: true} {
		burning := *level
		burning.Burn = []drill.BurnRule{{Rate: rate, Long: drill.Seconds(2 * time.Second), Short: drill.Seconds(2 * time.Second)}}
		if condition, _ := world(&burning, 10).overspent(now.Add(-time.Minute), now); (condition == "the error budget burns too fast") != stops {
			t.Errorf("50 times as fast, and %v are allowed: %q", rate, condition)
		}
	}
	costly := *level
	costly.Drill = 10 // 10 s in 1000 s, a tenth of it a drill: ten samples
	for bad, stops := range map[int]bool{9: false, 10: false, 11: true} {
		if condition, detail := world(&costly, bad).overspent(now.Add(-time.Minute), now); (condition == "the drill's error budget is spent") != stops {
			t.Errorf("%d samples failed, and ten may: %q %q", bad, condition, detail)
		}
	}
}

// Both windows of a rule must burn faster than it allows: a short one that does so just now, and a long one that has for a while.
func TestABudgetBurnsTooFastOnlyInBothWindows(t *testing.T) {
	for name, row := range map[string]struct {
		bad   func(ago float64) bool
		stops bool
	}{
		"both":                           {func(ago float64) bool { return true }, true},
		"the short one just as allowed":  {func(ago float64) bool { return ago > 2.95 || ago < 1.95 }, false},
		"the long one just as allowed":   {func(ago float64) bool { return ago < 2.95 }, false},
		"the short one by one more":      {func(ago float64) bool { return ago > 2.95 || ago < 2.05 }, true},
		"the long one, and well by now":  {func(ago float64) bool { return ago > 2.05 }, false},
		"a good one that is not old yet": {func(ago float64) bool { return ago > .95 }, true},
	} {
		level := &drill.ServiceLevel{Target: 99, Window: drill.Seconds(time.Hour), Drill: 100, Burn: []drill.BurnRule{{Rate: 50, Long: drill.Seconds(4 * time.Second), Short: drill.Seconds(2 * time.Second)}}}
		w := NewWorld(drill.Plan{Objectives: drill.Objectives{Level: level}, Clients: []drill.Client{{Name: "c", Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(time.Second)}}})
		for i := 49; i > 0; i-- { // tenths of a second ago: a window of 4 s holds 40 that are old enough, one of 2 s holds 20
			at := moment.Add(-time.Duration(i) * 100 * time.Millisecond)
			sample := &history.Sample{Probe: "c", Scheduled: at, OK: i < 10 || !row.bad(float64(i)/10)}
			if !sample.OK {
				sample.Cause = history.CauseTimeout
			}
			w.Fold(history.New(at, "c", sample))
		}
		if condition, detail := w.overspent(moment.Add(-time.Minute), moment); (condition == "the error budget burns too fast") != row.stops {
			t.Errorf("%s: %q %q", name, condition, detail)
		}
	}
}

// A window of which less than half is known has no rate: nothing is stopped for what nobody saw.
func TestAWindowThatIsHalfKnownHasARate(t *testing.T) {
	for count, want := range map[int]float64{9: 0, 10: 100, 20: 100} {
		w := NewWorld(drill.Plan{Objectives: drill.Objectives{Level: &drill.ServiceLevel{Target: 99}}, Clients: []drill.Client{{Name: "c", Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(time.Second)}}})
		for i := range count {
			at := moment.Add(-time.Duration(10+i) * 100 * time.Millisecond)
			w.Fold(history.New(at, "c", &history.Sample{Probe: "c", Scheduled: at, Cause: history.CauseTimeout}))
		}
		if got := w.burnRate(w.plan.Clients[0], moment, 2*time.Second); got != want {
			t.Errorf("%d of 20 samples, all failed: %v times as fast, want %v", count, got, want)
		}
	}
}
