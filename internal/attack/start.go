package attack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/containers"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Invocation is one attack as the command line asks for it.
type Invocation struct {
	Kind     Kind
	Known    drill.AttackKind // what Kind.Describe returns, of a caller who has it; the zero value asks for it
	Flags    Values
	GUID     string   // empty: a new one
	JSON     bool     // print events instead of the article's lines
	Canaries []string // host:port
	DryRun   bool     // print the plan and stop
	Yes      bool     // a person consents to what this host's policy asks consent for, and to what a kind never does without
	Others   []Kind   // all kinds of this build: what dead attacks of theirs left is taken back first, and the host's policy may name them

	part *part // of an attack that another process leads; Start finds it out

	StayOutside   bool // planted bug: an attack on a container stays in the host's network
	FirstPodAlone bool // planted bug: of an attack on pods only the first pod is hit
	GatesOpen     bool // planted bug: the parts of an attack on pods do not wait for each other
	PartsStay     bool // planted bug: an attack on pods does not end its parts

	mark func(name string) // as in Options

	policyFile  string // tests: instead of the host's own, which nothing that a caller can reach replaces
	policyOwner uint32 // tests: who may own it, instead of root
	noPolicy    bool   // planted bug: the policy of the host is not read

	In  io.Reader // a pipe or socket is watched: when it ends, so does the attack
	Out io.Writer
}

// describe returns the kind as data. Making it again takes a hundredth of the time until the first drop.
func (i Invocation) describe() drill.AttackKind {
	if i.Known.Name != "" {
		return i.Known
	}
	return i.Kind.Describe()
}

// Prepare makes the plan of an invocation: flags, with what this host's policy spares always, facts, plan. It changes nothing on the host.
func (i Invocation) Prepare(ctx context.Context) (Plan, error) {
	bounds, err := i.bounds()
	if err != nil {
		return Plan{}, err
	}
	return i.prepare(ctx, bounds)
}

func (i Invocation) prepare(ctx context.Context, bounds bounds) (Plan, error) {
	guid, err := i.guid()
	if err != nil {
		return Plan{}, err
	}
	flags, err := i.Flags.Load(i.describe())
	if err != nil {
		return Plan{}, err
	}
	if flags, err = bounds.spare(ctx, flags); err != nil {
		return Plan{}, err
	}
	order, err := i.Kind.Order(flags)
	if err != nil {
		return Plan{}, err
	}
	facts, err := Observe(ctx, guid, order)
	if err != nil {
		return Plan{}, err
	}
	facts.Consent = i.Yes
	plan, err := order.Plan(facts)
	if i.part != nil {
		plan.PartOf = i.part.Of
	}
	return plan, err
}

// guid returns the attack's name: the one that was asked for, or a new one.
func (i Invocation) guid() (string, error) {
	if i.GUID == "" {
		return NewGUID()
	}
	if err := CheckGUID(i.GUID); err != nil {
		return "", Refuse(i.describe().Name, "leave --guid out to get a new one", "%w", err)
	}
	return i.GUID, nil
}

// setupGC lets the heap grow until the impact is in force: with 100,000 targets half of that time went into collecting next to nothing.
const setupGC = 800

