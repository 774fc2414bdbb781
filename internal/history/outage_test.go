package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
)

var outageEpoch = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// samplesOf draws samples a second apart: '.' good, 'x' bad, 'o' our own fault, ' ' missing.
func samplesOf(drawing string) []Sample {
	var samples []Sample
	for i, mark := range drawing {
		s := Sample{Scheduled: outageEpoch.Add(time.Duration(i) * time.Second)}
		switch mark {
		case ' ':
			continue
		case '.':
			s.OK = true
		case 'x':
			s.Cause = CauseTimeout
		case 'o':
			s.Cause = CauseProber
		}
		samples = append(samples, s)
	}
	return samples
}

func TestOutagesAreReadFromTheSchedule(t *testing.T) {
	for _, c := range []struct{ drawing, want string }{
		{"", "void: there are no samples"},
		{"ooo", "void: there are no samples"},
		{".....", ""},
		{"..x...", "2-3 ±1s"},
		{"..xxx...", "2-5 ±1s"},
		{"..xx..x...", "2-7 ±1s"},
		{"..x..x..x...", "2-9 ±1s"},
		{"..xx...x...", "2-4 ±1s, 7-8 ±1s"},
		{"xx...", "0-2 ±1s"},
		{"..xx", "2-3 ±1s open"},
		{"..xx..", "2-5 ±1s open"},
		{"..xo.x...", "2-6 ±1s"},
		{"..xxo...", "2-5 ±2s"},
		{".. xx...", "3-5 ±2s"},
		{"..xx   ...", "2-7 ±4s void: the prober did not look for 4s before 09:00:07.000"},
		{"..oo......", "void: the prober did not look for 3s before 09:00:04.000"},
	} {
		if got := readable(Outages(samplesOf(c.drawing), time.Second, 0)); got != c.want {
			t.Errorf("%q: %s; want %s", c.drawing, got, c.want)
		}
	}
}

func readable(m Measured) string {
	var parts []string
	for _, o := range m.Outages {
		text := fmt.Sprintf("%.0f-%.0f ±%v", o.Start.Sub(outageEpoch).Seconds(), o.End.Sub(outageEpoch).Seconds(), o.Error)
		if o.Open {
			text += " open"
		}
		parts = append(parts, text)
	}
	text := strings.Join(parts, ", ")
	if m.Void != "" {
		text = strings.TrimSpace(text + " void: " + m.Void)
	}
	return text
}

