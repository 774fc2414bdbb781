package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
)

const (
	// storeMax bounds a write to the disk.
	storeMax = 15 * time.Second
	// mostDefault is how long a host may go on when nothing is said and the attack has no length of its own. For so long a service is kept from others, too, on which
	// something may still be in force: a person needs the time to look.
	mostDefault = time.Hour
	// lengthRoom is what hosts are given beyond the length of an attack, for what they do outside of it: the plan is made anew (20 s, or its trial before the start has
	// failed), parts in pods are planned and canaries tried (60 s), it is taken back (30 s), canaries are tried again, and the rest is told (12 s). That is some
	// two minutes; the rest is for a host under load, and for an attack that goes on by itself while its agent is frozen. With less an attack would be ended that ends by
	// itself; with more the permit of a host that is lost would be kept for nothing.
	lengthRoom = 5 * time.Minute
	// leadPerHost is what each host adds to the time from order to start: signing, sending, and its answer.
	leadPerHost = 2 * time.Millisecond
	// goAhead is how long before the start all answers must be there, so that the word to go arrives in time.
	goAhead = 500 * time.Millisecond
	// startGrace is how long after the start a host may still begin. A host that is later than that is not a part of what was rehearsed.
	startGrace = 5 * time.Second
)

// Attack carries out a request up to the start: it calls the roll, chooses, takes the permits, writes the run down, and orders. All hosts begin
// at the same time, or none does. It returns the run when that is decided; what becomes of it is followed from then on.
func (c *Control) Attack(ctx context.Context, by fleet.Member, request fleet.AttackRequest) (fleet.Run, error) {
	return c.attackAs(ctx, by, request, uuid.Must(uuid.NewV7()).String())
}

// attackAs is Attack with the name that the run is to have.
func (c *Control) attackAs(ctx context.Context, by fleet.Member, request fleet.AttackRequest, id string) (fleet.Run, error) {
	if err := fleet.CheckArgs(request.Kind, request.Args); err != nil {
		return fleet.Run{}, &drill.Error{Op: "attack", Kind: drill.Invalid, Err: err}
	}
	length, err := c.attackable(request)
	if err != nil {
		return fleet.Run{}, err
	}
	if err := c.consented(request); err != nil {
		return fleet.Run{}, err
	}
	run, err := c.plan(ctx, by, request, id, c.most(request, length))
	if err != nil || request.DryRun {
		return run, err
	}
	return c.begin(ctx, run, request)
}

// most is how long hosts may go on from the start, for an attack that lasts for length by itself; 0 is that nobody knows.
func (c *Control) most(request fleet.AttackRequest, length time.Duration) time.Duration {
	switch {
	case request.Most != 0:
		return request.Most.Duration()
	case length == 0 || c.takesDown(request.Kind) || c.options.Lengthless:
		return mostDefault
	}
	return min(length+lengthRoom, fleet.LengthMax)
}

