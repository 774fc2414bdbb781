package attack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// ErrLapsed is what a Tended step returns when the kernel has ended the impact already, because we could not tend it in time.
var ErrLapsed = errors.New("the lease lapsed: this process was held up too long, and the kernel ended the impact")

// ErrDone is what a Tended step returns when its work is complete before the deadline: the attack ends, and did not fail for that.
var ErrDone = errors.New("done")

const (
	hitsFirst     = 50 * time.Millisecond // until the first packet is counted, so that FirstHit is near the truth
	revertTimeout = 30 * time.Second      // the largest attack measured reverts in 10 ms
	// handOver is how long whoever carries our events has to send them on before the host goes down: a daemon of SSH has read them from a pipe, and ends with the host.
	handOver      = 100 * time.Millisecond
	oneWayTimeout = 90 * time.Second // systemd's own default limit to stop a unit
)

// Options say how Run reports, and what else it tries.
type Options struct {
	// Emit takes the events in order, from one goroutine. A slow Emit delays nothing but later events.
	Emit func(history.Event)
	// Ready is called, in order with the events, when the setup is complete and the attack is about to begin. It may be nil.
	Ready func()
	// Admit is asked when the GUID is claimed and before anything else; an error ends the run. It may be nil.
	Admit func() error
	// Canaries are host:port targets of the positive control: they must be reachable before and after, and not in force.
	Canaries []string

	// hold is waited for when all is set up: who leads says then how long the impact may last. It may be nil.
	hold func(ctx context.Context) (length time.Duration, err error)

	settled func() // called once the impact is in force; may be nil

	slept  time.Duration // in tests: how long this host is to have slept since the attack began
	sleepy bool          // planted by a test: time asleep does not count
	abrupt bool          // planted by a test: the host goes down at once

	mark func(name string) // called before each durable effect of the journal; tests die there
}

func (o Options) handOver() time.Duration {
	if o.abrupt {
		return 0
	}
	return handOver
}

// Run carries out a plan, from claim to account. It returns when the length is over, when ctx ends, or when anything goes wrong, and
// always after the revert. The cause of ctx is given as the reason; a *Stopped there makes the exit code.
//
// The account is whole even when the error is not nil. Errors are of kind drill.Refused (the GUID is taken), Unsupported, Invalid,
// Interrupted (ended early, reverted), Unproven (nothing shows that it bit), or NotReverted.
//
// The life of an attack: claim the GUID; say the plan; try the canaries; wait for the delay; apply the steps; say what is hit and that it
// is in force; tend, count and try until the end; read the counters a last time; revert; look again; try the canaries; give account.
func Run(ctx context.Context, plan Plan, o Options) (history.AttackAccount, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{plan: plan, options: o, out: newOutbox(), phase: PhasePlanned, start: time.Now()}
	defer r.out.close()
	r.canaries = canaries{report: r.report, guid: plan.GUID, steps: plan.Steps, expect: plan.Answers()}
	hold, err := takeClaim(plan.GUID, r.status, func() { cancel(errHalted) })
	if err != nil {
		return history.AttackAccount{GUID: plan.GUID, Attack: plan.Attack, Reverted: true}, err
	}
	defer hold.close()
	r.release = hold.close
	if o.Admit != nil {
		if err := o.Admit(); err != nil {
			return history.AttackAccount{GUID: plan.GUID, Attack: plan.Attack, Reverted: true}, err
		}
	}
	r.report(&history.AttackPlanned{GUID: plan.GUID, Attack: plan.Attack, Host: plan.Host, Length: drill.Seconds(plan.Length),
		Steps: plan.Lines(), Remains: string(plan.Remains()), Pods: plan.Pods})
	defer r.canaries.release()
	if err := r.canaries.before(ctx, o.Canaries); err != nil {
		return history.AttackAccount{GUID: plan.GUID, Attack: plan.Attack, Reverted: true}, err
	}
	if o.Ready != nil {
		r.out.put(o.Ready)
	}
	if o.hold != nil {
		if r.plan.Length, err = o.hold(ctx); err != nil {
			return r.finish(ctx, err)
		}
	}
	due, err := SinceBoot()
	if err != nil {
		return r.finish(ctx, err)
	}
	due += int64(plan.Delay)
	if err := wait(ctx, plan.Delay); err != nil {
		return r.finish(ctx, nil)
	}
	late, err := r.since(due)
	if err != nil {
		return r.finish(ctx, err)
	}
	if plan.Late > 0 && late > plan.Late {
		return r.finish(ctx, &drill.Error{Op: "attack " + plan.Attack, Host: plan.Host, Kind: drill.Unproven, Hint: "order it again",
			Err: fmt.Errorf("this process was held up, and its time was %s ago: what cannot be taken back is not begun so late", late.Round(time.Millisecond))})
	}
	if plan.OneWay() && plan.Length == 0 {
		return r.oneWay(ctx)
	}
	return r.finish(ctx, r.impact(ctx))
}

