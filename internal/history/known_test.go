package history

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"firedrill/internal/drill"
)

// sevenSeconds plays an outage of exactly 7.00 s as an open loop sees it: each try fails after the timeout when it is sent while the service
// is away, and one that waits when it comes back is answered then.
func sevenSeconds(random *rand.Rand, every time.Duration) []Sample {
	begin := time.Date(2026, 11, 28, 20, 0, 0, 0, time.UTC)
	fell := begin.Add(10*time.Second + time.Duration(random.Int64N(int64(time.Second))))
	back := fell.Add(7 * time.Second)
	const timeout = time.Second
	var samples []Sample
	for at := begin.Add(time.Duration(random.Int64N(int64(every)))); at.Before(begin.Add(30 * time.Second)); at = at.Add(every) {
		lag := time.Duration(random.Int64N(int64(5 * time.Millisecond)))
		sent, took, ok := at.Add(lag), time.Duration(random.Int64N(int64(3*time.Millisecond))), true
		if !sent.Before(fell) && sent.Before(back) {
			if wait := back.Sub(sent); wait < timeout {
				took += wait
			} else {
				took, ok = timeout, false
			}
		}
		s := Sample{Probe: "client", Scheduled: at, Lag: drill.Seconds(lag), Took: drill.Seconds(took), OK: ok}
		if !ok {
			s.Cause = CauseTimeout
		}
		samples = append(samples, s)
	}
	return samples
}

// outOfBound plays many outages at a rate, and returns the first whose true length lies outside of what is stated.
func outOfBound(every time.Duration, measure func([]Sample, time.Duration, int) Measured) error {
	random := rand.New(rand.NewPCG(7, uint64(every)))
	for range 300 {
		measured := measure(sevenSeconds(random, every), every, 0)
		if measured.Void != "" || len(measured.Outages) != 1 {
			return fmt.Errorf("void %q, outages %+v", measured.Void, measured.Outages)
		}
		got := measured.Outages[0]
		if off := (got.Length.Duration() - 7*time.Second).Abs(); off > got.Error.Duration() {
			return fmt.Errorf("7.00 s are measured as %s, stated to be within %s", got.Length, got.Error)
		}
	}
	return nil
}

func TestKnownOutageLiesWithinTheBound(t *testing.T) {
	for _, perSecond := range []int{1, 10, 100} {
		if err := outOfBound(time.Second/time.Duration(perSecond), Outages); err != nil {
			t.Errorf("%d a second: %v", perSecond, err)
		}
	}
}

// The twins state half the bound, forget how long the first good answer took, or count only failures.
func TestKnownOutageCatchesBrokenMeasuring(t *testing.T) {
	change := func(how func(*Outage)) func([]Sample, time.Duration, int) Measured {
		return func(samples []Sample, every time.Duration, consecutive int) Measured {
			measured := Outages(samples, every, consecutive)
			for i := range measured.Outages {
				how(&measured.Outages[i])
			}
			return measured
		}
	}
	for name, twin := range map[string]func([]Sample, time.Duration, int) Measured{
		"states a tenth of the bound": change(func(o *Outage) { o.Error /= 10 }),
		"ends three good samples too late": func(s []Sample, every time.Duration, _ int) Measured {
			return change(func(o *Outage) { o.Length += drill.Seconds(3 * every) })(s, every, 0)
		},
	} {
		if outOfBound(time.Second, twin) == nil {
			t.Errorf("one that %s passes", name)
		}
	}
}
