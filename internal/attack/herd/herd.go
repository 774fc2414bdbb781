package herd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// prefix begins the name of every group of ours. The GUID follows.
const prefix = "firedrill-"

const (
	roundsMax  = 10 // a process may fork while it is moved; one that forks faster than we can move is not what a drill is for
	goneWithin = 2 * time.Second
	gonePoll   = 2 * time.Millisecond
)

// Hooks are the crash points and the planted bugs of tests.
type Hooks struct {
	Step func(name string) // called before each durable effect
	Keep bool              // planted: what was moved stays where it is
}

func (h Hooks) mark(name string) {
	if h.Step != nil {
		h.Step(name)
	}
}

// Order says whom to gather.
type Order struct {
	Kind, GUID string
	Which      procs.Selector
	Meant      []procs.Process // at the time of the plan
	Spared     []procs.Process
	Undoer     attack.Undoer // takes back all that the attack's journal holds
	Hooks      Hooks
}

// Step gathers processes. It comes before the step that tells their packets apart.
type Step struct {
	order   Order
	journal *attack.Journal

	where []moved // of those that were written down

	mu     sync.Mutex // guards groups
	groups []attack.CgroupScope
}

// New makes the step of an order.
func New(o Order) *Step { return &Step{order: o} }

// moved is what undoing needs.
type moved struct {
	From  string `json:"moved_from"` // the directory of the group in which the process was
	Group string `json:"moved_to"`   // of ours, below it
}

// Lines implements attack.Step.
func (s *Step) Lines() []string {
	var lines []string
	for _, p := range s.order.Meant {
		lines = append(lines, fmt.Sprintf("put %s into a control group of its own, %s%s, below the one where it is", p, prefix, s.order.GUID))
	}
	for _, p := range s.order.Spared {
		lines = append(lines, fmt.Sprintf("spare %s: %s", p, p.Protected))
	}
	return lines
}

// Remains implements attack.Step.
func (*Step) Remains() attack.Remains { return attack.RemainsUntilStart }

// ByHand implements attack.ByHand.
func (s *Step) ByHand() string {
	return "take it back with: firedrill halt; or write the numbers in cgroup.procs of each group " + prefix + s.order.GUID + " into that of the group above it, and remove it with rmdir"
}

// Keep implements attack.Recorded.
func (s *Step) Keep(journal *attack.Journal) { s.journal = journal }

// Apply implements attack.Step.
func (s *Step) Apply(ctx context.Context, _ time.Time) error {
	root, err := unified()
	if err != nil {
		return s.cannot(err, "")
	}
	found := 0
	for range roundsMax {
		all, err := procs.Survey()
		if err != nil {
			return err
		}
		meant, _ := s.order.Which.Select(all)
		fresh, err := s.fresh(root, meant)
		if err != nil {
			return err
		}
		if len(fresh) == 0 {
			break
		}
		if err := s.record(ctx, fresh); err != nil {
			return err
		}
		for pid, to := range fresh {
			if err := s.move(pid, to); err != nil {
				return err
			}
			found++
		}
	}
	if found == 0 {
		return &drill.Error{Op: "attack " + s.order.Kind, Kind: drill.Refused, Err: errors.New("what matched is gone")}
	}
	return s.look(root)
}

func (s *Step) cannot(err error, hint string) error {
	if hint == "" {
		hint = "processes are told apart by control groups of version 2, which root can make; or use --user or --cgroup"
	}
	return &drill.Error{Op: "attack " + s.order.Kind, Kind: drill.Unsupported, Err: fmt.Errorf("--process: %w", err), Hint: hint}
}

// unified returns where version 2 is mounted.
func unified() (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		left, right, ok := strings.Cut(line, " - ")
		if fields := strings.Fields(left); ok && len(fields) > 4 && strings.HasPrefix(right, "cgroup2 ") {
			return fields[4], nil
		}
	}
	return "", errors.New("control groups of version 2 are not mounted")
}

// groupOf returns the group of version 2 in which a process is, as /proc shows it.
func groupOf(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found {
			return name, nil
		}
	}
	return "", errors.New("it has no control group of version 2")
}

// fresh says where those go that are not there yet.
func (s *Step) fresh(root string, meant []procs.Process) (map[int]moved, error) {
	fresh := map[int]moved{}
	for _, p := range meant {
		name, err := groupOf(p.PID)
		if err != nil {
			continue // gone meanwhile
		}
		base := filepath.Base(name)
		if base == prefix+s.order.GUID {
			continue
		}
		if guid, ours := strings.CutPrefix(base, prefix); ours && attack.CheckGUID(guid) == nil {
			return nil, &drill.Error{Op: "attack " + s.order.Kind, Kind: drill.Refused, Err: fmt.Errorf("another attack holds %s", p),
				Hint: "see: firedrill status; wait until it has ended, or narrow both with --cgroup or --user"}
		}
		from := filepath.Join(root, name)
		fresh[p.PID] = moved{From: from, Group: filepath.Join(from, prefix+s.order.GUID)}
	}
	return fresh, nil
}