// run is one attack in progress.
type run struct {
	plan     Plan
	options  Options
	out      *outbox
	canaries canaries
	release  func()
	kept     kept
	start    time.Time

	mu       sync.Mutex // guards the fields below
	phase    string
	inForce  *time.Time
	until    *time.Time
	hits     history.AttackHits
	firstHit *time.Time
	lastHit  *time.Time
	counted  bool // some step counts
}

func (r *run) report(fact history.Fact) { r.reportAt(r.now(), fact) }

// now is the time by the clock as it was at the start, so that an attack on the clock does not bend its own record.
func (r *run) now() time.Time { return r.start.Add(time.Since(r.start)) }

func (r *run) reportAt(at time.Time, fact history.Fact) {
	event := history.New(at, r.plan.Host, fact)
	r.out.put(func() { r.options.Emit(event) })
}

func (r *run) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := Status{GUID: r.plan.GUID, Attack: r.plan.Attack, Phase: r.phase, Since: r.inForce, Until: r.until, By: startedBy(os.Getenv), Remains: r.plan.Remains(), PartOf: r.plan.PartOf}
	for _, pod := range r.plan.Pods {
		status.Pods = append(status.Pods, pod.Namespace+"/"+pod.Name)
	}
	if r.counted {
		hits := r.hits
		hits.GUID = r.plan.GUID
		status.Hits = &hits
	}
	return status
}

// impact applies the steps and keeps them in force until the deadline. It returns nil at the deadline, else why it ended.
func (r *run) impact(ctx context.Context) error {
	asleep, err := timeAsleep()
	if err != nil {
		return err
	}
	deadline := r.now().Add(r.plan.Length)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := r.keep(ctx, deadline); err != nil {
		if over(ctx, deadline) {
			return r.late(ctx, deadline)
		}
		return err
	}
	began := r.now()
	r.mu.Lock()
	r.inForce, r.until = &began, &deadline
	r.mu.Unlock()
	if err := r.apply(ctx, deadline); err != nil {
		return err
	}
	ctx, silence, err := r.alarm(ctx, asleep, deadline)
	if err != nil {
		return err
	}
	defer silence()
	r.mu.Lock()
	r.phase = PhaseInForce
	r.mu.Unlock()
	if r.options.settled != nil {
		r.options.settled()
	}
	for _, step := range r.plan.Steps {
		if targeting, ok := step.(Targeting); ok {
			// Making a line for each of 100,000 addresses takes time that belongs to the lease: it is done by the consumer.
			r.out.put(func() { r.emitTargets(targeting.Targets()) })
		}
	}
	r.reportAt(began, &history.AttackInForce{GUID: r.plan.GUID, Until: deadline})
	return r.tend(ctx, deadline)
}

// apply applies the steps, and nothing more once the deadline is over.
func (r *run) apply(ctx context.Context, deadline time.Time) error {
	for _, step := range r.plan.Steps {
		if over(ctx, deadline) {
			return r.late(ctx, deadline)
		}
		err := step.Apply(ctx, deadline)
		if over(ctx, deadline) {
			return r.late(ctx, deadline)
		}
		if err != nil {
			return fmt.Errorf("apply: %w", err)
		}
	}
	return nil
}

