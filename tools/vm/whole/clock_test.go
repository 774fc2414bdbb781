//go:build vm

package whole

import (
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
)

const (
	exact = 5 * time.Millisecond // how near the clock must come back
	near  = time.Second          // enough to tell an offset of an hour from another
)

// skew is the clock minus the time since boot: it stays what it is until somebody sets the clock. An emulated processor may be held up
// between two readings, so the quickest of many counts.
func skew(t *testing.T) time.Duration {
	t.Helper()
	var best time.Duration
	shortest := time.Hour
	for range 100 {
		var before, now, after unix.Timespec
		must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &before), unix.ClockGettime(unix.CLOCK_REALTIME, &now), unix.ClockGettime(unix.CLOCK_BOOTTIME, &after))
		if took := time.Duration(after.Nano() - before.Nano()); took < shortest {
			shortest, best = took, time.Duration(now.Nano()-before.Nano()-int64(took)/2)
		}
	}
	return best
}

// off says how far the clock is from where it must be.
func off(t *testing.T, base, offset, bound time.Duration) error {
	t.Helper()
	if away := skew(t) - base - offset; max(away, -away) > bound {
		return fmt.Errorf("the clock is %s from where it was and %s from where it must be", skew(t)-base, away)
	}
	return nil
}

func TestClockGoesAndComesBackExactly(t *testing.T) {
	for text, offset := range map[string]time.Duration{"86400": 24 * time.Hour, "-3600": -time.Hour, "90000": 25 * time.Hour, "-31536000": -365 * 24 * time.Hour} {
		t.Run(text, func(t *testing.T) {
			base, date := skew(t), time.Now().Round(0)
			p := inForce(t, "time_travel", "--offset="+text, brief())
			must(t, off(t, base, offset, near))
			if moved := time.Now().Round(0).Sub(date); max(moved-offset, offset-moved) > patience() {
				t.Errorf("the date moved by %s, want about %s", moved, offset)
			}
			if code, account := p.wait(); code != 0 || account == nil || !account.Bit || !account.Reverted {
				t.Errorf("exit code %d, account %+v; want 0, bit and reverted", code, account)
			}
			must(t, off(t, base, 0, exact), noJournal())
			t.Logf("the clock came back to within %s", (skew(t) - base).Abs())
		})
	}
}

func TestGuardianBringsTheClockBackWhenTheAttackIsKilledOrFrozen(t *testing.T) {
	for signal, length := range map[unix.Signal]string{unix.SIGKILL: "--length=600", unix.SIGSTOP: brief()} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			base := skew(t)
			p := inForce(t, "time_travel", "--offset=-7200", length)
			must(t, off(t, base, -2*time.Hour, near), p.cmd.Process.Signal(signal))
			await(t, func() error { return errors.Join(off(t, base, 0, exact), noJournal()) })
		})
	}
}

// Both of us are dead: nothing but the next start can help, and it does. That the clock stays shifted until then shows that the test sees.
func TestNextStartBringsTheClockBackWhenAllAreKilled(t *testing.T) {
	base := skew(t)
	p := inForce(t, "time_travel", "--offset=100000", "--length=600")
	guarding := guardians(t)
	if len(guarding) != 1 {
		t.Fatalf("guardians: %v, want one", guarding)
	}
	must(t, procs.Signal(guarding[0], unix.SIGKILL), p.cmd.Process.Kill())
	p.wait()
	await(t, func() error {
		if left := guardians(t); len(left) > 0 {
			return fmt.Errorf("%v is there", left)
		}
		return nil
	})
	if err := noJournal(); err == nil {
		t.Error("there is no journal of what was done")
	}
	must(t, off(t, base, 100000*time.Second, near))
	if said, err := exec.Command("/vm/firedrill", "status").CombinedOutput(); err != nil {
		t.Errorf("status: %v: %s", err, said)
	}
	must(t, off(t, base, 0, exact), noJournal())
}

func TestTwoTravelsEndInEitherOrder(t *testing.T) {
	for name, firstFirst := range map[string]bool{"first first": true, "first last": false} {
		t.Run(name, func(t *testing.T) {
			base := skew(t)
			first := inForce(t, "time_travel", "--offset=3600", "--length=600")
			second := inForce(t, "time_travel", "--offset=-86400", "--length=600")
			must(t, off(t, base, -23*time.Hour, near))
			stays := -24 * time.Hour
			if !firstFirst {
				first, second, stays = second, first, time.Hour
			}
			must(t, first.cmd.Process.Signal(unix.SIGTERM))
			first.wait()
			must(t, off(t, base, stays, exact), second.cmd.Process.Signal(unix.SIGTERM))
			second.wait()
			must(t, off(t, base, 0, exact), noJournal())
		})
	}
}

// Somebody sets the clock by hand while the attack is in force: the clock comes back to the time that is right, and the attack does not pass.
func TestClockSetBySomebodyElseIsNoPass(t *testing.T) {
	base := skew(t)
	p := inForce(t, "time_travel", "--offset=86400", brief())
	must(t, off(t, base, 24*time.Hour, near))
	right := unix.NsecToTimeval(time.Now().Add(-24 * time.Hour).UnixNano())
	must(t, unix.Settimeofday(&right))
	if code, account := p.wait(); code != 3 || account == nil || account.Bit || !account.Reverted {
		t.Errorf("exit code %d, account %+v; want 3: it did not bite until the end", code, account)
	}
	must(t, off(t, base, 0, exact))
}
