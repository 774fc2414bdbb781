package processkiller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	at "firedrill/internal/attack/attacktest"
)

// hunted are two processes that match: one that counts the signals which it gets, and lives; and one that dies of each, and that somebody
// starts again. There is always one that a plan can mean.
type hunted struct{ name, count string }

func newHunted(t *testing.T) hunted {
	t.Helper()
	h := hunted{name: filepath.Base(filepath.Dir(t.TempDir())), count: filepath.Join(t.TempDir(), "count")}
	ctx, cancel := context.WithCancel(t.Context())
	var supervising sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		supervising.Wait()
	})
	counter := exec.CommandContext(ctx, "sh", "-c", "trap 'printf x >> "+h.count+"' USR1; printf x >> "+h.count+"; while :; do sleep 0.02; done")
	counter.Args[0] = h.name + " counts"
	if err := counter.Start(); err != nil {
		t.Fatal(err)
	}
	supervising.Go(func() { _ = counter.Wait() })
	supervising.Go(func() {
		for ctx.Err() == nil {
			mortal := exec.CommandContext(ctx, "sleep", "600")
			mortal.Args[0] = h.name + " dies"
			_ = mortal.Run()
		}
	})
	if err := at.Await(func() error { _, err := h.signals(); return err }); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h hunted) signals() (int64, error) {
	info, err := os.Stat(h.count)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

const round = 200 * time.Millisecond

func (h hunted) isHunted(*at.World) error {
	before, err := h.signals()
	if err != nil {
		return err
	}
	return at.Await(func() error {
		if now, err := h.signals(); err != nil || now == before {
			return errors.Join(errors.New("no signal comes"), err)
		}
		return nil
	})
}

// isLeftAlone watches for some rounds; what was on its way when they began may still come.
func (h hunted) isLeftAlone(*at.World) error {
	<-time.After(round)
	before, err := h.signals()
	<-time.After(2 * round)
	now, err2 := h.signals()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if now != before {
		return fmt.Errorf("%d signals came", now-before)
	}
	return nil
}

func (h hunted) subject() at.Subject {
	return at.Subject{Args: []string{"--process=^" + h.name + " ", "--full=true", "--signal=USR1", "--interval=" + round.String()}, Felt: h.isHunted, Clear: h.isLeftAlone}
}

// What was killed is for its supervisor to bring back; but the killing ends like every impact does.
func TestProcessKillerHoldsTheContract(t *testing.T) {
	if at.Alone(t) {
		at.RunEach(t, func(t *testing.T) at.Subject { return newHunted(t).subject() }, nil)
	}
}
