package attack

import (
	"fmt"

	"firedrill/internal/drill"
)

// Scope narrows a network attack to a part of the host. The zero value is the whole host.
type Scope struct {
	User string // name or number: only traffic of sockets that this user made
}

// Whole reports whether nothing is narrowed.
func (s Scope) Whole() bool { return s == Scope{} }

// ScopeFacts are what a Scope means on this host.
type ScopeFacts struct {
	UID *uint32 `json:"uid,omitempty"`
}

// ScopeFlags are the flags that narrow a network attack to a part of the host, in the order of help pages. A kind adds them behind those of
// the target language; package traffic does the rest.
func ScopeFlags() []drill.AttackFlag {
	return []drill.AttackFlag{
		{Name: "user", Short: "u", Type: TypeString, Usage: "name or number of a user, only traffic of this user's sockets, both ways"},
	}
}

// ParseScope reads the flags of ScopeFlags. Flags that a kind does not have are simply not given.
func ParseScope(v Values) (Scope, error) {
	s := Scope{User: v.Text("user", "")}
	for _, name := range []string{"user"} {
		if len(v[name]) > 0 && v.Text(name, "") == "" {
			return s, fmt.Errorf("--%s is empty: name one, or leave it out for the whole host", name)
		}
	}
	return s, nil
}
