//go:build !hostpart

package cli

import (
	"fmt"
	"testing"

	"firedrill/internal/fleet"
)

func TestAHaltIsToldInALine(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range haltedShown + 2 {
		many = append(many, fmt.Sprintf("h%d", i))
	}
	for want, report := range map[string]fleet.HaltReport{
		"attacks ended: 0; no host is there that says that nothing is in force":                                                                        {},
		"attacks ended: 3; nothing is in force on web1, web2":                                                                                          {Ended: 3, Halted: []string{"web1", "web2"}},
		"attacks ended: 0; nothing is in force on h0, h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h11, h12, h13, h14, h15, h16, h17, h18, h19 and 2 more": {Halted: many},
	} {
		if got := haltedText(report); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
