//go:build !hostpart

package cli

import (
	"strings"
	"testing"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
)

func TestAttackable(t *testing.T) {
	t.Parallel()
	for _, good := range [][]string{{"cpu", "-l", "30"}, {"cpu", "--length", "30", "--percent", "50", "--canary", "127.0.0.1:1"}, {"blackhole", "-l", "60", "-h", "db.example.com"}, {"blackhole", "--length=60", "-i", "192.0.2.1", "--pod", "app=web"},
		{"shutdown", "--reboot"}, {"a-kind-of-tomorrow", "--whatever"}} {
		if _, err := attackable(good[0], good[1:]); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range [][]string{{"cpu", "--fast"}, {"cpu", "-l", "soon"}, {"cpu", "-l", "30", "web1"}, {"cpu", "--percent", "150"}, {"blackhole", "-l", "60", "-i", "nowhere"}, {"blackhole", "--pod", "=,="}} {
		if _, err := attackable(bad[0], bad[1:]); drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), bad[0]) || drill.HintOf(err) == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, kind := range kinds.Describe() {
		if _, err := attackable(kind.Name, []string{"--no-such-flag"}); err == nil {
			t.Errorf("%s takes any flag", kind.Name)
		}
	}
}
