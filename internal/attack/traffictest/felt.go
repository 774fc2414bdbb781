package traffictest

import (
	"errors"
	"fmt"
	"testing"

	at "firedrill/internal/attack/attacktest"
)

// Begin starts an attack and waits until it is in force; it ends with the test.
func Begin(t *testing.T, w *at.World, args ...string) *at.Attack {
	t.Helper()
	a, err := begin(w, "", args)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	return a
}

// During runs check while an attack with a planted bug (or "") is in force, and ends the attack.
func During(w *at.World, bug string, args []string, check func() error) error {
	a, err := begin(w, bug, args)
	if err != nil {
		return err
	}
	defer a.Stop()
	return check()
}

func begin(w *at.World, bug string, args []string) (*at.Attack, error) {
	a, err := w.Start(at.Spec{Bug: bug, Args: append([]string{"--length=120"}, args...)})
	if err != nil {
		return nil, err
	}
	if _, err := a.AwaitInForce(); err != nil {
		a.Stop()
		return nil, err
	}
	return a, nil
}

// Must fails the test with every error there is.
func Must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// Volley is a number of datagrams to the first target that should come back.
type Volley struct {
	Count, Size     int
	AtLeast, AtMost int // of them
}

// Check sends the volley.
func (v Volley) Check(w *at.World) error {
	answered, err := w.Host.Volley(at.Target4, at.Port, v.Count, v.Size)
	if err != nil {
		return err
	}
	if answered < v.AtLeast || answered > v.AtMost {
		return fmt.Errorf("%d of %d datagrams were answered, want %d to %d", answered, v.Count, v.AtLeast, v.AtMost)
	}
	return nil
}
