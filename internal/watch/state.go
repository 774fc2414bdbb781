package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/failover"
)

// stateVersion is written into the file; another version is refused, since guessing at it could move answers.
const stateVersion = 1

// savedState is what must survive a restart: the answers, and the alarms that spoke against a host. Without the latter, a watch that
// starts anew would take a host that has been dead for hours for healthy.
type savedState struct {
	Version   int                       `json:"version"`
	Service   string                    `json:"service"`
	Names     map[string]failover.State `json:"names"`
	Unhealthy []string                  `json:"unhealthy_by,omitempty"`
	// Told is what each action told last of each alarm, so that a restart neither repeats it nor forgets that somebody waits for the end.
	Told map[string]map[string]alarm.State `json:"told,omitempty"`
}

func (c *core) save() savedState {
	saved := savedState{Version: stateVersion, Service: c.service, Names: map[string]failover.State{}}
	for _, n := range c.names {
		saved.Names[n.policy.Name] = n.state
	}
	for _, a := range c.alarms {
		if a.bad {
			saved.Unhealthy = append(saved.Unhealthy, a.alarm.Rule.Name)
		}
	}
	for _, a := range c.actions {
		if len(a.told) == 0 {
			continue
		}
		if saved.Told == nil {
			saved.Told = map[string]map[string]alarm.State{}
		}
		saved.Told[a.action.Name] = maps.Clone(a.told)
	}
	return saved
}

// recall takes over what the watch before this one has told.
func (c *core) recall(saved *savedState) {
	if saved == nil {
		return
	}
	for _, a := range c.actions {
		maps.Copy(a.told, saved.Told[a.action.Name])
	}
}

// loadState reads the state file; a file that is not there is no state. A file that cannot be used is an error: to begin anew in silence
// could move the answer onto a dead host.
func loadState(path, service string) (*savedState, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var saved savedState
	if err == nil {
		err = json.Unmarshal(text, &saved)
	}
	if err == nil && saved.Version != stateVersion {
		err = fmt.Errorf("version %d is not %d", saved.Version, stateVersion)
	}
	if err == nil && saved.Service != service {
		err = fmt.Errorf("it belongs to service %q", saved.Service)
	}
	if err != nil {
		return nil, &drill.Error{
			Op: "watch", Kind: drill.Invalid, Err: fmt.Errorf("state file %s: %w", path, err),
			Hint: "Name another file with --state, or move this one away to begin with the primary environment.",
		}
	}
	return &saved, nil
}

// writeState replaces the file in one step: after a power cut there is the old state or the new one.
func writeState(path string, saved savedState) error {
	text, err := json.MarshalIndent(saved, "", "  ")
	if err == nil {
		err = durable.SaveText(path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}

// saver writes states in a goroutine of its own, so that a disk that hangs does not stop the watch. Only the newest state is written.
type saver struct {
	path string
	wake chan struct{}

	mu      sync.Mutex // guards the fields below
	write   func(path string, saved savedState) error
	pending *savedState
	waiting []chan struct{} // closed when pending, or a newer one, is written
	err     error           // of the last write
	hangs   bool            // a write has taken longer than someone waited
}

func newSaver(path string) *saver {
	return &saver{path: path, write: writeState, wake: make(chan struct{}, 1)}
}

// run writes until stop is closed, and what is pending then.
func (s *saver) run(stop <-chan struct{}) {
	for {
		select {
		case <-s.wake:
			s.writePending()
		case <-stop:
			s.writePending()
			return
		}
	}
}

func (s *saver) writePending() {
	s.mu.Lock()
	pending, waiting, write := s.pending, s.waiting, s.write
	s.pending, s.waiting = nil, nil
	s.mu.Unlock()
	if pending == nil {
		return
	}
	err := write(s.path, *pending)
	s.mu.Lock()
	s.err, s.hangs = err, false
	s.mu.Unlock()
	for _, done := range waiting {
		close(done)
	}
}

// save hands a state over and waits until it is written, but no longer than limit. It returns why the last state is not on disk.
func (s *saver) save(saved savedState, limit time.Duration) error {
	if s == nil {
		return nil
	}
	done := make(chan struct{})
	s.mu.Lock()
	s.pending = &saved
	s.waiting = append(s.waiting, done)
	hangs := s.hangs
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	if hangs {
		return fmt.Errorf("state file %s: the disk hangs", s.path) // once was long enough to wait
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return s.lastError()
	case <-timer.C:
		s.mu.Lock()
		s.hangs = true
		s.mu.Unlock()
		return fmt.Errorf("state file %s: not written after %s", s.path, limit)
	}
}

func (s *saver) lastError() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
