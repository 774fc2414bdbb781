//go:build attackpart

package kinds

import "firedrill/internal/attack"

// harmless kinds are not in the part of the program that must attack at once: they bring a whole TLS with them.
func harmless() []attack.Kind { return nil }