// plan chooses the hosts and takes everything that keeps others away from them. With a dry run it takes nothing.
func (c *Control) plan(ctx context.Context, by fleet.Member, request fleet.AttackRequest, id string, most time.Duration) (fleet.Run, error) {
	c.ordering.Lock()
	defer c.ordering.Unlock()
	if !c.lead.leads() {
		return fleet.Run{}, c.lead.lost(c.lead.leader())
	}
	lever := c.lever()
	if lever.Engaged {
		return fleet.Run{}, leverEngaged(lever)
	}
	for request.Selector.Seed == 0 {
		request.Selector.Seed = uint64(rand.Uint32()) //nolint:gosec // short enough to be read out; a choice, not a secret
	}
	all := c.candidates(c.callTheRoll(ctx))
	chosen, err := fleet.Choose(all, request.Selector, request.Kind, c.options.Limits)
	if err != nil {
		return fleet.Run{}, err
	}
	if err := withinBounds(by, fleet.ServicesOf(chosen), request.Kind); err != nil && !c.options.Boundless {
		return fleet.Run{}, err
	}
	if err := c.options.Limits.Admit(all, chosen); err != nil {
		return fleet.Run{}, err
	}
	now := time.Now()
	run := fleet.Run{ID: id, By: by.Name, Kind: request.Kind, Args: request.Args, Seed: request.Selector.Seed, Services: fleet.ServicesOf(chosen),
		Issued: now, Start: now.Add(c.options.Lead + time.Duration(len(chosen))*leadPerHost), State: fleet.RunStarting}
	run.Groups = c.groupsOf(run.Services, all)
	run.Deadline = run.Start.Add(most)
	run.Term, _ = c.lead.holds()
	for _, host := range chosen {
		run.Hosts = append(run.Hosts, fleet.RunHost{Key: host.Key, Name: host.Name, Order: uuid.Must(uuid.NewV7()).String(), State: fleet.HostOrdered, Code: -1})
	}
	if request.DryRun {
		run.State = fleet.RunPlanned
		for i := range run.Hosts {
			run.Hosts[i].State = fleet.HostPlanned
		}
		names := permits.Names(run.Services, run.Groups)
		return run, errors.Join(c.freeOfAwaited(names, run.ID), c.permits.Look(ctx, names, now))
	}
	until := run.Deadline // they are given back before, unless a host has not reverted
	if request.Most == 0 {
		until = c.lookedAt(run)
	}
	if err := c.takePermits(ctx, permits.Names(run.Services, run.Groups), permits.Permit{Run: run.ID, By: by.Name, Until: until.Add(c.options.Margin)}, now); err != nil {
		return fleet.Run{}, err
	}
	if err := c.runs.put(ctx, run); err != nil {
		return fleet.Run{}, errors.Join(err, c.yieldAll(ctx, run))
	}
	// The run is on the disk: who leads after this moment knows of it. Who led before is not to order any more.
	if err := c.lead.confirm(ctx); err != nil && !c.options.Unfenced && !c.options.Stubborn {
		_, given := c.giveUp(ctx, run, err.Error())
		return fleet.Run{}, unled{errors.Join(err, given)}
	}
	c.record("%s orders %s %q on %d hosts: run %s, seed %d", by.Name, run.Kind, run.Args, len(run.Hosts), run.ID, run.Seed)
	return run, nil
}

// withinBounds refuses what a person may not attack, or not in this way.
func withinBounds(by fleet.Member, services []string, kind string) error {
	why := ""
	if kind != "" && len(by.Kinds) > 0 && !slices.Contains(by.Kinds, kind) {
		why = fmt.Sprintf("%s may attack with %s alone", by.Name, strings.Join(by.Kinds, ", "))
	}
	for _, service := range services {
		if len(by.Services) > 0 && !slices.Contains(by.Services, service) {
			why = fmt.Sprintf("%s may attack %s alone, and a host of %s would be hit", by.Name, strings.Join(by.Services, ", "), service)
		}
	}
	if why == "" {
		return nil
	}
	return &drill.Error{Op: "attack", Kind: drill.Refused, Err: errors.New("not attacking: " + why), Hint: "ask an admin"}
}

func leverEngaged(lever fleet.Lever) error {
	return &drill.Error{Op: "attack", Kind: drill.Refused, Err: fmt.Errorf("not attacking: the lever is engaged since %s by %s: %s", lever.At.Format(time.RFC3339), lever.By, lever.Reason),
		Hint: "when it is safe again: firedrill fleet release"}
}

// hold marks the hosts of a run as a part of it.
func (c *Control) hold(run fleet.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, host := range run.Hosts {
		h := c.hosts[host.Key]
		if h == nil && (host.Final() || run.Done()) {
			continue
		}
		if h == nil {
			h = &seen{}
			c.hosts[host.Key] = h
		}
		if !host.Final() && !run.Done() {
			h.run = run.ID
		} else if h.run == run.ID {
			h.run = ""
		}
	}
}

