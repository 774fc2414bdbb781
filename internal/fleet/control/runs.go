package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// runBook is the shelf of runs with what keeps a look at it from going through all of them: names of runs sort by time.
type runBook struct {
	shelf *shelf[fleet.Run]
	names names

	mu      sync.RWMutex       // guards the fields below
	active  map[string]bool    // not over yet
	ordered map[orderSum]place // by order, of runs that were read
	recent  map[string]latest
	whole   bool // all were read
}

// latest are the newest runs of a service, or on a host, of those that were read, so that a page about one of thousands does not go through all runs.
type latest struct {
	ids     []string // sorted, so the oldest first
	trimmed bool     // there were more
}

const latestMax = 20

// Keys of what latest runs are of.
func ofService(name string) string { return "service " + name }
func onHost(name string) string    { return "host " + name }

// place is a host of a run.
type place struct {
	run string
	at  int
}

// orderSum stands for the name of an order, which in memory is three times as long; there are as many orders as hosts were ever attacked.
type orderSum [16]byte

func sumOf(order string) orderSum {
	sum := sha256.Sum256([]byte(order))
	return orderSum(sum[:])
}

// openRuns reads the runs that are kept; news is told of each that changes from now on, whoever changes it.
func openRuns(ctx context.Context, store *store, news func(fleet.Run)) (*runBook, error) {
	b := &runBook{active: map[string]bool{}, ordered: map[orderSum]place{}, recent: map[string]latest{}}
	var err error
	b.shelf, err = openSettled(ctx, store, "runs", func(id string, run fleet.Run) {
		b.index(id, run)
		news(run)
	}, func(id string, text []byte) bool {
		settled := runSettled(text)
		if settled {
			b.names.insert(id)
		}
		return settled
	}, b.index)
	return b, err
}

// readAll reads all runs, until stop is closed.
func (b *runBook) readAll(stop <-chan struct{}) {
	b.shelf.readAll(stop)
	select {
	case <-stop:
	default:
		b.mu.Lock()
		b.whole = true
		b.mu.Unlock()
	}
}

