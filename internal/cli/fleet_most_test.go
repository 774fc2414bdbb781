//go:build !hostpart

package cli

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/control"
)

// What is written after a kind of attack decides when hosts end it whoever says what, from the flags to the order.
func TestDeadlinesOfTheFleetFollowWhatIsWritten(t *testing.T) {
	t.Parallel()
	for _, lengthless := range []bool{false, true} {
		ask := fleetOfTwo(t, control.Options{TakesDown: takesDown, Attackable: attackable, Lengthless: lengthless})
		for _, test := range []struct {
			written []string
			most    time.Duration
			want    time.Duration // an hour where the length is not known
		}{
			{written: []string{"cpu", "-l", "30"}, want: 5*time.Minute + 30*time.Second},
			{written: []string{"cpu"}, want: 6 * time.Minute}, // for a minute if nothing is said
			{written: []string{"cpu", "--length=7200"}, want: 2*time.Hour + 5*time.Minute},
			{written: []string{"cpu", "-l", "86400"}, want: 24 * time.Hour},
			{written: []string{"blackhole", "-l1m30s", "-h", "db.example.com"}, want: 6*time.Minute + 30*time.Second},
			{written: []string{"shutdown", "-d", "1", "--reboot"}, want: time.Hour},
			{written: []string{"tomorrow", "-l", "30"}, want: time.Hour},
			{written: []string{"cpu", "-l", "30"}, most: 10 * time.Minute, want: 10 * time.Minute},
		} {
			want := test.want
			if lengthless && test.most == 0 {
				want = time.Hour
			}
			run, err := ask(fleet.AttackRequest{Kind: test.written[0], Args: test.written[1:], Most: drill.Seconds(test.most), Selector: fleet.Selector{Names: []string{"web1"}}, DryRun: true})
			if got := run.Deadline.Sub(run.Start); err != nil || got != want {
				t.Errorf("lengthless %v, %q: %s, want %s (%v)", lengthless, test.written, got, want, err)
			}
		}
	}
}

// fleetOfTwo is a server with two hosts, and what asks it for an attack.
func fleetOfTwo(t *testing.T, o control.Options) (ask func(fleet.AttackRequest) (fleet.Run, error)) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	o.Directory, o.Listen, o.Limits, o.Log = filepath.Join(t.TempDir(), "fleet"), "127.0.0.1:0", fleet.Limits{Percent: 50}, log
	c, err := control.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	goesOn(t, c.Run, c)
	credentials, err := client.Load(filepath.Join(o.Directory, control.AdminFile))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := client.Connect(credentials)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	for _, name := range []string{"web1", "web2"} {
		var text string
		if err := admin.Call(t.Context(), "token", fleet.TokenRequest{Uses: 1}, &text); err != nil {
			t.Fatal(err)
		}
		token, err := fleet.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		state := filepath.Join(t.TempDir(), "agent")
		if _, err := agent.Join(t.Context(), state, credentials.Address, token, agent.Identity{Name: name}); err != nil {
			t.Fatal(err)
		}
		a, err := agent.Open(agent.Options{Directory: state, Log: log, Program: []string{"/bin/false"}, // it is asked for nothing
			Facts: func(context.Context) (fleet.Facts, error) {
				return fleet.Facts{Hostname: name, Kinds: []string{"cpu", "blackhole", "shutdown", "tomorrow"}}, nil
			},
			Running: func(context.Context) ([]fleet.Running, error) { return nil, nil }})
		if err != nil {
			t.Fatal(err)
		}
		goesOn(t, a.Run, nil)
	}
	until := time.Now().Add(2 * time.Minute)
	for there := 0; there < 2; {
		if time.Now().After(until) {
			t.Fatal("the hosts do not come")
		}
		var hosts []fleet.HostView
		if err := admin.Call(t.Context(), "hosts", nil, &hosts); err != nil {
			t.Fatal(err)
		}
		there = 0
		for _, host := range hosts {
			if host.Online && host.Facts != nil {
				there++
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	return func(request fleet.AttackRequest) (run fleet.Run, err error) {
		err = admin.Call(t.Context(), "attack", request, &run)
		return run, err
	}
}

// goesOn runs something until the test is over.
func goesOn(t *testing.T, run func(context.Context) error, closes io.Closer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if closes != nil {
			if err := closes.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
