package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const outOfSpace = "Filestore [KV_runs] Critical write error: write 1.blk: no space left on device"

// waitsFor has something wait for an engine that meets a full disk meanwhile, and returns what becomes of it, and of what comes afterwards.
func waitsFor(t *testing.T, lenient, blind bool) (during, after error) {
	t.Helper()
	k := newKeeping(t.TempDir(), lenient, blind)
	waits := make(chan struct{})
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ended <- k.during(ctx, func(ctx context.Context) error {
			close(waits)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-waits
	k.heard("a client has come") // which is no trouble
	k.heard(outOfSpace)
	if blind {
		cancel() // nothing else ends it
	}
	during = <-ended
	return during, k.during(t.Context(), func(context.Context) error { return nil })
}

func TestWhatWaitsForAnEngineThatKeepsNothingIsToldAtOnce(t *testing.T) {
	t.Parallel()
	for _, lenient := range []bool{false, true} {
		during, after := waitsFor(t, lenient, false)
		if drill.KindOf(during) != drill.Unreachable || !strings.Contains(during.Error(), "no space left") || !strings.Contains(drill.HintOf(during), "make room") {
			t.Errorf("%v", during)
		}
		// Of several servers the others keep what comes afterwards.
		if (after == nil) != lenient {
			t.Errorf("lenient %v: afterwards %v", lenient, after)
		}
	}
	if during, after := waitsFor(t, false, true); !errors.Is(during, context.Canceled) || after != nil {
		t.Errorf("the planted bug is not noticed: %v, %v", during, after)
	}
}

// follows has one of two servers replace all keys of the fleet, and reports whether the other one follows.
func follows(t *testing.T, unfollowing bool) bool {
	t.Helper()
	both := pair(t, func(o *Options) { o.Unfollowing = unfollowing })
	leads(t, both[0], 0)
	by := fleet.Member{Name: "ann", Role: fleet.RoleAdmin}
	for _, what := range []string{fleet.KeyOfOrders, fleet.KeyCertificate} {
		if _, err := both[0].rotate(t.Context(), by, fleet.RotateRequest{What: what}); err != nil {
			t.Fatal(err)
		}
	}
	told := func() bool {
		_, heard := both[1].turns.get(turnKey(2))
		return heard
	}
	same := func() bool {
		return both[1].keys.now().Turn == 2 && both[1].Pin() == both[0].Pin() && both[1].keys.now().OrderSerial == 1
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(time.Millisecond) {
		if same() {
			return true
		}
		if told() && unfollowing {
			return false
		}
	}
	t.Fatal("it hears nothing")
	return false
}

func TestAServerFollowsKeysThatAnotherOneHasReplaced(t *testing.T) {
	t.Parallel()
	if !follows(t, false) {
		t.Error("it has the keys of before")
	}
}

func TestAServerThatKeepsTheKeysOfBeforeIsCaught(t *testing.T) {
	t.Parallel()
	if follows(t, true) {
		t.Error("the planted bug is not noticed")
	}
}
