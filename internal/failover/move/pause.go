package move

import (
	"context"
	"time"
)

// Pause waits, and says whether ctx still lives.
func Pause(ctx context.Context, span time.Duration) bool {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
