package pause

import (
	"fmt"
	"os/exec"
	"testing"

	at "firedrill/internal/attack/attacktest"
)

// BenchmarkIdle prints what it costs to keep a control group frozen, and to keep one process stopped and look for more that match.
func BenchmarkIdle(b *testing.B) {
	b.Run("group", func(b *testing.B) {
		c := newCohort(b)
		at.Idle(b, at.NewWorld(b), "--cgroup="+c.group.Name)
	})
	b.Run("process", func(b *testing.B) {
		w := at.NewWorld(b)
		victim := exec.Command("sleep", "600")
		if err := w.Host.Do(victim.Start); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
		at.Idle(b, w, fmt.Sprintf("--process=%d", victim.Process.Pid))
	})
}