// begin orders, waits for the answers of all, and says go or takes it back.
func (c *Control) begin(ctx context.Context, run fleet.Run, request fleet.AttackRequest) (fleet.Run, error) {
	orders := make([]string, len(run.Hosts))
	for i, host := range run.Hosts {
		orders[i] = host.Order
	}
	words, done := c.await(len(orders), orders...)
	defer done()
	lever, id := c.lever(), c.keys.now()
	for _, host := range run.Hosts {
		text, err := fleet.Sign(fleet.Order{ID: host.Order, Run: run.ID, Fleet: id.Fleet, Host: host.Key, Kind: run.Kind, Args: run.Args, Consent: request.Consent, By: run.By,
			Epoch: lever.Epoch, Issued: run.Issued, Start: run.Start, Expires: run.Start.Add(startGrace), Deadline: run.Deadline, Term: run.Term}, c.keys.signer(c.trusted(host.Key), time.Now()))
		if err == nil {
			err = c.conn.Publish(fleet.ToAgent(host.Key, fleet.WordOrder), text)
		}
		if err != nil {
			return c.giveUp(ctx, run, err.Error())
		}
	}
	answers := c.collect(ctx, run, words)
	refused := slices.ContainsFunc(run.Hosts, func(h fleet.RunHost) bool { return answers[h.Key].State == fleet.Refused })
	// What others learnt of the run in between, a journal for instance, is not to be lost.
	// Whoever leads by now has taken it over, and ended it.
	leave := func(run fleet.Run, err error) (fleet.Run, error) {
		run, given := c.giveUp(ctx, run, err.Error())
		if c.lead.alone {
			return run, given
		}
		return run, unled{given}
	}
	heard, err := c.changeRun(run.ID, func(r *fleet.Run) {
		for i := range r.Hosts {
			h := &r.Hosts[i]
			answer, ok := answers[h.Key]
			switch {
			case ok && answer.State == fleet.Refused: // also where its journal was here first, and said that it has ended
				h.State, h.Reason, h.Cure, h.Reverted = fleet.HostRefused, answer.Reason, answer.Cure, true
			case ok && answer.State == fleet.Nothing:
				h.State, h.Reason, h.Cure, h.Reverted = fleet.HostNothing, answer.Reason, answer.Cure, true
			case h.Final(), !ok && refused: // nobody waited for the others
			case !ok:
				h.State, h.Reason = fleet.HostSilent, "it did not answer in time"
			default:
				h.State = fleet.HostAccepted
			}
		}
	})
	if err != nil {
		return leave(run, err)
	}
	run = heard
	for _, host := range run.Hosts {
		if host.State == fleet.HostRefused || host.State != fleet.HostAccepted && host.State != fleet.HostNothing && !refused {
			return c.giveUp(ctx, run, fmt.Sprintf("%s: %s", host.Name, host.Reason))
		}
	}
	// Some hosts may have nothing of what is named, as nodes without a pod of a selector; where none has, a name is wrong.
	if !slices.ContainsFunc(run.Hosts, func(h fleet.RunHost) bool { return h.State == fleet.HostAccepted }) {
		return c.giveUp(ctx, run, fmt.Sprintf("no host has what it names; %s: %s", run.Hosts[0].Name, run.Hosts[0].Reason))
	}
	// A halt in between has changed the epoch: then the hosts would not begin, and are not told to.
	if now := c.lever(); now.Engaged || now.Epoch != lever.Epoch {
		return c.giveUp(ctx, run, "the lever was engaged")
	}
	// It is on the disk before anybody is told to go: whoever takes over from here knows by it that hosts may have begun.
	running, err := c.changeRun(run.ID, func(r *fleet.Run) { r.State = fleet.RunRunning })
	if err != nil {
		return leave(run, err)
	}
	run = running
	for _, host := range run.Hosts {
		if host.State != fleet.HostNothing {
			c.say(fleet.ToAgent(host.Key, fleet.WordGo), fleet.Go{Order: host.Order})
		}
	}
	return run, nil
}

