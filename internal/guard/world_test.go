package guard

import (
	"testing"
	"time"

	"firedrill/internal/history"
)

func TestLiveIsKnownOnlyWhenAllServersAgree(t *testing.T) {
	if got := allWell().world().Live(); got != "blue" {
		t.Errorf("live is %q", got)
	}
	for _, r := range answerRows {
		s := allWell()
		r.change(s)
		if got := s.world().Live(); got != "" {
			t.Errorf("%s: live is %q", r.name, got)
		}
	}
	s := allWell()
	s.answer("ns-1", "10.0.0.3", "10.0.0.2")
	s.answer("ns-2", "10.0.0.2")
	if got := s.world().Live(); got != "green" {
		t.Errorf("live is %q", got)
	}
}

func TestEnvironmentOfAnAddress(t *testing.T) {
	for address, want := range map[string]string{"10.0.0.1": "blue", "10.0.0.3": "green", "10.0.0.9": "", "": "", "10.0.0.1 ": ""} {
		if got := EnvironmentOf(shop(), address); got != want {
			t.Errorf("%q belongs to %q, not %q", address, got, want)
		}
	}
}

func TestWorldKeepsSamplesInOrderAndWithinItsBound(t *testing.T) {
	s := allWell()
	s.without(noSamples)
	// Pairs end in the other order than they were scheduled in.
	for i := range 2 * samplesKept {
		at := moment.Add(time.Duration(i) * 2 * time.Millisecond)
		s.sample(at.Add(time.Millisecond), true)
		s.sample(at, true)
	}
	kept := s.world().samples["client"]
	if len(kept) < samplesKept || len(kept) > 2*samplesKept {
		t.Errorf("%d samples kept, not %d to twice that", len(kept), samplesKept)
	}
	for i := 1; i < len(kept); i++ {
		if kept[i].Scheduled.Before(kept[i-1].Scheduled) {
			t.Fatalf("sample %d was scheduled before the one before it", i)
		}
	}
	if newest := moment.Add((4*samplesKept - 1) * time.Millisecond); !kept[len(kept)-1].Scheduled.Equal(newest) {
		t.Errorf("the newest sample is of %s, not %s", kept[len(kept)-1].Scheduled, newest)
	}
}

func TestWorldTakesNoNoticeOfWhatItDoesNotKnow(t *testing.T) {
	s := allWell()
	for _, fact := range []history.Fact{
		&history.Unknown{Name: "weather"}, &history.Note{Text: "all hosts are down"}, &history.Sample{Probe: "stranger", Scheduled: moment},
		&history.AttackReverted{GUID: "never heard of"}, &history.Permit{Granted: true},
	} {
		s.add(moment, "elsewhere", fact)
	}
	if ok, why := Steady(s.world(), "blue", moment, 3*time.Second); !ok {
		t.Error(why)
	}
}
