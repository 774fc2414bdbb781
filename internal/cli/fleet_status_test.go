package cli

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/fleet"
)

func TestNoTimeIsToldAsTheEndOfARunThatTakesHostsDown(t *testing.T) {
	deadline := time.Date(2026, 11, 30, 12, 34, 56, 0, time.Local)
	if got := endOfRun(fleet.Run{Kind: "blackhole", Deadline: deadline}); got != "until 12:34:56 at the latest" {
		t.Errorf("blackhole ends %s", got)
	}
	if got := endOfRun(fleet.Run{Kind: "shutdown", Deadline: deadline}); strings.Contains(got, "12:34") || !strings.Contains(got, "powered on") {
		t.Errorf("shutdown ends %s", got)
	}
}
