//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/schedule"
)

const (
	// lookEvery bounds how long the scheduler sleeps: a clock that was set, or a host that slept, is noticed within this.
	lookEvery = 30 * time.Second
	// fileEvery is how often the service file is read again: a person who has saved it looks whether it was taken.
	fileEvery = 2 * time.Second
	// bookRunsMax is how many runs the book keeps; the logs themselves are kept for ever.
	bookRunsMax = 200
)

// scheduledRun is one run in the book.
type scheduledRun struct {
	Name    string    `json:"name"`
	Moment  time.Time `json:"moment"`         // for which it was started
	Started time.Time `json:"started"`        // the zero time when it was missed
	Ended   time.Time `json:"ended,omitzero"` // the zero time while it runs
	Code    int       `json:"exit_code"`
	Why     string    `json:"why,omitempty"` // why it was missed, or ended without a verdict
}

// scheduleBook is what the scheduler remembers over a restart.
type scheduleBook struct {
	schedule.State
	Runs []scheduledRun `json:"runs,omitempty"` // the newest last
}

// scheduler starts what is due. Decisions are schedule.Decide's; this only waits, starts, and remembers.
type scheduler struct {
	entries []schedule.Entry
	leashed bool
	run     func(ctx context.Context, items []string) (code int, why string)
	save    func(scheduleBook) error // nil: nothing is remembered
	read    func() reading           // looks at the service file; nil: it never changes
	tell    func(format string, args ...any)

	mu       sync.Mutex // guards the fields below
	book     scheduleBook
	decision schedule.Decision
	wrong    string            // what is wrong with the service file as it is now; the entries are those of before
	told     map[string]string // by entry: what was said of it last
}

// loop runs until ctx ends, and then until the run under way has taken its impact back. An error means that nothing can be remembered any
// more: then nothing is started either, or a restart would run it again.
func (l *scheduler) loop(ctx context.Context) error {
	l.open(time.Now())
	ended := make(chan scheduledRun)
	running := 0
	var failed error
	for ctx.Err() == nil && failed == nil {
		l.readAgain(time.Now())
		due, wait, err := l.step(time.Now())
		failed = err
		for _, one := range due {
			running++
			go func() { ended <- l.carry(ctx, one) }()
		}
		if failed != nil {
			break
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case one := <-ended:
			running--
			failed = l.close(one)
		}
		timer.Stop()
	}
	if running > 0 {
		l.tell("stopping: waiting for the run under way to take its impact back")
	}
	for ; running > 0; running-- {
		if err := l.close(<-ended); failed == nil {
			failed = err
		}
	}
	return failed
}

// open begins the book, or goes on with it.
func (l *scheduler) open(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := &l.book.State
	if state.Since.IsZero() {
		state.Since = now
	}
	if state.Done == nil {
		state.Done = map[string]time.Time{}
	}
	state.Running = map[string]string{}
	l.meet(now)
	l.told = map[string]string{}
	for i := range l.book.Runs {
		if run := &l.book.Runs[i]; run.Ended.IsZero() && !run.Started.IsZero() {
			run.Ended, run.Code, run.Why = now, exitInternal, "the scheduler ended in the middle of it; its impact ended then, or at its deadline"
		}
	}
	if l.leashed {
		l.tell("leashed: prints the plan of what is due and touches nothing; --unleash lets it run")
	}
}

// reading is a look at the service file.
type reading struct {
	changed bool
	entries []schedule.Entry
	wrong   string // why the file was not taken
}

// readAgain takes the entries of a file that has changed. A run under way goes on as it began.
func (l *scheduler) readAgain(now time.Time) {
	if l.read == nil {
		return
	}
	found := l.read()
	if !found.changed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong = found.wrong; found.wrong != "" {
		l.tell("the service file has changed and is wrong; the schedule goes on with the one before: %s", found.wrong)
		return
	}
	l.entries = found.entries
	l.meet(now)
	l.tell("the service file has changed; the schedule has %d entries", len(l.entries))
}

// meet notes entries that were never seen before: moments before that are nobody's business, or a new entry that may catch up would run at once.
func (l *scheduler) meet(now time.Time) {
	for _, entry := range l.entries {
		if _, known := l.book.Done[entry.Name]; !known {
			l.book.Done[entry.Name] = now
		}
	}
}

