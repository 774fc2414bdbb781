package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

// Retention says how long history is kept. Whatever it says, these stay: what is not over, what may not be reverted, the newest verdicts of each
// drill of each service, what the schedule names as its last, and logs on which a stage may rest.
type Retention struct {
	Age  time.Duration // of runs, drills, verdicts and the audit log; 0: for ever
	Runs int           // of runs, of drills, and of verdicts, of each; 0: as many as there are
}

// ProofLife is how long logs of drills are kept at least, whatever the retention says: no evidence for a stage holds for longer than a year.
const ProofLife = 366 * 24 * time.Hour

const (
	pruneEvery   = 10 * time.Minute
	pruneFirst   = time.Minute
	pruneBatch   = 500 // of each at a time: what is removed is written to the disk one by one
	pruneMax     = 2 * time.Minute
	keptVerdicts = 2 // of each drill of each service: results are compared with the one before
)

const subjectPruned = "fd.pruned"

// gone is a value that was removed from a shelf.
type gone struct {
	Key      string `json:"key"`
	Revision uint64 `json:"revision"`
}

// pruned tells the other servers what was removed.
type pruned struct {
	Runs    []gone   `json:"runs,omitempty"`
	Drills  []gone   `json:"drills,omitempty"`
	Records []string `json:"records,omitempty"`
}

// prunable is one thing that may be removed.
type prunable struct {
	id   string
	at   time.Time
	held bool // by what the retention does not touch
}

// beyond names what is beyond the retention, of things that come the oldest first.
func (r Retention) beyond(all []prunable, now time.Time, most int) (ids []string) {
	over := 0
	if r.Runs > 0 {
		over = len(all) - r.Runs
	}
	for i, one := range all {
		if len(ids) == most {
			break
		}
		if !one.held && (i < over || r.Age > 0 && one.at.Before(now.Add(-r.Age))) {
			ids = append(ids, one.id)
		}
	}
	return ids
}

// prune removes what is beyond the retention, or only counts it. Of several servers the one that leads removes what all share.
func (c *Control) prune(ctx context.Context, now time.Time, dry bool) (fleet.Pruned, error) {
	c.pruning.Lock()
	defer c.pruning.Unlock()
	done := fleet.Pruned{DryRun: dry, Age: drill.Seconds(c.options.Retention.Age), Most: c.options.Retention.Runs, Runs: []string{}, Drills: []string{}, Verdicts: []string{}}
	var failed error
	if c.options.Retention != (Retention{}) && c.lead.leads() {
		failed = c.pruneShared(ctx, now, dry, &done)
	}
	if !dry {
		failed = errors.Join(failed, c.clearDrills(now), c.audit.rotate(now))
	}
	if age := c.options.Retention.Age; age > 0 {
		var err error
		done.AuditLogs, err = c.pruneAudit(now.Add(-age), dry)
		failed = errors.Join(failed, err)
		if c.shared != nil && c.lead.leads() {
			done.AuditEntries, err = c.shared.prune(ctx, now.Add(-age), dry)
			failed = errors.Join(failed, err)
		}
	}
	if !dry && len(done.Runs)+len(done.Drills)+len(done.Verdicts)+done.AuditLogs+done.AuditEntries > 0 {
		text := fmt.Sprintf("the retention removes %d runs, %d drills, %d verdicts, and %d audit logs", len(done.Runs), len(done.Drills), len(done.Verdicts), done.AuditLogs)
		if done.AuditEntries > 0 {
			text += fmt.Sprintf(", and of the audit logs of all servers %d entries", done.AuditEntries)
		}
		c.record("%s", text)
	}
	return done, failed
}