// alarm ends ctx at the deadline by a clock that goes on while the host sleeps. A host that is put to sleep in the middle of an attack, or a
// laptop that is closed, would else be attacked again when it wakes up, for what was left. asleep is how long it had slept when the deadline
// was set. Call silence at the end.
func (r *run) alarm(ctx context.Context, asleep time.Duration, deadline time.Time) (_ context.Context, silence func(), err error) {
	if r.options.sleepy {
		return ctx, func() {}, nil
	}
	now, err := SinceBoot()
	if err != nil {
		return nil, nil, err
	}
	slept, err := timeAsleep()
	if err != nil {
		return nil, nil, err
	}
	fd, err := alarmAt(now + int64(time.Until(deadline)-(slept-asleep)-r.options.slept))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	rings := os.NewFile(uintptr(fd), "alarm")
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := rings.Read(make([]byte, 8)); err == nil {
			cancel(context.DeadlineExceeded)
		}
	})
	return ctx, func() {
		_ = rings.Close()
		waiting.Wait()
		cancel(nil)
	}, nil
}

// since is how long an instant is ago, in nanoseconds since boot; time asleep counts.
func (r *run) since(instant int64) (time.Duration, error) {
	now, err := SinceBoot()
	if r.options.sleepy {
		return time.Duration(now - instant), err
	}
	return time.Duration(now-instant) + r.options.slept, err
}

// over reports whether the attack may do nothing more. The timer of a context can be a little behind the clock.
func over(ctx context.Context, deadline time.Time) bool {
	return ctx.Err() != nil || !time.Now().Before(deadline)
}

// late says why nothing was in force as it should have been: the deadline came first, or whatever else ended the attack.
func (r *run) late(ctx context.Context, deadline time.Time) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	took := r.now().Sub(deadline) + r.plan.Length
	return &drill.Error{Op: "attack " + r.plan.Attack, Kind: drill.Unproven, Hint: fmt.Sprintf("give it more time: --length %d", int(took.Seconds())+2),
		Err: fmt.Errorf("its length of %s was over before it was set up, which took %s", r.plan.Length, took.Round(time.Millisecond))}
}

func (r *run) emitTargets(targets []history.AttackTarget) {
	at := r.now()
	for i := range targets {
		r.options.Emit(history.New(at, r.plan.Host, &targets[i]))
	}
}