// record writes down what is about to be done.
func (s *Step) record(ctx context.Context, fresh map[int]moved) error {
	s.order.Hooks.mark("write down")
	return s.journal.Record(ctx, func([]attack.Change) ([]attack.Change, error) {
		var changes []attack.Change
		for pid, to := range fresh {
			undo, err := json.Marshal(to)
			if err != nil {
				return nil, err
			}
			s.where = append(s.where, to)
			changes = append(changes, attack.Change{What: fmt.Sprintf("process %d is in the control group %s", pid, to.Group), Undo: undo})
		}
		return changes, nil
	})
}

func (s *Step) move(pid int, to moved) error {
	s.order.Hooks.mark("make " + to.Group)
	if err := os.Mkdir(to.Group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return s.cannot(err, "")
	}
	s.order.Hooks.mark("move " + strconv.Itoa(pid))
	if err := put(pid, to.Group); err != nil {
		return s.cannot(fmt.Errorf("move process %d: %w", pid, err), "")
	}
	return nil
}

// put moves a process; one that is gone need not be moved.
func put(pid int, group string) error {
	file, err := os.OpenFile(filepath.Join(group, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strconv.Itoa(pid))
	if errors.Is(err, unix.ESRCH) {
		err = nil
	}
	return errors.Join(err, file.Close())
}

// look finds out how the kernel calls the groups.
func (s *Step) look(root string) error {
	var groups []attack.CgroupScope
	for _, directory := range s.directories() {
		var is unix.Stat_t
		if err := unix.Stat(directory, &is); err != nil {
			return fmt.Errorf("herd: %s: %w", directory, err)
		}
		name := strings.TrimPrefix(directory, root)
		groups = append(groups, attack.CgroupScope{Group: cgroups.Group{Name: name, Directory: directory, V2: true}, ID: is.Ino, Level: uint32(strings.Count(name, "/"))})
	}
	s.mu.Lock()
	s.groups = groups
	s.mu.Unlock()
	return nil
}

// directories are those of our groups.
func (s *Step) directories() []string {
	var all []string
	for _, where := range s.where {
		if !slices.Contains(all, where.Group) {
			all = append(all, where.Group)
		}
	}
	return all
}

// Groups are the groups in which the processes are; none before Apply.
func (s *Step) Groups() []attack.CgroupScope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups
}

// Revert implements attack.Step.
func (s *Step) Revert(ctx context.Context) error { return s.journal.Undo(ctx, s.order.Undoer) }

// Residue implements attack.Verified.
func (s *Step) Residue(context.Context) ([]string, error) {
	var left []string
	for _, group := range s.Groups() {
		if !group.Gone() {
			left = append(left, group.String())
		}
	}
	return left, nil
}

func read(change attack.Change) (moved, bool) {
	var where moved
	err := json.Unmarshal(change.Undo, &where)
	return where, err == nil && where.From != "" && where.Group != ""
}

// Is reports whether a change is one of this package.
func Is(change attack.Change) bool {
	_, is := read(change)
	return is
}

// Undoer takes back what a Step did. Kinds that use a Step hold one.
type Undoer struct{ Hooks Hooks }

// Undo implements attack.Undoer: all that is in the group goes back to where it came from, and the group is removed.
func (u Undoer) Undo(ctx context.Context, change attack.Change, _ []attack.Change) error {
	where, ok := read(change)
	if !ok || filepath.Dir(where.Group) != where.From || !strings.HasPrefix(filepath.Base(where.Group), prefix) {
		return fmt.Errorf("herd: %s is no group of ours", change.Undo)
	}
	if u.Hooks.Keep {
		return nil
	}
	deadline := time.Now().Add(goneWithin)
	for ctx.Err() == nil {
		group := cgroups.Group{Name: where.Group, Directory: where.Group, V2: true}
		pids, err := group.Processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			u.Hooks.mark("move back")
			if err := put(pid, where.From); err != nil {
				return fmt.Errorf("herd: move process %d back to %s: %w", pid, where.From, err)
			}
		}
		u.Hooks.mark("remove")
		err = os.Remove(where.Group)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("herd: %w", err)
		}
		<-time.After(gonePoll) // a process that has just ended keeps its group for a moment
	}
	return ctx.Err()
}
