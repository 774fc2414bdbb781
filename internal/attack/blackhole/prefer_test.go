package blackhole

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

// preferred checks that all threads of a process run before those of others.
func preferred(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("process %d has %d threads: %w", pid, len(threads), err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if nice := fields[16]; nice != "-10" {
			return fmt.Errorf("%s: its nice value is %s, want -10", path, nice)
		}
	}
	return nil
}

func TestAttackInForceIsPreferredByTheKernel(t *testing.T) {
	t.Parallel()
	a := traffictest.Begin(t, at.NewWorld(t), "--ipaddress="+at.Target4.String())
	traffictest.Must(t, at.Await(func() error { return preferred(a.PID) }))
	if preferred(os.Getpid()) == nil {
		t.Error("a process that is not preferred was not caught")
	}
}
