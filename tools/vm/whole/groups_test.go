//go:build vm

package whole

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"firedrill/internal/history"
)

// group is a control group of version 2 in which attacks are started.
type group struct{ directory string }

// newGroup makes one with these limits; it goes with the test.
func newGroup(t *testing.T, limits map[string]string) group {
	t.Helper()
	directory, err := os.MkdirTemp("/sys/fs/cgroup", "firedrill-test-")
	must(t, err)
	g := group{directory}
	t.Cleanup(func() { await(t, func() error { return os.Remove(directory) }) })
	for file, value := range limits {
		must(t, os.WriteFile(filepath.Join(directory, file), []byte(value), 0o644))
	}
	return g
}

// start starts an attack in the group.
func (g group) start(t *testing.T, args ...string) *program {
	t.Helper()
	directory, err := os.Open(g.directory)
	must(t, err)
	defer directory.Close()
	return startIn(t, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(directory.Fd())}, append([]string{"attack"}, args...)...)
}

// read returns a file that holds one number, or the number behind a key in one that holds several.
func (g group) read(t *testing.T, file, key string) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.directory, file))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if key == "" || fields[0] == key {
			number, err := strconv.ParseInt(fields[len(fields)-1], 10, 64)
			must(t, err)
			return number
		}
	}
	t.Fatalf("%s has no %q: %s", file, key, text)
	return 0
}

const mebi = 1 << 20

// A share of what is available is one of what the group may have, and not of what the host has; the group's killer stays asleep.
func TestMemoryStaysWithinItsGroup(t *testing.T) {
	g := newGroup(t, map[string]string{"memory.max": strconv.Itoa(600 * mebi), "memory.swap.max": "0"})
	p := g.start(t, "memory", "--percent=50", brief())
	awaitInForce(t, p)
	await(t, func() error {
		if held := g.read(t, "memory.current", ""); held < 200*mebi || held > 400*mebi {
			return fmt.Errorf("%d MiB are held of 600, want half of what was free", held/mebi)
		}
		return nil
	})
	if code, account := p.wait(); code != 0 || account == nil || !account.Bit || !account.Reverted {
		t.Errorf("exit code %d, account %+v; want 0, bit and reverted", code, account)
	}
	await(t, func() error {
		if held := g.read(t, "memory.current", ""); held > 100*mebi {
			return fmt.Errorf("%d MiB are still held", held/mebi)
		}
		return nil
	})
	if kills := g.read(t, "memory.events", "oom_kill"); kills != 0 {
		t.Errorf("%d processes of the group were killed", kills)
	}
}

// More than the group may have is refused before anything is taken, although the host has plenty.
func TestMemoryBeyondItsGroupIsRefused(t *testing.T) {
	g := newGroup(t, map[string]string{"memory.max": strconv.Itoa(300 * mebi), "memory.swap.max": "0"})
	p := g.start(t, "memory", "--megabytes=1000", brief())
	code, _ := p.wait()
	if refused, ok := said[*history.AttackRefused](p); !ok || code == 0 {
		t.Errorf("exit code %d, refused %+v; want a refusal", code, refused)
	}
	if kills := g.read(t, "memory.events", "oom_kill"); kills != 0 {
		t.Errorf("%d processes of the group were killed", kills)
	}
}

// A group that may use a fifth of a core cannot burn all of it: that must be found, and is no pass.
func TestCPUThatItsGroupHoldsBackIsNoPass(t *testing.T) {
	g := newGroup(t, map[string]string{"cpu.max": "20000 100000"})
	p := g.start(t, "cpu", "--cores=1", brief())
	if code, account := p.wait(); code != 3 || account == nil || account.Bit || !account.Reverted {
		t.Errorf("exit code %d, account %+v; want 3: it did not bite", code, account)
	}
	if g.read(t, "cpu.stat", "nr_throttled") == 0 {
		t.Error("the group was never held back: nothing is proven")
	}
}

// SIGKILL of the attack ends its burners, whatever group they are in.
func TestNothingStaysInTheGroupOfAKilledAttack(t *testing.T) {
	g := newGroup(t, nil)
	for _, args := range [][]string{{"cpu", "--cores=2", "--length=600"}, {"memory", "--megabytes=100", "--length=600"}} {
		p := g.start(t, args...)
		awaitInForce(t, p)
		must(t, p.cmd.Process.Kill())
		p.wait()
		await(t, func() error {
			if g.read(t, "cgroup.events", "populated") != 0 {
				return errors.New("somebody is in the group")
			}
			return nil
		})
	}
}
