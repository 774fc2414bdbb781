package kinds

import (
	"strings"

	"firedrill/internal/attack"
	"firedrill/internal/attack/blackhole"
	"firedrill/internal/attack/shutdown"
	"firedrill/internal/drill"
)

// All returns every kind of attack, in the order of help pages.
func All() []attack.Kind {
	return []attack.Kind{blackhole.Kind{}, shutdown.Kind{}}
}

// Find returns the kind with this name.
func Find(name string) (attack.Kind, bool) {
	for _, kind := range All() {
		if kind.Describe().Name == name {
			return kind, true
		}
	}
	return nil, false
}

// Describe returns every kind as data.
func Describe() []drill.AttackKind {
	var described []drill.AttackKind
	for _, kind := range All() {
		described = append(described, kind.Describe())
	}
	return described
}

// Names returns the names of all kinds, for messages.
func Names() string {
	var names []string
	for _, kind := range All() {
		names = append(names, kind.Describe().Name)
	}
	return strings.Join(names, ", ")
}