// tend runs all that has to happen while the impact is in force, and waits for all of it.
func (r *run) tend(parent context.Context, deadline time.Time) error {
	applied := time.Now()
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	var wait sync.WaitGroup
	for _, step := range r.plan.Steps {
		if tended, ok := step.(Tended); ok {
			wait.Go(func() {
				if err := tended.Tend(ctx, r.report); err != nil && ctx.Err() == nil {
					cancel(err)
				}
			})
		}
	}
	wait.Go(func() { r.kept.heed(ctx, cancel) })
	wait.Go(func() { r.count(ctx) })
	wait.Go(func() { r.canaries.inForce(ctx, applied, deadline) })
	<-ctx.Done()
	wait.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// count reads the kernel's counters and reports the first reading, and each that differs: an attack that hits nothing must be told from
// one whose counters nobody read.
func (r *run) count(ctx context.Context) {
	pace := Pace{Least: hitsFirst}
	for first := true; ; first = false {
		hit, counts := r.readHits(ctx, first)
		if !counts {
			return
		}
		pause := pace.Next()
		if hit {
			pause = NextSecond()
		}
		if wait(ctx, pause) != nil {
			return
		}
	}
}

// readHits adds up all counting steps and reports the total when it has grown, or always if it was read at all. hit says whether anything
// was hit so far, counts whether any step counts at all.
func (r *run) readHits(ctx context.Context, always bool) (hit, counts bool) {
	read := false
	total := history.AttackHits{GUID: r.plan.GUID}
	for _, step := range r.plan.Steps {
		counting, ok := step.(Counting)
		if !ok {
			continue
		}
		counts = true
		if hits, err := counting.Hits(ctx); err == nil {
			read = true
			total.Egress += hits.Egress
			total.Ingress += hits.Ingress
			total.Forward += hits.Forward
			total.Addresses = append(total.Addresses, hits.Addresses...)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counted = r.counted || counts
	if sum := packets(total); sum > packets(r.hits) {
		now := r.now()
		if r.firstHit == nil {
			r.firstHit = &now
		}
		r.lastHit = &now
		r.hits = total
		r.report(&total)
	} else if always && read {
		last := r.hits
		last.GUID = r.plan.GUID
		r.report(&last)
	}
	return packets(r.hits) > 0, counts
}

func packets(h history.AttackHits) uint64 { return h.Egress + h.Ingress + h.Forward }

// finish reverts, looks again, and gives account. why is nil when the length is over.
func (r *run) finish(ctx context.Context, why error) (history.AttackAccount, error) {
	if why == nil && ctx.Err() != nil {
		why = context.Cause(ctx) // during the delay
	}
	// The way back must not be cut short by what ended the attack.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revertTimeout)
	defer cancel()
	if r.inForce != nil {
		r.readHits(ctx, true)
	}
	r.mu.Lock()
	r.phase = PhaseReverting
	r.mu.Unlock()
	r.kept.goingBack()
	residue := r.revert(ctx)
	r.kept.letGo(len(residue) == 0)
	ended := r.now()
	r.report(&history.AttackReverted{GUID: r.plan.GUID, Why: reason(why), Residue: residue})
	if errors.Is(why, ErrDone) {
		why = nil
	}
	r.release()
	if r.inForce != nil {
		r.canaries.after(ctx)
	}
	account := r.account(ended, residue)
	account, err := r.conclude(account, why, residue)
	r.report(&account)
	return account, err
}

func (r *run) revert(ctx context.Context) (residue []string) {
	for _, step := range slices.Backward(r.plan.Steps) {
		if err := step.Revert(ctx); err != nil {
			residue = append(residue, "revert: "+err.Error())
		}
		verified, ok := step.(Verified)
		if !ok {
			continue
		}
		left, err := verified.Residue(ctx)
		if err != nil {
			left = append(left, "cannot look: "+err.Error())
		}
		residue = append(residue, left...)
	}
	return residue
}

func reason(why error) string {
	if why == nil {
		return "deadline"
	}
	return why.Error()
}

func (r *run) account(ended time.Time, residue []string) history.AttackAccount {
	r.mu.Lock()
	defer r.mu.Unlock()
	account := history.AttackAccount{GUID: r.plan.GUID, Attack: r.plan.Attack, Reverted: len(residue) == 0,
		InForceAt: r.inForce, FirstHit: r.firstHit, LastHit: r.lastHit, EndedAt: &ended, Packets: packets(r.hits)}
	if r.inForce == nil {
		account.Evidence = []string{"the attack ended before anything was changed"}
		return account
	}
	if r.counted {
		account.Evidence = append(account.Evidence, fmt.Sprintf("the kernel counted %d packets hit: %d egress, %d ingress, %d forwarded",
			account.Packets, r.hits.Egress, r.hits.Ingress, r.hits.Forward))
	}
	return account
}

// conclude adds what the canaries prove and makes the error.
func (r *run) conclude(account history.AttackAccount, why error, residue []string) (history.AttackAccount, error) {
	op := "attack " + r.plan.Attack
	lost := false
	if account.InForceAt != nil {
		shown, figures := r.evidence()
		account.Evidence = append(account.Evidence, figures...)
		var sentences []string
		var cut, leaked bool
		sentences, cut, leaked, lost = r.canaries.judge()
		account.Evidence = append(account.Evidence, sentences...)
		account.Bit = (account.Packets > 0 || cut || shown) && !leaked
		if len(r.canaries.list) > 0 && !cut && r.canaries.expect != AnswersSome {
			account.Bit = false
		}
		for _, step := range r.plan.Steps {
			if concluding, ok := step.(Concluding); ok {
				lost = concluding.Conclude(&account) || lost
			}
		}
	}
	var stopped *Stopped
	switch {
	case len(residue) > 0:
		return account, &drill.Error{Op: op, Host: r.plan.Host, Kind: drill.NotReverted, Err: errors.New(strings.Join(residue, "; ")),
			Hint: r.byHand()}
	case errors.As(why, &stopped) || errors.Is(why, context.Canceled):
		return account, &drill.Error{Op: op, Host: r.plan.Host, Kind: drill.Interrupted, Err: why}
	case errors.Is(why, ErrLapsed):
		return account, &drill.Error{Op: op, Host: r.plan.Host, Kind: drill.Unproven, Err: fmt.Errorf("ended before its deadline: %w", why)}
	case why != nil:
		return account, explain(op, why)
	case !account.Bit:
		return account, &drill.Error{Op: op, Host: r.plan.Host, Kind: drill.Unproven,
			Err: fmt.Errorf("nothing shows that it bit: %s", strings.Join(account.Evidence, "; ")), Hint: r.moreProof()}
	case lost:
		return account, &drill.Error{Op: op, Host: r.plan.Host, Kind: drill.Unproven, Err: errors.New("reverted, but a canary does not answer: " +
			strings.Join(account.Evidence, "; "))}
	}
	return account, nil
}

// evidence gathers what the steps can show for themselves.
func (r *run) evidence() (shown bool, figures []string) {
	for _, step := range r.plan.Steps {
		if evidencing, ok := step.(Evidencing); ok {
			bit, sentences := evidencing.Evidence()
			shown, figures = shown || bit, append(figures, sentences...)
		}
	}
	return shown, figures
}

func (r *run) byHand() string {
	for _, step := range r.plan.Steps {
		if by, ok := step.(ByHand); ok {
			return by.ByHand()
		}
	}
	return "look with: nft list tables; take it back with: firedrill halt, or nft delete table inet NAME, or a reboot"
}

func (r *run) moreProof() string {
	if !r.counted && len(r.plan.Pods) == 0 {
		return "a drill that did not bite proves nothing: make it longer or larger"
	}
	return "a drill that did not bite proves nothing: is there traffic to the target? add --canary HOST:PORT to make some"
}

// explain keeps an error that has a kind already.
func explain(op string, err error) error {
	var known *drill.Error
	if errors.As(err, &known) {
		return err
	}
	return &drill.Error{Op: op, Kind: drill.Internal, Err: err}
}

// oneWay carries out a plan that cannot be taken back. Normally it does not return: the host goes down.
func (r *run) oneWay(ctx context.Context) (history.AttackAccount, error) {
	now := time.Now()
	r.mu.Lock()
	r.phase, r.inForce = PhaseInForce, &now
	r.mu.Unlock()
	r.reportAt(now, &history.AttackInForce{GUID: r.plan.GUID, Until: now})
	r.out.flush()
	_ = wait(context.WithoutCancel(ctx), r.options.handOver()) // it is said to be in force, so nothing calls it off now
	account := history.AttackAccount{GUID: r.plan.GUID, Attack: r.plan.Attack, InForceAt: &now}
	op := "attack " + r.plan.Attack
	for _, step := range r.plan.Steps {
		if err := step.Apply(ctx, now); err != nil {
			account.Reverted = true
			account.Evidence = []string{err.Error()}
			r.report(&account)
			return account, explain(op, err)
		}
	}
	account.Bit = true
	account.Evidence = []string{"the host accepted the order to go down"}
	r.report(&account)
	r.out.flush()
	// The init of the host ends us. A signal is how it does that, so none of them is an interruption now; and who does not end at the signal
	// holds the host up, for systemd gives it as long as this.
	if wait(ctx, oneWayTimeout) != nil {
		return account, nil
	}
	return account, &drill.Error{Op: op, Host: r.plan.Host, Kind: drill.Failed, Err: fmt.Errorf("still up %s after the order to go down", oneWayTimeout)}
}

// wait returns nil after d, or ctx's error when that ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
