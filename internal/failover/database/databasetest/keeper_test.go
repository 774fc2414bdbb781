package databasetest

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/failover/database"
	"firedrill/internal/history"
)

// kept runs a keeper on a pair in memory, cuts the power of its primary, and returns what was told after the alarms came.
func kept(t *testing.T, change func(*database.Keeper), story func(f *Fake, tell func(blue, green string))) string {
	t.Helper()
	var told []string
	synctest.Test(t, func(t *testing.T) {
		f, _ := NewFake("")
		k := &database.Keeper{
			Mover:  database.Mover{Name: "books", Driver: f, Tell: func(s *history.DatabaseStep) { told = append(told, s.Step) }},
			Alarms: []string{"blue", "green"},
		}
		if change != nil {
			change(k)
		}
		ctx, cancel := context.WithCancel(t.Context())
		states, ended := make(chan map[string]string), make(chan struct{})
		go func() { defer close(ended); k.Run(ctx, states) }()
		story(f, func(blue, green string) {
			states <- map[string]string{"blue": blue, "green": green}
			<-time.After(5 * time.Second) // of the bubble: nothing waits
			synctest.Wait()
		})
		cancel()
		<-ended
	})
	return strings.Join(told, " ")
}

func TestKeeperPromotesWhenAllAlarmsOrderItAndOnlyThen(t *testing.T) {
	const moved = "ordered looked chosen fenced promoting promoted written tried"
	off := func(f *Fake) { _ = f.powerOff(context.Background(), "db-a") }
	for _, c := range []struct {
		name   string
		change func(*database.Keeper)
		story  func(f *Fake, tell func(blue, green string))
		want   string
	}{
		{"lost", nil, func(f *Fake, tell func(string, string)) {
			tell("OK", "OK")
			off(f)
			tell("ALARM", "OK")
			tell("ALARM", "ALARM")
		}, moved},
		{"one place cannot reach it", nil, func(_ *Fake, tell func(string, string)) { tell("OK", "OK"); tell("ALARM", "OK") }, ""},
		{"never well", nil, func(f *Fake, tell func(string, string)) { off(f); tell("ALARM", "ALARM") }, ""},
		{"nobody orders it", func(k *database.Keeper) { k.Alarms = nil }, func(f *Fake, tell func(string, string)) { tell("OK", "OK"); off(f); tell("ALARM", "ALARM") }, ""},
		{"once", nil, func(f *Fake, tell func(string, string)) {
			tell("OK", "OK")
			off(f)
			tell("ALARM", "ALARM")
			tell("OK", "OK")
			tell("ALARM", "ALARM")
		}, moved},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := kept(t, c.change, c.story); got != c.want {
				t.Errorf("told %q, want %q", got, c.want)
			}
		})
	}
}

// A primary that was cut off and not stopped is back as one, and is fenced: its timeline is older. Without alarms that may promote nothing is touched.
func TestKeeperFencesAPrimaryThatWasCutOffWhenItIsBack(t *testing.T) {
	story := func(f *Fake, tell func(string, string)) {
		f.mu.Lock()
		f.Bug = "the old primary comes back as a primary"
		f.mu.Unlock()
		tell("OK", "OK")
		_ = f.powerOff(context.Background(), "db-a")
		tell("ALARM", "ALARM")
		_ = f.boot(context.Background(), "db-a")
		tell("OK", "OK")
		if status, _ := f.Status(context.Background()); status.Primary() == nil || status.Primary().Host != "db-b" {
			panic("two servers take writes: " + status.String())
		}
	}
	const want = "ordered looked chosen fenced promoting promoted written tried ordered fenced tried"
	if got := kept(t, nil, story); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// A standby that is too far behind is refused; the order stands while its alarms do, and is tried again.
func TestKeeperTriesARefusedOrderAgainWhileItStands(t *testing.T) {
	var caughtUp atomic.Bool
	got := kept(t, func(k *database.Keeper) { k.Mover.Driver = behind{k.Mover.Driver, &caughtUp} }, func(f *Fake, tell func(string, string)) {
		tell("OK", "OK")
		_ = f.powerOff(context.Background(), "db-a")
		tell("ALARM", "ALARM")
		<-time.After(12 * time.Second)
		synctest.Wait()
		caughtUp.Store(true)
		<-time.After(12 * time.Second)
		synctest.Wait()
	})
	if !strings.HasPrefix(got, "ordered looked refused ordered looked") || !strings.HasSuffix(got, "promoted written tried") {
		t.Errorf("told %q", got)
	}
}

// behind is a driver whose standby lags until it is told otherwise.
type behind struct {
	database.Driver
	caughtUp *atomic.Bool
}

func (b behind) Status(ctx context.Context) (database.Status, error) {
	status, err := b.Driver.Status(ctx)
	for i := range status.Members {
		if m := &status.Members[i]; m.Role == database.Primary {
			m.Position += 1000
		} else if b.caughtUp.Load() {
			m.Position += 1000
		}
	}
	return status, err
}
