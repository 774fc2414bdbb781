package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Role is what a server of a database is at the moment.
type Role string

// The roles.
const (
	Primary Role = "primary" // takes writes
	Standby Role = "standby" // takes none
	Down    Role = "down"    // nobody answers there
)

// Member is one server of a database as its driver sees it.
type Member struct {
	Host        string `json:"host"`
	Role        Role   `json:"role"`
	Timeline    uint64 `json:"timeline,omitempty"`
	Position    uint64 `json:"position,omitempty"`  // of a primary: written; of a standby: the further of received and replayed; helps to choose, proves nothing
	Streaming   bool   `json:"streaming,omitempty"` // a standby that is connected to its primary
	Synchronous bool   `json:"synchronous,omitempty"`
	Barred      bool   `json:"barred,omitempty"` // its own manager never promotes it
	Armed       bool   `json:"armed,omitempty"`  // whenever it starts again, it starts as a standby
	Detail      string `json:"detail,omitempty"`
}

// Status is a database as its driver sees it.
type Status struct {
	Members []Member `json:"members"`
	Managed bool     `json:"managed,omitempty"` // its own manager promotes, unasked, when a primary is lost
	Paused  bool     `json:"paused,omitempty"`  // its own manager was told to keep its hands off
}

// Primary returns the only primary, or nil when there is none or more than one.
func (s Status) Primary() *Member {
	var found *Member
	for i := range s.Members {
		if s.Members[i].Role != Primary {
			continue
		}
		if found != nil {
			return nil
		}
		found = &s.Members[i]
	}
	return found
}

// Member returns the member on the host, or nil.
func (s Status) Member(host string) *Member {
	for i := range s.Members {
		if s.Members[i].Host == host {
			return &s.Members[i]
		}
	}
	return nil
}

// Wrong says in a sentence what is not as it should be, "" if nothing: one primary, and every other server follows it.
func (s Status) Wrong() string {
	var primaries, idle []string
	for _, m := range s.Members {
		switch {
		case m.Role == Primary:
			primaries = append(primaries, m.Host)
		case m.Role == Down:
			idle = append(idle, m.Host+" is down")
		case !m.Streaming:
			idle = append(idle, m.Host+" does not follow")
		}
	}
	switch {
	case len(primaries) == 0:
		return "there is no primary: nothing takes writes"
	case len(primaries) > 1:
		return fmt.Sprintf("%d servers take writes: %s", len(primaries), strings.Join(primaries, ", "))
	}
	return strings.Join(idle, ", ")
}

// Cure is the operator's next command for what is wrong.
func (s Status) Cure() string {
	primaries := 0
	other := "HOST"
	for _, m := range s.Members {
		if m.Role == Primary {
			primaries++
		} else if !m.Streaming {
			other = m.Host
		}
	}
	switch primaries {
	case 0:
		return "Start it again, or: firedrill database promote"
	case 1:
		return "Start it, or: firedrill database rebuild " + other
	}
	return "Stop the wrong one now: firedrill database fence HOST"
}

func (s Status) String() string {
	var parts []string
	for _, m := range s.Members {
		part := m.Host + " " + string(m.Role)
		if m.Timeline > 0 {
			part += fmt.Sprintf(" %d/%X", m.Timeline, m.Position)
		}
		if m.Role == Down && m.Detail != "" {
			part += " (" + m.Detail + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// ErrReadOnly is what Driver.Write returns, wrapped, when the server answered and refused the write because it is no primary.
var ErrReadOnly = errors.New("takes no writes")

// Record is what a database, or its manager, has written down about itself.
type Record struct {
	Time time.Time `json:"time"` // zero: not told
	Host string    `json:"host,omitempty"`
	Text string    `json:"text"`
}

// Historian is a driver whose database keeps a history of its own.
type Historian interface {
	// History returns what was recorded, oldest first.
	History(ctx context.Context) ([]Record, error)
}

// Driver is one make of database. Methods may be called again after any failure; errors are *drill.Error where an operator can do something.
type Driver interface {
	// Status looks at every host. A host that does not answer is a member that is down, not an error.
	Status(ctx context.Context) (Status, error)
	// Fence makes sure that the host takes no writes any more, whatever restarts there, until Rebuild; it returns how. An error means that
	// this is not certain.
	Fence(ctx context.Context, move Move) (how string, err error)
	// Promote makes move.To the primary and returns once it says so itself.
	Promote(ctx context.Context, move Move) error
	// Write makes one write on the host and returns nil only when it was acknowledged; ErrReadOnly, wrapped, when it was refused.
	Write(ctx context.Context, host string) error
	// Rebuild makes the host a standby of the primary from, throwing away what only the host has, and returns once it follows; and takes back
	// what Promote did to go on without one. A host that follows already keeps what it has.
	Rebuild(ctx context.Context, host, from string) error
}
