package attack

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/history"
)

// Jobs read these lines, so the words of each length are those of the article.
func TestLinesSayHowLongAndWhen(t *testing.T) {
	for _, test := range []struct {
		plan Plan
		want string
	}{
		{Plan{Length: time.Second}, "for 1 second"},
		{Plan{Length: 240 * time.Second}, "for 240 seconds"},
		{Plan{Length: 1500 * time.Millisecond}, "for 1.5 seconds"},
		{Plan{Delay: time.Minute}, "after 1 minute"},
		{Plan{Delay: 2 * time.Minute}, "after 2 minutes"},
		{Plan{Delay: time.Second}, "after 1 second"},
		{Plan{}, "after 0 seconds"},
		{Plan{Delay: 500 * time.Millisecond}, "after 500ms"},
	} {
		test.plan.Attack, test.plan.GUID = "blackhole", "x"
		var out strings.Builder
		NewLines(&out, test.plan).Emit(history.New(time.Now(), "green", &history.AttackPlanned{}))
		if got, want := out.String(), "Setting up blackhole firedrill with guid 'x' "+test.want+"\n"; got != want {
			t.Errorf("%v and %v: %q, want %q", test.plan.Length, test.plan.Delay, got, want)
		}
	}
}