func (c *Control) pruneShared(ctx context.Context, now time.Time, dry bool, done *fleet.Pruned) error {
	named := map[string]bool{} // by the schedule
	for _, one := range c.scheduled() {
		named[one.Last] = true
	}
	r := c.options.Retention
	drills, logs := c.prunableDrills(now, named)
	done.Drills = append(done.Drills, r.beyond(drills, now, pruneBatch)...)
	verdicts := c.records.prunable(logs, c.options.Heedless)
	done.Verdicts = append(done.Verdicts, r.beyond(verdicts, now, pruneBatch)...)
	left := map[string]bool{}
	for _, one := range drills {
		left[one.id] = true
	}
	for _, id := range done.Drills {
		delete(left, id)
	}
	done.Runs = append(done.Runs, r.beyond(c.prunableRuns(now, named, left), now, pruneBatch)...)
	if dry {
		return nil
	}
	var told pruned
	var failed error
	for _, id := range done.Drills {
		run, _ := c.drills.get(id)
		revision, err := c.drills.drop(ctx, id)
		if err != nil {
			failed = errors.Join(failed, err)
			break
		}
		told.Drills = append(told.Drills, gone{id, revision})
		failed = errors.Join(failed, c.clearDrill(run.Result))
	}
	for _, id := range done.Runs {
		run, ok := c.runs.get(id)
		if !ok {
			continue
		}
		// The journals first: a run without one is found again, a journal without a run is not.
		for _, host := range run.Hosts {
			if err := c.journal.Purge(ctx, jetstream.WithPurgeSubject(journalSubject(host.Key, host.Order))); err != nil {
				return errors.Join(failed, err)
			}
		}
		revision, err := c.runs.shelf.drop(ctx, id)
		if err != nil {
			failed = errors.Join(failed, err)
			break
		}
		told.Runs = append(told.Runs, gone{id, revision})
	}
	dropped, err := c.dropRecords(ctx, done.Verdicts)
	told.Records, failed = dropped, errors.Join(failed, err)
	c.forget(told)
	c.say(subjectPruned, told)
	return failed
}

// prunableRuns are the runs, the oldest first. drills are those that stay: their attacks stay with them.
func (c *Control) prunableRuns(now time.Time, named, drills map[string]bool) []prunable {
	newest := map[string]bool{} // services of which a newer run was seen
	all := []prunable{}
	for _, id := range slices.Backward(c.runs.names.before("", c.runs.count())) {
		run, ok := c.runs.get(id)
		if !ok {
			continue
		}
		held := named[id] || drills[run.Drill] || !run.Done() || now.Before(run.Deadline.Add(c.options.Margin)) || len(run.NotReverted()) > 0
		for _, service := range run.Services {
			held = held || !newest[service]
			newest[service] = true
		}
		all = append(all, prunable{id, run.Start, held && !c.options.Heedless})
	}
	slices.Reverse(all)
	return all
}

// prunableDrills are the drills, the oldest first, and the results of those whose logs stay.
func (c *Control) prunableDrills(now time.Time, named map[string]bool) (all []prunable, logs map[string]bool) {
	drills := c.drills.values()
	slices.SortFunc(drills, func(a, b fleet.DrillRun) int {
		return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.ID, b.ID))
	})
	seen := map[string]int{}
	logs = map[string]bool{}
	for _, run := range slices.Backward(drills) {
		held := named[run.ID] || !run.Done() || run.Left || now.Before(run.Until.Add(c.options.Margin)) || now.Sub(run.Started) < ProofLife
		of := run.Request.Service + "\n" + run.Request.Drill
		if run.Outcome == fleet.OutcomeSkipped {
			of += "\nskipped" // it must not stand in the place of a verdict
		}
		held = newestOf(seen, of, run.Outcome) || held
		held = held && !c.options.Heedless
		logs[run.Result] = held
		all = append(all, prunable{run.ID, run.Started, held})
	}
	slices.Reverse(all)
	return all, logs
}

// newestOf reports whether one that comes the newest first is among the newest of its name, or among the newest of it that are conclusive.
func newestOf(seen map[string]int, name, outcome string) bool {
	seen[name]++
	among := seen[name] <= keptVerdicts
	if outcome != string(history.Inconclusive) && outcome != fleet.OutcomeSkipped && outcome != "" {
		seen[name+"\nconclusive"]++
		among = among || seen[name+"\nconclusive"] <= keptVerdicts
	}
	return among
}

// drillOf is the drill in the name of a step: "drill lose-db on green (chosen web2)" is lose-db.
func drillOf(step string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(step, "drill "), " on ")
	return name
}

// prunable are the verdicts, the oldest first.
func (r *records) prunable(logs map[string]bool, heedless bool) []prunable {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := []prunable{}
	for service, list := range r.all {
		seen := map[string]int{}
		for i, one := range slices.Backward(list) {
			record := r.read(one)
			held := record.NotReverted || logs[record.ID] || i == len(list)-1
			for _, step := range record.Steps {
				if step.Kind == "drill" {
					held = newestOf(seen, service+"\n"+drillOf(step.Name), step.Outcome) || held
				}
			}
			all = append(all, prunable{record.ID, record.Started, held && !heedless})
		}
	}
	slices.SortFunc(all, func(a, b prunable) int { return strings.Compare(a.id, b.id) }) // they begin with the time
	return all
}