func TestOrderOfSamplesDoesNotMatter(t *testing.T) {
	samples := samplesOf("....xxxx...x.x....")
	want := Outages(samples, time.Second, 0)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		random.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
		if diff := cmp.Diff(want, Outages(samples, time.Second, 0)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestLateSendersVoidTheMeasurement(t *testing.T) {
	for _, c := range []struct {
		interval, lag time.Duration
		void          bool
	}{
		{10 * time.Millisecond, lateMin, false},
		{10 * time.Millisecond, lateMin + time.Millisecond, true},
		{2 * lateMin, 2 * lateMin, false},
		{2 * lateMin, 2*lateMin + time.Millisecond, true},
	} {
		var samples []Sample
		for i := range 5 {
			samples = append(samples, Sample{Scheduled: outageEpoch.Add(time.Duration(i) * c.interval), OK: true})
		}
		samples[2].Lag = drill.Seconds(c.lag)
		measured := Outages(samples, c.interval, 0)
		if (measured.Void != "") != c.void || measured.LagMax != drill.Seconds(c.lag) {
			t.Errorf("interval %v, lag %v: void %q, largest lag %v", c.interval, c.lag, measured.Void, measured.LagMax)
		}
	}
}

// trueOutage is how long the simulated service is silent.
const trueOutage = 7 * time.Second

// world is a service that is silent from down for trueOutage. A try that is sent then hangs until its timeout.
type world struct{ down time.Duration }

func (w world) serves(at time.Duration) bool { return at < w.down || at >= w.down+trueOutage }

// openLoop sends on schedule whatever hangs; lag delays each sending.
func (w world) openLoop(interval time.Duration, lag func() time.Duration) []Sample {
	var samples []Sample
	for at := time.Duration(0); at < 30*time.Second; at += interval {
		late := lag()
		s := Sample{Scheduled: outageEpoch.Add(at), Lag: drill.Seconds(late), OK: w.serves(at + late)}
		if !s.OK {
			s.Cause = CauseTimeout
		}
		samples = append(samples, s)
	}
	return samples
}

// closedLoop is the planted bug: it waits for each try, then for the interval. Scheduled is when it sent, or when it should have sent if
// honest about being late.
func (w world) closedLoop(interval, timeout time.Duration, honest bool) []Sample {
	var samples []Sample
	for at, i := time.Duration(0), 0; at < 30*time.Second; at, i = at+interval, i+1 {
		s := Sample{Scheduled: outageEpoch.Add(at), OK: w.serves(at)}
		if honest {
			scheduled := time.Duration(i) * interval
			s.Scheduled, s.Lag = outageEpoch.Add(scheduled), drill.Seconds(at-scheduled)
		}
		if !s.OK {
			s.Cause = CauseTimeout
			at += timeout
		}
		samples = append(samples, s)
	}
	return samples
}

// imprecise says what is wrong with a measurement of the true outage: void, not one outage, off by more than its own bound, or with a
// bound wider than one interval and the lag of both edges, which is all that an open loop needs.
func imprecise(measured Measured, interval time.Duration) string {
	if measured.Void != "" {
		return "void: " + measured.Void
	}
	if len(measured.Outages) != 1 {
		return fmt.Sprintf("%d outages", len(measured.Outages))
	}
	found := measured.Outages[0]
	if off := (found.Length.Duration() - trueOutage).Abs(); off > found.Error.Duration() {
		return fmt.Sprintf("off by %v, bound %v", off, found.Error)
	}
	if most := interval + 2*measured.LagMax.Duration(); found.Error.Duration() > most {
		return fmt.Sprintf("bound %v; an open loop has %v at most", found.Error, most)
	}
	return ""
}

var outageIntervals = []time.Duration{time.Second, 100 * time.Millisecond, 10 * time.Millisecond}

func TestTrueOutageIsMeasuredWithinTheBound(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 700))
	for _, interval := range outageIntervals {
		for _, lagMax := range []time.Duration{0, interval / 10, interval / 2} {
			for range 200 {
				w := world{down: 5*time.Second + time.Duration(random.Int64N(int64(2*time.Second)))}
				lag := func() time.Duration { return time.Duration(random.Int64N(int64(lagMax) + 1)) }
				if problem := imprecise(Outages(w.openLoop(interval, lag), interval, 0), interval); problem != "" {
					t.Fatalf("interval %v, lag up to %v, down at %v: %s", interval, lagMax, w.down, problem)
				}
			}
		}
	}
}

func TestClosedLoopIsCaught(t *testing.T) {
	for _, interval := range []time.Duration{100 * time.Millisecond, 10 * time.Millisecond} {
		for _, timeout := range []time.Duration{time.Second, 5 * time.Second} {
			for _, honest := range []bool{false, true} {
				w := world{down: 5300 * time.Millisecond}
				if problem := imprecise(Outages(w.closedLoop(interval, timeout, honest), interval, 0), interval); problem == "" {
					t.Errorf("interval %v, timeout %v, honest %v: the planted closed loop passes for a measurement", interval, timeout, honest)
				}
			}
		}
	}
}

// byEnd is a planted bug: it files samples under the moment at which they ended, as a naive log does.
func byEnd(samples []Sample, took time.Duration) []Sample {
	moved := slices.Clone(samples)
	for i := range moved {
		if !moved[i].OK {
			moved[i].Scheduled = moved[i].Scheduled.Add(took)
		}
	}
	return moved
}

func TestSamplesFiledUnderTheirEndAreCaught(t *testing.T) {
	w := world{down: 5300 * time.Millisecond}
	samples := byEnd(w.openLoop(100*time.Millisecond, func() time.Duration { return 0 }), time.Second)
	if problem := imprecise(Outages(samples, 100*time.Millisecond, 0), 100*time.Millisecond); problem == "" {
		t.Error("samples filed under the moment of their end pass for a measurement")
	}
}

func TestUnknownIntervalIsVoid(t *testing.T) {
	if measured := Outages(samplesOf("..x..."), 0, 0); measured.Void == "" {
		t.Error("an interval of 0 measures something")
	}
}
