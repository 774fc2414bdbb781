package attack

import (
	"testing"
	"testing/synctest"
	"time"
)

// looks are the instants, since the first, at which one looks who waits as next says.
func looks(t *testing.T, next func() time.Duration, until time.Duration) (at []time.Duration) {
	t.Helper()
	began := time.Now()
	for time.Since(began) < until {
		pause := next()
		if pause <= 0 || pause > time.Second {
			t.Fatalf("after %s it waits %s", time.Since(began), pause)
		}
		<-time.After(pause)
		at = append(at, time.Since(began))
	}
	return at
}

func TestPaceBecomesOnceASecondAndKeepsToTheSecondHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		<-time.After(300 * time.Millisecond)
		pace := Pace{Least: 50 * time.Millisecond}
		all := looks(t, pace.Next, time.Minute)
		last := time.Duration(0)
		for _, at := range all {
			if late := at - last; late > max(50*time.Millisecond, last/10, time.Millisecond) && last < 9*time.Second {
				t.Errorf("what happens just after %s is seen %s later", last, late)
			}
			last = at
		}
		if n := len(all); n > 130 {
			t.Errorf("%d looks in a minute", n)
		}
		if hand := time.Now().Nanosecond(); hand != 0 {
			t.Errorf("the last look is %d ns beside the second hand", hand)
		}
	})
}
