//go:build attackpart

package policy

import (
	"errors"
	"time"

	"firedrill/internal/drill"
)

// Policy has no rules in the part of the program that only attacks: where the host has a file of rules, Read refuses, and the part that
// understands them must be asked. There is never one but nil.
type Policy struct{}

// Read returns nil when there certainly is no policy on this host, and refuses otherwise.
func (r Reader) Read() (*Policy, error) {
	path := r.Path
	if path == "" {
		path = File
	}
	if Absent(path) {
		return nil, nil
	}
	return nil, &drill.Error{Op: "attack", Kind: drill.Refused, Err: errors.New("not attacking: a policy of this host was written while the attack started"), Hint: "try again"}
}

// Admit admits everything: there are no rules.
func (*Policy) Admit(Order, time.Time) error { return nil }

// Doubt returns why.
func (*Policy) Doubt(_ string, _ Target, why error) error { return why }

// Spares returns nothing.
func (*Policy) Spares() []Target { return nil }

// AsksForOthers says no.
func (*Policy) AsksForOthers() bool { return false }