// horizon is what is kept of verdicts that were removed: those that are as old are not taken up again, wherever their directories still lie.
type horizon struct {
	Verdict string `json:"verdict"`
}

const horizonKey = "horizon"

// dropRecords removes verdicts for good, and returns those that it has.
func (c *Control) dropRecords(ctx context.Context, ids []string) (dropped []string, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if _, err := c.retained.change(ctx, horizonKey, func(was horizon, _ bool) (horizon, error) {
		return horizon{max(was.Verdict, slices.Max(ids))}, nil
	}); err != nil {
		return nil, err
	}
	stream, err := c.store.js.Stream(ctx, strings.ToUpper(c.store.prefix)+recordsStream)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		c.records.mu.RLock()
		at := c.records.known[id]
		c.records.mu.RUnlock()
		if at == 0 {
			continue // another server has kept it, and its place is known within a minute
		}
		if err := stream.DeleteMsg(ctx, at); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return dropped, fmt.Errorf("fleet: remove verdict %s: %w", id, err)
		}
		dropped = append(dropped, id)
	}
	return dropped, nil
}

// forget takes out of memory what was removed, by this server or another one.
func (c *Control) forget(what pruned) {
	for _, one := range what.Runs {
		c.runs.forget(one)
	}
	for _, one := range what.Drills {
		if c.drills.forget(one) {
			c.drillNames.remove(one.Key)
		}
	}
	c.records.forget(what.Records)
}

func (c *Control) heardPruned(message *nats.Msg) {
	var what pruned
	if json.Unmarshal(message.Data, &what) == nil {
		c.forget(what)
	}
}

// forget takes a run out.
func (b *runBook) forget(one gone) {
	run, known := b.get(one.Key)
	if !known || !b.shelf.forget(one) {
		return
	}
	b.names.remove(one.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.active, one.Key)
	for _, host := range run.Hosts {
		delete(b.ordered, sumOf(host.Order))
		b.gone(onHost(host.Name), run.ID)
	}
	for _, service := range run.Services {
		b.gone(ofService(service), run.ID)
	}
}

// forget takes verdicts out.
func (r *records) forget(ids []string) {
	if len(ids) == 0 {
		return
	}
	out := map[string]bool{}
	for _, id := range ids {
		out[id] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for service, list := range r.all {
		list = slices.DeleteFunc(list, func(one keptRecord) bool { return out[one.id] })
		if r.all[service] = list; len(list) == 0 {
			delete(r.all, service)
		}
	}
	for id := range out {
		delete(r.known, id)
	}
}

// clearDrills removes the directories of drills that are not known any more, and old enough that nothing rests on them.
func (c *Control) clearDrills(now time.Time) error {
	entries, err := os.ReadDir(c.DrillsDirectory())
	if errors.Is(err, os.ErrNotExist) || c.options.Retention == (Retention{}) {
		return nil
	}
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, run := range c.drills.values() {
		known[run.Result] = true
	}
	var failed error
	for _, entry := range entries {
		at, err := resultTime(entry.Name())
		if err == nil && !known[entry.Name()] && !c.records.has(entry.Name()) && now.Sub(at) > ProofLife {
			failed = errors.Join(failed, c.clearDrill(entry.Name()))
		}
	}
	return failed
}

// clearDrill removes log and reports of a drill.
func (c *Control) clearDrill(result string) error {
	if _, err := resultTime(result); err != nil {
		return nil //nolint:nilerr // it is no directory of ours
	}
	return os.RemoveAll(filepath.Join(c.DrillsDirectory(), result))
}

// resultTime is when a drill began, by the name of its directory.
func resultTime(result string) (time.Time, error) {
	text, _, _ := strings.Cut(result, "-")
	return time.Parse(resultForm, text)
}

// keepPruned prunes now and then, until ctx ends.
func (c *Control) keepPruned(ctx context.Context) {
	wait := time.NewTimer(pruneFirst)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		pass, cancel := context.WithTimeout(ctx, pruneMax)
		done, err := c.prune(pass, time.Now(), false)
		cancel()
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "the retention cannot be kept", "error", err)
		}
		wait.Reset(pruneEvery)
		if max(len(done.Runs), len(done.Drills), len(done.Verdicts)) == pruneBatch {
			wait.Reset(time.Second) // there is more
		}
	}
}
