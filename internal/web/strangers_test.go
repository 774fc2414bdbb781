package web

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Strangers cannot make the audit log grow: of many refusals the first ones are told, and of all others their number; afterwards each is told again.
func TestStrangersFillNoDisk(t *testing.T) {
	told := func(boundless bool) (lines []string) {
		synctest.Test(t, func(t *testing.T) {
			s := &strangers{record: func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }, boundless: boundless}
			for i := range strangersLines + 70 {
				s.refused("refused %d", i)
			}
			time.Sleep(strangersWindow + time.Second)
			s.refused("refused late")
			time.Sleep(strangersWindow)
			synctest.Wait()
		})
		return lines
	}
	lines := told(false)
	if len(lines) != strangersLines+2 || lines[0] != "refused 0" || lines[strangersLines+1] != "refused late" {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	if want := "refused 70 more requests of who was not logged in, since 2000-01-01T00:00:00Z"; !slices.Contains(lines, want) {
		t.Errorf("%q does not stand in %q", want, lines)
	}
	if lines := told(true); len(lines) <= strangersLines+2 {
		t.Errorf("with no bound there are %d lines", len(lines))
	}
}
