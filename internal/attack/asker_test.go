package attack

import (
	"os/user"
	"strings"
	"testing"
)

func TestStatusSaysWhoStartedAnAttack(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		environment map[string]string
		want        string
	}{
		"at the console":   {nil, "user " + me.Username},
		"over SSH":         {map[string]string{"SSH_CONNECTION": "203.0.113.5 50000 192.0.2.10 22"}, "user " + me.Username + ", from 203.0.113.5"},
		"a broken one":     {map[string]string{"SSH_CONNECTION": "x y"}, "user " + me.Username},
		"a line of a liar": {map[string]string{"SUDO_USER": "a\nresidue", "SSH_CONNECTION": "fd00::1 1 fd00::2 22"}, "a\\nresidue, by sudo as root, from fd00::1"},
	} {
		if test.environment["SUDO_USER"] != "" && me.Uid != "0" {
			continue
		}
		got := startedBy(func(key string) string { return test.environment[key] })
		if !strings.HasSuffix(got, test.want) || strings.Contains(got, "\n") {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