// collect waits for the answers of all hosts, until it would be too late to say go.
func (c *Control) collect(ctx context.Context, run fleet.Run, words <-chan said) map[string]fleet.Answer {
	answers := map[string]fleet.Answer{}
	late := time.NewTimer(time.Until(run.Start.Add(-min(goAhead, c.options.Lead/4))))
	defer late.Stop()
	for len(answers) < len(run.Hosts) {
		select {
		case s := <-words:
			i := slices.IndexFunc(run.Hosts, func(h fleet.RunHost) bool { return h.Key == s.host && h.Order == s.answer.Order })
			if i < 0 {
				continue // a host that speaks of another's order
			}
			answers[s.host] = s.answer
			if s.answer.State == fleet.Refused {
				return answers
			}
		case <-late.C:
			return answers
		case <-ctx.Done():
			return answers
		}
	}
	return answers
}

// giveUp takes a run back that not all hosts can begin. Nobody was told to go, so nobody begins.
func (c *Control) giveUp(ctx context.Context, run fleet.Run, why string) (fleet.Run, error) {
	for _, host := range run.Hosts {
		c.say(fleet.ToAgent(host.Key, fleet.WordCancel), fleet.Cancel{Order: host.Order, Reason: why})
	}
	run = c.change(run.ID, func(r *fleet.Run) {
		if r.State != fleet.RunStarting {
			return // somebody may have been told to go: its hosts say what became of it
		}
		r.State, r.Reason = fleet.RunCancelled, why
		for i := range r.Hosts {
			if h := &r.Hosts[i]; !h.Final() {
				h.State, h.Reverted = fleet.HostEnded, true
				if h.Reason == "" {
					h.Reason = "not begun"
				}
			}
		}
	})
	if run.State != fleet.RunCancelled {
		return run, &drill.Error{Op: "attack", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %s; its hosts are told to end it", why), Hint: "see: firedrill fleet run " + run.ID}
	}
	c.record("run %s is cancelled: %s", run.ID, why)
	var hint string
	for _, host := range run.Hosts {
		if host.Cure != "" {
			hint = host.Cure
		}
	}
	return run, errors.Join(&drill.Error{Op: "attack", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %s; no host has begun", why), Hint: hint}, c.yieldAll(ctx, run))
}

// attackable refuses what no host would take as it is written, and tells how long the rest lasts; 0 is that this is not known.
func (c *Control) attackable(request fleet.AttackRequest) (length time.Duration, err error) {
	if c.options.Attackable == nil || c.options.Blind {
		return 0, nil
	}
	return c.options.Attackable(request.Kind, request.Args)
}

// takePermits takes all of some permits or none, where what becomes of a run can be kept.
func (c *Control) takePermits(ctx context.Context, names []string, wanted permits.Permit, now time.Time) (err error) {
	if err := c.freeOfAwaited(names, wanted.Run); err != nil {
		return err
	}
	defer func() {
		if err != nil && drill.KindOf(err) != drill.Refused {
			c.owe() // one may be taken all the same
		}
	}()
	if !c.options.alone() {
		return c.permits.Take(ctx, names, wanted, now) // others keep as well
	}
	if free, err := c.keeping.room(); err == nil && free < mendRoom {
		return &drill.Error{Op: "attack", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %d KiB are left on the disk of the server, too little to keep what becomes of it", free>>10), Hint: "make room on the disk of " + c.keeping.directory}
	}
	return c.keeping.during(ctx, func(ctx context.Context) error { return c.permits.Take(ctx, names, wanted, now) })
}

func (c *Control) yieldAll(ctx context.Context, run fleet.Run) error {
	return c.yield(ctx, run.ID, run.Services, run.Groups)
}

// yield gives back what a run or a drill holds.
func (c *Control) yield(ctx context.Context, id string, services, groups []string) error {
	var err error
	for _, name := range permits.Names(services, groups) {
		err = errors.Join(err, c.keeping.during(ctx, func(ctx context.Context) error { return c.permits.Yield(ctx, name, id) }))
	}
	if err != nil {
		c.owe()
	}
	return err
}

// groupsOf are the redundancy groups of services.
func (c *Control) groupsOf(services []string, all []fleet.Candidate) []string {
	if c.options.Groupless {
		return nil
	}
	return fleet.GroupsOf(services, all)
}

// change changes a run and keeps it. A run that cannot be kept is said so in the log: what happens on hosts does not depend on it.
func (c *Control) change(id string, with func(*fleet.Run)) fleet.Run {
	run, err := c.changeRun(id, with)
	if err != nil {
		c.log.Error("a run cannot be kept", "run", id, "error", err) //nolint:sloglint // no request to carry
	}
	return run
}

// changeRun is change with the reason why the run was not kept. A server that leads no more changes nothing.
func (c *Control) changeRun(id string, with func(*fleet.Run)) (fleet.Run, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	had, ok := c.runs.get(id)
	if !ok {
		return had, fmt.Errorf("fleet: there is no run %s", id)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeMax)
	defer cancel()
	var fenced error
	run, err := c.runs.shelf.change(ctx, id, func(run fleet.Run, _ bool) (fleet.Run, error) {
		term, holds := c.lead.holds()
		if fenced = nil; !c.options.Unfenced && (!holds || run.Term > term) {
			fenced = c.lead.lost(c.lead.leader())
			return run, fenced
		}
		run.Hosts = slices.Clone(run.Hosts)
		run.Takeovers = slices.Clone(run.Takeovers)
		with(&run)
		run.Term = max(run.Term, term)
		return run, nil
	})
	if err != nil && fenced == nil {
		c.hold(run)
		c.changed("run", run)
	}
	return run, err
}

// follow looks after runs: a host that is silent past the deadline and a margin is lost, and a run whose hosts are all final gives its permits
// back.
func (c *Control) follow(ctx context.Context, now time.Time) {
	for _, run := range c.runs.going() {
		if term, _ := c.lead.holds(); run.Term < term {
			// The leader before wrote it last, and it came late.
			c.adopt(ctx, run, "the server that led before")
			continue
		}
		if !c.options.StopsOnce {
			c.tellStopped(run)
		}
		if run.State == fleet.RunStarting && now.After(run.Start.Add(c.options.Margin)) {
			// That it runs could not be written down, so nobody was told to go.
			if _, err := c.giveUp(ctx, run, "it could not be begun in time"); drill.KindOf(err) != drill.Refused {
				c.log.WarnContext(ctx, "a run is given up", "run", run.ID, "error", err)
			}
			continue
		}
		late := now.After(run.Deadline.Add(c.options.Margin))
		open, final := 0, 0
		for _, host := range run.Hosts {
			if host.Final() {
				final++
			} else {
				open++
			}
		}
		if open > 0 && !late {
			continue
		}
		if c.awaits(run) {
			if err := c.awaitReturn(run); err != nil {
				c.log.WarnContext(ctx, "that hosts are not back cannot be kept yet", "run", run.ID, "error", err)
			}
			continue
		}
		run, err := c.changeRun(run.ID, func(r *fleet.Run) {
			for i := range r.Hosts {
				if h := &r.Hosts[i]; !h.Final() {
					h.State, h.Reason = fleet.HostLost, c.lostReason(*r, *h)
				}
			}
			r.State = fleet.RunEnded
		})
		if err != nil {
			c.log.WarnContext(ctx, "the end of a run cannot be kept yet", "run", run.ID, "error", err)
			continue
		}
		c.record("run %s has ended: %d hosts gave account, %d did not", run.ID, final, open)
		if left := run.NotReverted(); len(left) > 0 {
			// Nobody attacks these services before the permits end, or a person has looked.
			c.record("run %s keeps its permits until they end: not reverted on %s", run.ID, strings.Join(left, ", "))
			continue
		}
		if err := c.yieldAll(ctx, run); err != nil {
			c.log.WarnContext(ctx, "a permit cannot be given back yet", "run", run.ID, "error", err)
		}
	}
}