// index takes up a run. The name is the one that is at hand already: the run's own would lie in memory once more.
func (b *runBook) index(id string, run fleet.Run) {
	b.names.insert(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if run.Done() {
		delete(b.active, id)
	} else {
		b.active[id] = true
	}
	for i, host := range run.Hosts {
		b.ordered[sumOf(host.Order)] = place{run: id, at: i}
		b.late(onHost(host.Name), id)
	}
	for _, service := range run.Services {
		b.late(ofService(service), id)
	}
}

// late takes up a run as one of the latest of its service or host. The lock is held.
func (b *runBook) late(of, id string) {
	l := b.recent[of]
	at, known := slices.BinarySearch(l.ids, id)
	switch {
	case known:
		return
	case len(l.ids) < latestMax:
		l.ids = slices.Insert(slices.Clip(l.ids), at, id) // who reads the list has it as it was
	case at == 0:
		l.trimmed = true
	default:
		l.ids, l.trimmed = slices.Insert(slices.Clone(l.ids[1:]), at-1, id), true
	}
	b.recent[of] = l
}

// gone takes a run out of the latest of its service or host. The lock is held.
func (b *runBook) gone(of, id string) {
	l := b.recent[of]
	at, known := slices.BinarySearch(l.ids, id)
	if !known {
		return
	}
	if l.ids = slices.Delete(slices.Clone(l.ids), at, at+1); len(l.ids) == 0 && !l.trimmed {
		delete(b.recent, of)
		return
	}
	b.recent[of] = l
}

// latest returns the newest runs of a service or on a host, the newest first.
func (b *runBook) latest(of string, count int, fits func(fleet.Run) bool) []fleet.Run {
	b.mu.RLock()
	l, whole := b.recent[of], b.whole
	b.mu.RUnlock()
	found := []fleet.Run{}
	for _, id := range slices.Backward(l.ids) {
		if run, ok := b.get(id); ok && len(found) < count {
			found = append(found, run)
		}
	}
	if !whole || l.trimmed && len(found) < count { // not all were read, or some of the latest were removed
		return b.newest("", count, fits)
	}
	return found
}

func (b *runBook) get(id string) (fleet.Run, bool) { return b.shelf.get(id) }

// put returns when the run is on the disk. A run that is new here must be new everywhere.
func (b *runBook) put(ctx context.Context, run fleet.Run) error { return b.shelf.put(ctx, run.ID, run) }

// going returns the runs that are not over, the oldest first.
func (b *runBook) going() []fleet.Run {
	b.mu.RLock()
	ids := make([]string, 0, len(b.active))
	for id := range b.active {
		ids = append(ids, id)
	}
	b.mu.RUnlock()
	slices.Sort(ids)
	runs := make([]fleet.Run, 0, len(ids))
	for _, id := range ids {
		if run, ok := b.get(id); ok {
			runs = append(runs, run)
		}
	}
	return runs
}

// of finds the run and the place of an order of a host.
func (b *runBook) of(host, order string) (run fleet.Run, at int, ok bool) {
	sum := sumOf(order)
	b.mu.RLock()
	p, ok := b.ordered[sum]
	whole := b.whole
	b.mu.RUnlock()
	if !ok && !whole { // just after a start, of a run that was over before
		b.readAll(nil)
		b.mu.RLock()
		p, ok = b.ordered[sum]
		b.mu.RUnlock()
	}
	if !ok {
		return run, 0, false
	}
	run, ok = b.get(p.run)
	return run, p.at, ok && p.at < len(run.Hosts) && run.Hosts[p.at].Key == host
}

// newest returns runs that fit, the newest first, from the one before a name on; an empty name is the end.
func (b *runBook) newest(before string, count int, fits func(fleet.Run) bool) []fleet.Run {
	return newest(&b.names, b.get, before, count, fits)
}

func (b *runBook) count() int { return b.names.count() }

// find returns the run of a name, or of the last characters of one.
func (b *runBook) find(id string) (fleet.Run, error) {
	if run, ok := b.get(id); ok {
		return run, nil
	}
	var found []string
	if len(id) >= runNameMin {
		found = b.names.ending(id)
	}
	if len(found) == 1 {
		if run, ok := b.get(found[0]); ok {
			return run, nil
		}
	}
	return fleet.Run{}, &drill.Error{Op: "run", Kind: drill.Invalid, Err: fmt.Errorf("%s called %q", countOf(len(found), "run"), id), Hint: "see: firedrill fleet runs"}
}

// runNameMin is how many of the last characters of a name may stand for it.
const runNameMin = 6

// Runs returns runs that fit, the newest first, from the one before a name on (empty: from the newest), and how many there are in all.
func (c *Control) Runs(before string, count int, fits func(fleet.Run) bool) (runs []fleet.Run, all int) {
	return c.runs.newest(before, count, fits), c.runs.count()
}

// RunsOf returns the newest runs on hosts of a service, the newest first; at most twenty are found fast.
func (c *Control) RunsOf(service string, count int) []fleet.Run {
	return c.runs.latest(ofService(service), count, func(run fleet.Run) bool { return slices.Contains(run.Services, service) })
}

// RunsOn returns the newest runs on a host, the newest first; at most twenty are found fast.
func (c *Control) RunsOn(host string, count int) []fleet.Run {
	return c.runs.latest(onHost(host), count, func(run fleet.Run) bool {
		return slices.ContainsFunc(run.Hosts, func(h fleet.RunHost) bool { return h.Name == host })
	})
}

// LookRuns returns runs as Runs does, but looks at twenty thousand at most. rest is the name from before which to look further; empty: it has seen all,
// or found as many as were asked for.
func (c *Control) LookRuns(before string, count int, fits func(fleet.Run) bool) (runs []fleet.Run, all int, rest string) {
	runs, rest = look(&c.runs.names, c.runs.get, before, count, lookedAtPage, fits)
	return runs, c.runs.count(), rest
}

// clocksOff is by how much the clocks of servers that take over from each other, or one clock that is set, may differ.
const clocksOff = time.Hour

// RunsOfDrill returns the newest attacks of a drill, the newest first. They were begun while it was under way, which is in their names.
func (c *Control) RunsOfDrill(drill fleet.DrillRun, count int) []fleet.Run {
	until := drill.Ended
	if until.IsZero() {
		until = time.Now()
	}
	found := []fleet.Run{}
	for _, id := range slices.Backward(c.runs.names.between(nameAt(drill.Started.Add(-clocksOff)), nameAt(until.Add(clocksOff)))) {
		if run, ok := c.runs.get(id); ok && run.Drill == drill.ID && len(found) < count {
			found = append(found, run)
		}
	}
	return found
}

// nameAt is where names of a moment begin: they are UUIDs of version 7.
func nameAt(at time.Time) string {
	ms := max(at.UnixMilli(), 0)
	return fmt.Sprintf("%08x-%04x", ms>>16, ms&0xffff)
}

// Going returns the runs that are not over.
func (c *Control) Going() []fleet.Run { return c.runs.going() }

// FindRun returns the run of a name, or of the last characters of one.
func (c *Control) FindRun(id string) (fleet.Run, error) { return c.runs.find(id) }

// countOf begins a sentence about a number of things.
func countOf(number int, thing string) string {
	if number == 0 {
		return "no " + thing + " is"
	}
	return fmt.Sprintf("%d %ss are", number, thing)
}
