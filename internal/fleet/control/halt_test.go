package control

import (
	"testing"
	"time"
)

func TestAHaltIsSaidAgainWhenNobodyAnswersAnyMore(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		answer, said time.Duration
		again        bool
	}{
		{800 * time.Millisecond, time.Second, true}, // one of three has not heard it
		{time.Millisecond, time.Second, false},      // ten thousand answer
		{time.Millisecond, 3 * time.Second, false},  // still
		{time.Millisecond, haltLate, true},          // and one may have waited all the time
		{2 * time.Second, 2 * time.Second, true},    // nobody has
	} {
		if again := haltedAnew(row.answer, row.said); again != row.again {
			t.Errorf("%+v: %v", row, again)
		}
	}
}