// Start carries out an invocation: it sweeps what dead attacks left, runs the plan until its end, a signal, or the loss of the one who
// asked, and prints. Errors are those of Run; a refusal is printed as an event too when JSON is asked for.
func Start(ctx context.Context, i Invocation) (history.AttackAccount, error) {
	i, err := i.narrow()
	if err != nil {
		return history.AttackAccount{Reverted: true}, err
	}
	inside, err := i.enter(ctx)
	if err != nil {
		return history.AttackAccount{Reverted: true}, i.refuse(err)
	}
	if i.part != nil && i.part.Look {
		return history.AttackAccount{Reverted: true}, i.look(ctx)
	}
	ctx, heed, stop := StopOnSignals(ctx)
	defer stop()
	collect := debug.SetGCPercent(setupGC)
	defer debug.SetGCPercent(collect)
	bounds, err := i.bounds()
	if err != nil {
		return history.AttackAccount{Reverted: true}, i.refuse(err)
	}
	plan, end, err := i.plan(ctx, bounds)
	defer end()
	if err != nil {
		return history.AttackAccount{Reverted: true}, i.refuse(err)
	}
	err = bounds.admit(ctx, plan)
	if i.DryRun {
		if step, ok := leads(plan); ok && err == nil {
			err = step.refused()
		}
		return history.AttackAccount{Reverted: true}, errors.Join(err, i.show(plan, err))
	}
	if err != nil {
		return history.AttackAccount{Reverted: true}, i.refuse(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		if err := WatchLifeline(ctx, fileOf(i.In), fileOf(i.Out)); err != nil {
			cancel(err)
		}
	})
	if inside != nil {
		watching.Go(func() {
			if err := watchContainer(ctx, *inside); err != nil {
				cancel(err)
			}
		})
	}
	options := Options{Canaries: i.Canaries, mark: i.mark, settled: func() { debug.SetGCPercent(collect); prefer() }}
	// Once more when the GUID is ours: of two that start at the same time each then sees the other.
	options.Admit = func() error { return bounds.admit(ctx, plan) }
	switch {
	case i.part != nil:
		if err := i.say(partWord{Plan: shown(plan, nil)}); err != nil {
			return history.AttackAccount{Reverted: true}, err
		}
		i.holds(&options)
	case len(plan.Pods) > 0:
		options.Canaries = nil // they are tried in the pods
	}
	if i.JSON {
		options.Emit = jsonLines(i.Out)
	} else {
		lines := NewLines(i.Out, plan)
		options.Emit, options.Ready = lines.Emit, lines.Ready
	}
	heed()
	account, err := Run(ctx, plan, options)
	cancel(nil)
	watching.Wait()
	if err != nil && account.InForceAt == nil && !errors.Is(err, context.Canceled) {
		err = i.refuse(err)
	}
	return account, err
}

// plan makes the plan, and what is looked at side by side with it, because the time until the first drop counts. end is to be called when all
// is over.
func (i Invocation) plan(ctx context.Context, bounds bounds) (plan Plan, end func(), err error) {
	scope, err := ParseScope(i.Flags)
	if pods, named := scope.pods(); err == nil && named {
		return i.lead(ctx, pods)
	}
	// A wrong scope is the kind's to refuse, with all that is wrong beside it.
	var checked error
	var checking sync.WaitGroup
	if !i.DryRun {
		checking.Go(func() { checked = i.check(ctx) })
	}
	plan, err = i.prepare(ctx, bounds)
	checking.Wait()
	if err == nil {
		err = checked
	}
	return plan, func() {}, err
}

