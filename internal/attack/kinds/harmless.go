//go:build !attackpart

package kinds

import (
	"firedrill/internal/attack"
	"firedrill/internal/attack/certificate"
)

// harmless are the kinds that damage nothing.
func harmless() []attack.Kind { return []attack.Kind{certificate.Kind{}} }