// step decides, writes down what it decided, and returns what to start now and how long to wait. Nothing is returned that is not written.
func (l *scheduler) step(now time.Time) (due []schedule.Due, wait time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	decision := schedule.Decide(l.entries, now, l.book.State)
	for _, missed := range decision.Missed {
		l.tell("missed %s of %s: %s", missed.Entry.Name, missed.Moment.Format(time.RFC3339), missed.Why)
		l.deal(missed, scheduledRun{Name: missed.Entry.Name, Moment: missed.Moment, Code: exitRefused, Ended: now, Why: missed.Why})
	}
	for _, one := range decision.Due {
		l.deal(one, scheduledRun{Name: one.Entry.Name, Moment: one.Moment, Started: now})
		l.book.Running[one.Entry.Service] = one.Entry.Name
	}
	for _, status := range decision.Statuses {
		if text := statusText(status); l.told[status.Entry.Name] != text {
			l.told[status.Entry.Name] = text
			l.tell("%s: %s", status.Entry.Name, text)
		}
	}
	l.decision = decision
	if len(decision.Due)+len(decision.Missed) > 0 {
		if err := l.write(); err != nil {
			return nil, 0, err
		}
	}
	wait = lookEvery
	if l.read != nil {
		wait = fileEvery
	}
	if !decision.Next.IsZero() {
		wait = min(wait, decision.Next.Sub(now))
	}
	return decision.Due, wait, nil
}

// statusText is a status without what changes from look to look.
func statusText(status schedule.Status) string {
	next := "never"
	if !status.Next.IsZero() {
		next = status.Next.In(status.Entry.Calendar.Cron.Zone()).Format("Mon 2006-01-02 15:04:05 MST")
	}
	return "next " + next + "; " + status.Why
}

// deal writes a moment down as dealt with.
func (l *scheduler) deal(one schedule.Due, run scheduledRun) {
	if one.Moment.After(l.book.Done[one.Entry.Name]) {
		l.book.Done[one.Entry.Name] = one.Moment
	}
	l.book.Runs = append(l.book.Runs, run)
	if over := len(l.book.Runs) - bookRunsMax; over > 0 {
		l.book.Runs = slices.Delete(l.book.Runs, 0, over)
	}
}

func (l *scheduler) write() error {
	if l.save == nil {
		return nil
	}
	if err := l.save(l.book); err != nil {
		return fmt.Errorf("the schedule cannot remember, and starts nothing: %w", err)
	}
	return nil
}

// carry does one run. A fault of ours in it ends that run, not the schedule.
func (l *scheduler) carry(ctx context.Context, due schedule.Due) (run scheduledRun) {
	run = scheduledRun{Name: due.Entry.Name, Moment: due.Moment}
	defer func() {
		if fault := recover(); fault != nil {
			run.Code, run.Why = exitInternal, fmt.Sprintf("a fault of our own: %v", fault)
		}
		run.Ended = time.Now()
	}()
	l.tell("starts %s (%s)", due.Entry.Name, strings.Join(due.Entry.Items, ", "))
	run.Code, run.Why = l.run(ctx, due.Entry.Items)
	return run
}

// close writes the end of a run down. Impact that may remain halts the schedule.
func (l *scheduler) close(ended scheduledRun) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.book.Runs {
		if run := &l.book.Runs[i]; run.Name == ended.Name && run.Moment.Equal(ended.Moment) && run.Ended.IsZero() {
			run.Ended, run.Code, run.Why = ended.Ended, ended.Code, ended.Why
		}
	}
	// By name, because its entry may have left the file meanwhile.
	maps.DeleteFunc(l.book.Running, func(_, name string) bool { return name == ended.Name })
	l.tell("ended %s: exit status %d (%s)%s", ended.Name, ended.Code, codeWord(ended.Code), suffix(ended.Why))
	if ended.Code == exitNotReverted {
		l.book.Halted = fmt.Sprintf("%s of %s may have left impact behind; look at the hosts (firedrill status), then start again with --resume", ended.Name, ended.Moment.Format(time.RFC3339))
	}
	return l.write()
}

func suffix(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func (l *scheduler) halted() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.Halted
}

// look is what there is to show, as it is now.
func (l *scheduler) look() (book scheduleBook, statuses []schedule.Status, wrong string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	book = l.book
	book.Runs = slices.Clone(l.book.Runs)
	return book, slices.Clone(l.decision.Statuses), l.wrong
}

// codeWord is an exit code in a word.
func codeWord(code int) string {
	switch code {
	case exitPassed:
		return "passed"
	case exitFailed:
		return "failed"
	case exitUsage:
		return "file or flag wrong"
	case exitInconclusive:
		return "inconclusive"
	case exitRefused:
		return "refused"
	case exitNotReverted:
		return "NOT REVERTED"
	case exitInternal:
		return "broken off"
	}
	return "interrupted"
}
