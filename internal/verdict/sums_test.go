package verdict

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// What clients saw is summed up over all of them, and who sampled late is counted and not taken for an answer.
func TestWhatClientsSawIsSummedUp(t *testing.T) {
	late := func(at, lag float64) history.Event {
		return told(at, &history.Sample{Probe: "client", Scheduled: after(at), OK: true, Lag: seconds(lag), Took: seconds(.01)})
	}
	hole := func(at float64) history.Event {
		return told(at, &history.Sample{Probe: "client", Scheduled: after(at), Cause: history.CauseProber})
	}
	second := func(p *drill.Plan) {
		p.Clients = append(p.Clients, drill.Client{Name: "other", Every: seconds(1), Timeout: seconds(1)})
	}
	for name, test := range map[string]struct {
		change func(*drill.Plan)
		log    []history.Event
		want   *Clients
	}{
		"nobody":           {nil, nil, nil},
		"all good":         {nil, samplesOf("client", 0, 10, alwaysGood), &Clients{Samples: 10, Available: 100}},
		"some failed":      {nil, samplesOf("client", 0, 10, badFrom(2, 5)), &Clients{Samples: 10, Failed: 3, Available: 70}},
		"of two clients":   {second, append(samplesOf("client", 0, 10, badFrom(0, 10)), samplesOf("other", 0, 30, alwaysGood)...), &Clients{Samples: 40, Failed: 10, Available: 75}},
		"only holes":       {nil, []history.Event{hole(1), hole(2)}, &Clients{Late: 2}},
		"an interval late": {nil, []history.Event{late(1, 0), late(2, 1), late(3, 1.001)}, &Clients{Samples: 3, Late: 1, Available: 100}},
		"outside of the step": {nil, append(samplesOf("client", -40, -30, badFrom(-40, -30)), append(samplesOf("client", 0, 5, alwaysGood), samplesOf("client", 61, 70, badFrom(61, 70))...)...),
			&Clients{Samples: 5, Available: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			d := edge(test.change, test.log...)
			got := clientsOf(d.rec, d.span)
			if got != nil {
				if (got.Failed > 0) != (len(got.Outages) > 0) {
					t.Errorf("%d failed, in %d outages", got.Failed, len(got.Outages))
				}
				got.Outages = nil
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A client that looks each second, and gives up after one, covers a span when its first look is at most two seconds after the begin, and its
// last at most three before the end.
func TestSamplesCoverASpanToItsEdges(t *testing.T) {
	for _, test := range []struct {
		first, last float64
		says        string
	}{
		{0, 60, ""},
		{2, 57, ""},
		{2.001, 57, "did not look for the first 2.00 s"},
		{2, 56.999, "did not look for the last 3.00 s"},
	} {
		d := edge(nil, append(samplesOf("client", test.first, test.first+1, alwaysGood), samplesOf("client", test.last, test.last+1, alwaysGood)...)...)
		got := d.rec.edges("client", d.rec.samples["client"], after(0), after(60))
		if test.says == "" && got != "" || !strings.Contains(got, test.says) {
			t.Errorf("from %v to %v: %q, want %q", test.first, test.last, got, test.says)
		}
	}
	// A client that looks rarely may be later by its own interval.
	rare := func(p *drill.Plan) { p.Clients[0].Every = seconds(10) }
	for first, want := range map[float64]bool{20: true, 20.001: false} {
		d := edge(rare, samplesOf("client", first, first+1, alwaysGood)...)
		if got := d.rec.edges("client", d.rec.samples["client"], after(0), after(first+1)); (got == "") != want {
			t.Errorf("first look after %v s of each 10: %q", first, got)
		}
	}
	if d := edge(nil); d.rec.edges("client", nil, after(0), after(60)) != "" {
		t.Error("nothing at all is said twice")
	}
}
