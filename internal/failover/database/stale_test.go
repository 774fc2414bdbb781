package database_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/history"
)

// cutOff is a pair whose old primary takes writes on an older timeline, and is fenced or not as it is told.
type cutOff struct {
	database.Driver

	mu     sync.Mutex // guards the fields below
	role   database.Role
	reason string // that it cannot be fenced, "" if it can
	tries  int
}

func (c *cutOff) set(role database.Role, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.role, c.reason = role, reason
}

func (c *cutOff) Status(context.Context) (database.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return database.Status{Members: []database.Member{{Host: "old", Role: c.role, Timeline: 1}, {Host: "new", Role: database.Primary, Timeline: 2}}}, nil
}

func (c *cutOff) Fence(context.Context, database.Move) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries++
	if c.reason != "" {
		return "", fmt.Errorf("read tcp 10.0.0.1:%d: %s", 40000+c.tries, c.reason)
	}
	c.role = database.Down
	return "stopped", nil
}

func (c *cutOff) Write(_ context.Context, host string) error {
	return fmt.Errorf("%s: %w", host, database.ErrReadOnly)
}

// toldOfStale plays a stale primary that cannot be fenced for a while, and returns what was told, by what happened.
func toldOfStale(t *testing.T, sabotage func(*database.Keeper)) (story string, tries int) {
	t.Helper()
	var parts []string
	synctest.Test(t, func(t *testing.T) {
		fake, _ := databasetest.NewFake("")
		pair := &cutOff{Driver: fake, role: database.Primary, reason: "connection refused"}
		var told []string
		k := &database.Keeper{
			Mover:  database.Mover{Name: "books", Driver: pair, Tell: func(s *history.DatabaseStep) { told = append(told, s.Step) }},
			Alarms: []string{"blue"},
		}
		if sabotage != nil {
			sabotage(k)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { k.Run(ctx, nil) })
		looks := func(what string) {
			<-time.After(5500 * time.Millisecond) // of the bubble: five looks, none at this very moment
			synctest.Wait()
			parts = append(parts, what+": "+strings.Join(told, " "))
			told = nil
		}
		looks("stale")
		pair.set(database.Down, "connection refused")
		looks("not seen")
		pair.set(database.Primary, "connection refused")
		looks("seen again")
		pair.set(database.Primary, "permission denied")
		looks("another reason")
		pair.set(database.Primary, "")
		looks("fenced")
		pair.set(database.Primary, "connection refused")
		looks("stale again")
		pair.set(database.Standby, "")
		looks("rebuilt")
		cancel()
		running.Wait()
		tries = pair.tries
	})
	return strings.Join(parts, "; "), tries
}

// It is tried at each look, and told once for each thing that it becomes: who reads the history is not to look for a move among failures.
func TestStalePrimaryIsTriedAtEachLookAndToldOnceForEachChange(t *testing.T) {
	const want = "stale: ordered failed; not seen: ; seen again: ; another reason: failed; fenced: fenced tried; stale again: ordered failed; rebuilt: "
	got, tries := toldOfStale(t, nil)
	if got != want {
		t.Errorf("told %s\nwant %s", got, want)
	}
	if tries < 20 {
		t.Errorf("tried %d times in five looks of each kind", tries)
	}
	if got, _ := toldOfStale(t, database.Forgetful); got == want {
		t.Error("a keeper that tells it at each look was not noticed")
	}
}
