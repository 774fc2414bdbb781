package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Meter proves the effect of a job by what the kernel says of the worker and of the host. Its methods are not called at the same time.
type Meter interface {
	// Begin is called when the worker is ready.
	Begin(pid int, report json.RawMessage) error
	// Read is called now and then while the impact is in force, and a last time before it ends if the worker is still alive.
	Read(pid int) error
	// Evidence is called after the end; see attack.Evidencing.
	Evidence() (bit bool, sentences []string)
}

// Step is an attack.Step that is carried out by a worker.
type Step struct {
	Job   string // its name in the table given to Main
	GUID  string // of the attack
	Args  any    // for the job, as JSON
	Says  []string
	Meter Meter
	Hooks Hooks

	worker *process

	mu       sync.Mutex // guards the meter
	metering bool       // Begin has been called
}

// Hooks are for tests. The zero value plants nothing.
type Hooks struct {
	Step func(name string) // called before each durable effect
	Bug  string
}

// The bugs that can be planted into every worker.
const (
	bugOutlives   = "outlives us" // neither death signal nor pipe
	bugNoDeadline = "no deadline" // no timer of the kernel
	bugAwake      = "awake only"  // a timer that stands still while the host sleeps
	bugSlow       = "slow set-up" // never ready
)

func (s *Step) mark(name string) {
	if s.Hooks.Step != nil {
		s.Hooks.Step(name)
	}
}

// readFirst is how often the meter is read in the beginning: what it says of the end is this old, or a tenth of the attack's length, and never
// more than a second.
const readFirst = 200 * time.Millisecond

// Lines implements attack.Step.
func (s *Step) Lines() []string { return s.Says }

// Remains implements attack.Step: all that a worker holds goes with it.
func (*Step) Remains() attack.Remains { return attack.RemainsNothing }

// Apply implements attack.Step.
func (s *Step) Apply(ctx context.Context, deadline time.Time) error {
	s.mark("start the worker")
	worker, err := start(ctx, s, deadline)
	if err != nil {
		return err
	}
	s.worker = worker
	s.mark("read the meter")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metering = true
	if err := s.Meter.Begin(worker.pid, worker.report); err != nil && worker.alive() {
		return fmt.Errorf("read the kernel's figures: %w", err)
	}
	return nil
}

// Tend implements attack.Tended.
func (s *Step) Tend(ctx context.Context, _ func(history.Fact)) error {
	pace := attack.Pace{Least: readFirst}
	timer := time.NewTimer(pace.Next())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			s.read()
			timer.Reset(pace.Next())
		case <-s.worker.done:
			if time.Until(s.worker.deadline) < slack {
				<-ctx.Done()
				return nil
			}
			return &drill.Error{Op: "attack " + s.Job, Kind: drill.Unproven, Err: fmt.Errorf("its worker ended before the deadline: %s", s.worker.howEnded()),
				Hint: "if memory ran out, the kernel's log says so: dmesg; ask for less"}
		}
	}
}

// read reads the meter. A reading that fails leaves the one before it; the evidence says how far it reaches.
func (s *Step) read() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.metering && s.worker.alive() {
		_ = s.Meter.Read(s.worker.pid)
	}
}

// Revert implements attack.Step.
func (s *Step) Revert(ctx context.Context) error {
	if s.worker == nil {
		return nil
	}
	s.read()
	s.mark("end the worker")
	if s.Hooks.Bug == bugKeeps {
		return nil
	}
	return s.worker.kill(ctx)
}

// bugKeeps is a Revert that does nothing.
const bugKeeps = "keeps the worker"

// Residue implements attack.Verified.
func (s *Step) Residue(context.Context) ([]string, error) {
	if s.worker == nil || !s.worker.alive() {
		return nil, nil
	}
	return []string{fmt.Sprintf("worker process %d of %s", s.worker.pid, s.Job)}, nil
}

// ByHand implements attack.ByHand.
func (s *Step) ByHand() string {
	if s.worker == nil {
		return "firedrill halt"
	}
	return fmt.Sprintf("end the worker by hand: kill -KILL %d; with it the kernel takes everything back", s.worker.pid)
}

// Evidence implements attack.Evidencing.
func (s *Step) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.metering {
		return false, []string{"the worker was never ready"}
	}
	return s.Meter.Evidence()
}

// Arguments reads what a job was told.
func Arguments[T any](d Duty) (T, error) {
	var args T
	if err := json.Unmarshal(d.Args, &args); err != nil {
		return args, errors.Join(errors.New("worker: arguments"), err)
	}
	return args, nil
}
