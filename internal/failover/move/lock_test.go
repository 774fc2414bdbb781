package move

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"firedrill/internal/drill"
)

func TestOnlyOneHoldsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var writers sync.WaitGroup
	inside, most := 0, 0
	var mu sync.Mutex // guards both
	count := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		inside += by
		most = max(most, inside)
	}
	for range 8 {
		writers.Go(func() {
			yield, err := Take(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			count(1)
			count(-1)
			yield()
		})
	}
	writers.Wait()
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	yield, err := Take(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer yield()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, at := range []string{path, filepath.Join(path, "absent")} {
		if _, err := Take(ctx, at); drill.KindOf(err) != drill.Unreachable || drill.HintOf(err) == "" {
			t.Errorf("%s: %v", at, err)
		}
	}
}
