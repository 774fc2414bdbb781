package aim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// Aim is whom an attack means.
type Aim struct {
	Which  procs.Selector
	Group  *cgroups.Group  // all in it, instead of Which; nil for none
	Meant  []procs.Process // at the time of the plan
	Spared []procs.Process // likewise; no attack may touch them

	census procs.Census
}

// At aims at those who match, or, when the facts are of a control group, at all in it. Nobody, or a group with somebody in it whom no attack
// may touch, is an error of kind drill.Refused.
func At(kind string, which procs.Selector, facts attack.Facts, inGroup bool) (Aim, error) {
	a := Aim{Which: which}
	var err error
	if inGroup {
		a.Group = &facts.Group.Group
		a.Meant, err = attack.MeantGroup(kind, facts)
	} else {
		a.Meant, a.Spared, err = attack.MeantProcesses(kind, which, facts)
	}
	return a, err
}

// Lines are those of a plan: do says what is done to one, also what is done later.
func (a Aim) Lines(do func(procs.Process) string, also string) []string {
	var lines []string
	for _, p := range a.Meant {
		lines = append(lines, do(p))
	}
	for _, p := range a.Spared {
		lines = append(lines, fmt.Sprintf("spare %s: %s", p, p.Protected))
	}
	return append(lines, also)
}

// Now returns who is meant now, but for those that held knows already.
func (a *Aim) Now(held func(procs.ID) bool) ([]procs.Process, error) {
	all, err := a.census.Survey()
	if err != nil {
		return nil, err
	}
	var meant []procs.Process
	if a.Group == nil {
		meant, _ = a.Which.Select(all)
	} else {
		inside, err := a.Group.Processes()
		if err != nil {
			return nil, err
		}
		meant = slices.DeleteFunc(all, func(p procs.Process) bool { return p.Protected != "" || !slices.Contains(inside, p.PID) })
	}
	return slices.DeleteFunc(slices.Clone(meant), func(p procs.Process) bool { return held(p.ID) }), nil
}

// lookEvery is twice within the shortest attack.
const lookEvery = 500 * time.Millisecond

// Again looks again and again until ctx ends, and returns the first error of look that is not the end itself.
func Again(ctx context.Context, look func(context.Context) error) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// Held finds the first of the changes that holds a T which matches.
func Held[T any](changes []attack.Change, match func(T) bool) (held T, ok bool) {
	for _, change := range changes {
		var one T
		if json.Unmarshal(change.Undo, &one) == nil && match(one) {
			return one, true
		}
	}
	return held, false
}

// Gone is what an attack says that finds nobody when it starts.
func Gone(kind, why string) error {
	return &drill.Error{Op: "attack " + kind, Kind: drill.Refused, Err: errors.New(why), Hint: "look again who is there, and order it again"}
}

// Explain says why a process could not be touched; do is the verb.
func Explain(kind, do string, p procs.Process, err error) error {
	e := &drill.Error{Op: "attack " + kind, Kind: drill.Failed, Err: fmt.Errorf("%s %s: %w", do, p, err)}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		e.Kind, e.Hint = drill.Unsupported, "run it as root, or as the user of the process"
	}
	return e
}

// ExplainGroup says why a control group could not be read or written; nil stays nil.
func ExplainGroup(kind string, err error) error {
	var known *drill.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &drill.Error{Op: "attack " + kind, Kind: drill.Failed, Err: err}
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV):
		e.Kind, e.Err = drill.Unproven, fmt.Errorf("the group is gone: %w", err)
	case errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS):
		e.Kind, e.Hint = drill.Unsupported, "run it as root, where /sys/fs/cgroup can be written"
	}
	return e
}
