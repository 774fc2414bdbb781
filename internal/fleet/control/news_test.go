package control

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/fleet"
)

// newsOf is a control plane whose news somebody hears who may be deaf.
type newsOf struct {
	directory string
	deaf      bool
	glib      bool
	told      []string
}

func (n *newsOf) start(t *testing.T) *Control {
	t.Helper()
	c := openWith(t, n.directory, func(o *Options) {
		o.Glib = n.glib
		o.Tell = func(_ context.Context, news fleet.News) error {
			if n.deaf {
				return errors.New("nobody is there")
			}
			n.told = append(n.told, fmt.Sprintf("%s %s %s: %s", news.Service, news.Name, news.To, news.Text))
			return nil
		}
	})
	return c
}

// look has everything told that is untold.
func (n *newsOf) look(t *testing.T, c *Control) string {
	t.Helper()
	n.told = nil
	for range 2 {
		c.tellLever(t.Context())
		c.tellDrills(t.Context())
	}
	return strings.Join(n.told, "; ")
}

func ended(t *testing.T, c *Control, id, outcome string, left bool) {
	t.Helper()
	run := fleet.DrillRun{ID: id, Request: fleet.DrillRequest{Service: "shop", Drill: "cut"}, Started: time.Now(), State: fleet.DrillRunning}
	if err := c.drills.put(t.Context(), id, run); err != nil {
		t.Fatal(err)
	}
	c.changeDrill(t.Context(), id, func(r *fleet.DrillRun) {
		r.State, r.Ended, r.Outcome, r.Reason, r.Left = fleet.DrillEnded, time.Now(), outcome, "said so", left
	})
}

func TestHowADrillEndedIsToldOnceAlsoWhenTheServerGoesDownBeforeIt(t *testing.T) {
	t.Parallel()
	for _, glib := range []bool{false, true} {
		n := &newsOf{directory: filepath.Join(t.TempDir(), "fleet"), glib: glib}
		n.deaf = true
		c := n.start(t)
		ended(t, c, "01a1", "passed", false)
		ended(t, c, "01a2", "failed", true)
		ended(t, c, "01a3", "inconclusive", false)
		n.look(t, c)
		shut(t, c)
		n.deaf = false
		c = n.start(t)
		got := n.look(t, c)
		want := "shop drill-cut OK: passed: said so; shop drill-cut ALARM: NOT REVERTED, impact may still be in force: failed: said so; shop drill-cut INSUFFICIENT_DATA: inconclusive: said so"
		if glib {
			want = ""
		}
		if got != want {
			t.Errorf("glib %v: told %q, not %q", glib, got, want)
		}
		if again := n.look(t, c); again != "" {
			t.Errorf("told again: %q", again)
		}
		shut(t, c)
	}
}

func TestThatTheLeverMovedIsTold(t *testing.T) {
	t.Parallel()
	n := &newsOf{directory: filepath.Join(t.TempDir(), "fleet"), deaf: true}
	c := n.start(t)
	otto := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
	if _, err := c.engage(t.Context(), otto, "smoke"); err != nil {
		t.Fatal(err)
	}
	if n.look(t, c); !c.lever().Untold {
		t.Error("nobody has heard it, and it counts as told")
	}
	shut(t, c)
	n.deaf = false
	c = n.start(t)
	if got := n.look(t, c); got != " lever ALARM: otto has halted everything: smoke" {
		t.Errorf("told %q", got)
	}
	if _, err := c.Release(t.Context(), otto); err != nil {
		t.Fatal(err)
	}
	if got := n.look(t, c); !strings.Contains(got, "lever OK: the lever is released by otto: ") {
		t.Errorf("told %q", got)
	}
	shut(t, c)
}