// show prints the plan of a dry run: as text, or as one JSON document. refused is what the host's policy says to it, nil when it admits.
func (i Invocation) show(plan Plan, refused error) error {
	if !i.JSON {
		_, err := io.WriteString(i.Out, plan.String())
		return err
	}
	if i.part != nil {
		return i.say(partWord{Plan: shown(plan, refused)})
	}
	encoder := json.NewEncoder(i.Out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(shown(plan, refused))
}

func shown(plan Plan, refused error) *Shown {
	shown := &Shown{GUID: plan.GUID, Attack: plan.Attack, Host: plan.Host, Length: drill.Seconds(plan.Length), Delay: drill.Seconds(plan.Delay),
		Remains: plan.Remains(), OneWay: plan.OneWay(), Steps: plan.Lines(), Pods: plan.Pods}
	for _, step := range plan.Steps {
		if worded, ok := step.(Worded); ok {
			shown.Wording = worded.Wording()
		}
	}
	if refused != nil {
		shown.Refused = &history.AttackRefused{Attack: plan.Attack, Reason: refused.Error(), Cure: drill.HintOf(refused)}
	}
	return shown
}

// Shown is a plan as a dry run prints it with --json. Fields are only ever added.
type Shown struct {
	GUID    string                 `json:"guid"`
	Attack  string                 `json:"attack"` // the kind
	Host    string                 `json:"host"`
	Length  drill.Seconds          `json:"length_seconds,omitempty"` // of the impact; left out when the host goes down
	Delay   drill.Seconds          `json:"delay_seconds,omitempty"`  // before it
	Remains Remains                `json:"remains"`                  // if all of us die at once
	OneWay  bool                   `json:"one_way"`
	Steps   []string               `json:"steps"`             // one line for each thing that would be done
	Wording string                 `json:"wording,omitempty"` // how lines of targets begin, as "Delaying all"
	Pods    []history.AttackPod    `json:"pods,omitempty"`    // that would be hit, of an attack on pods
	Refused *history.AttackRefused `json:"refused,omitempty"` // why this host's policy would not let it start
}

// check sweeps what dead attacks left, and refuses at once what this host or user cannot do, instead of after a delay.
func (i Invocation) check(ctx context.Context) error {
	if _, err := Recover(ctx, append(slices.Clone(i.Others), i.Kind)); err != nil {
		return err
	}
	if checker, ok := i.Kind.(Checker); ok {
		if err := checker.Check(ctx); err != nil {
			return err
		}
	}
	if sweeper, ok := i.Kind.(Sweeper); ok && !sweepsLate(i.Kind) {
		// What cannot be deleted is not in force any more, for its gate is shut: that alone stops nobody.
		if _, err := sweeper.Sweep(ctx, Alive); drill.KindOf(err) == drill.Unsupported {
			return err
		}
	}
	return nil
}

func sweepsLate(kind Kind) bool {
	_, late := kind.(LateSweeper)
	return late
}

// refuse prints that the attack did not start, for those who read events.
func (i Invocation) refuse(err error) error {
	var stopped *Stopped
	if i.JSON && !errors.As(err, &stopped) {
		host, _ := os.Hostname()
		jsonLines(i.Out)(history.New(time.Now(), host, &history.AttackRefused{Attack: i.describe().Name, Reason: err.Error(), Cure: drill.HintOf(err), Absent: errors.Is(err, containers.ErrNone)}))
	}
	return err
}

// jsonLines prints an event a line.
func jsonLines(w io.Writer) func(history.Event) {
	return func(event history.Event) {
		line, err := json.Marshal(event)
		if err != nil {
			return // our own facts always encode
		}
		// One write for a line, so that lines never mix; a reader that is gone ends the attack by the lifeline.
		buffered := bufio.NewWriterSize(w, len(line)+1)
		_, _ = buffered.Write(append(line, '\n'))
		_ = buffered.Flush()
	}
}

func fileOf(stream any) *os.File {
	file, _ := stream.(*os.File)
	return file
}

// StopOnSignals ends the context, with a *Stopped as its cause, on SIGINT, SIGTERM and SIGHUP. SIGPIPE is caught and ignored: it would
// kill us before the revert is verified. stop gives the signals back.
//
// It returns at once, because setting up the signals takes a tenth of the time until the first drop; heed waits until they are caught.
// Before that a signal ends the process, so nothing may be in force.
func StopOnSignals(parent context.Context) (ctx context.Context, heed, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 4)
	caught, done := make(chan struct{}), make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
		defer signal.Stop(signals)
		close(caught)
		for {
			select {
			case <-done:
				return
			case received := <-signals:
				number, ok := received.(unix.Signal)
				if ok && number != unix.SIGPIPE {
					cancel(&Stopped{Why: "signal " + number.String(), Code: 128 + int(number)})
				}
			}
		}
	})
	return ctx, func() { <-caught }, func() {
		close(done)
		waiting.Wait()
		cancel(nil)
	}
}
