package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	leaseDefault = 5 * time.Second
	leaseBeats   = 5  // tries to renew within one lease
	leaseReserve = 10 // the tenth part of a lease by which its holder stops before others may begin
	leaseKey     = "leader"
)

// lease says who leads. A server that wants to lead takes it when it saw it unchanged for its whole length, by the server's own clock: so clocks
// need not agree. Its holder counts from before it asked for the renewal, and stops earlier than that.
type lease struct {
	Server string    `json:"server"` // of one life of a server; empty: yielded
	Name   string    `json:"name"`   // for people
	Term   uint64    `json:"term"`   // grows with each leader: what fences the one before
	Since  time.Time `json:"since"`
}

// leadership is what a server knows of the lease.
type leadership struct {
	bucket jetstream.KeyValue
	length time.Duration
	alone  bool // there is one server, and it leads
	self   lease

	stubborn bool // planted bug: a lease that was not renewed still counts

	asking sync.Mutex // one question about the lease at a time

	mu       sync.Mutex // guards the fields below
	seen     lease
	revision uint64    // of what was seen
	at       time.Time // when it was seen first
	term     uint64    // that is held; 0: none
	until    time.Time // when it is held no more, unless it is renewed
	ready    bool      // what was begun before is taken over
	since    time.Time // of that
}

// holds returns the term that is held now.
func (l *leadership) holds() (term uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term, l.alone || l.term > 0 && (l.stubborn || time.Now().Before(l.until))
}

// leads reports whether it is this server's to order.
func (l *leadership) leads() bool {
	_, ok := l.holds()
	l.mu.Lock()
	defer l.mu.Unlock()
	return ok && (l.alone || l.ready)
}

// youth is how long what a leader before wrote last may be on its way, at most: a reader whose server died is silent for half of it.
const youth = 30 * time.Second

// young reports whether this server leads since so short a time that a run of the leader before may not be known here yet.
func (l *leadership) young(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.alone && now.Sub(l.since) < youth
}

// led reports whether this server has led for so long.
func (l *leadership) led(now time.Time, long time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Sub(l.since) >= long
}

// leader is who held the lease when it was looked at last.
func (l *leadership) leader() lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// look reads the lease, and takes it if nobody holds it any more. It returns the term when it was taken now,
// and from whom; and whether another one leads than before.
func (l *leadership) look(ctx context.Context, now time.Time) (term uint64, from lease, changed bool, err error) {
	l.asking.Lock()
	defer l.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.length)
	defer cancel()
	var had lease
	var revision uint64
	entry, err := l.bucket.Get(ctx, leaseKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return 0, had, changed, err
	default:
		revision = entry.Revision()
		if err := json.Unmarshal(entry.Value(), &had); err != nil {
			return 0, had, changed, err
		}
	}
	l.mu.Lock()
	if l.seen.Term > 0 && had.Term != l.seen.Term {
		changed = true
	}
	if revision != l.revision {
		l.seen, l.revision, l.at = had, revision, now
	}
	waited := now.Sub(l.at)
	l.mu.Unlock()
	if had.Server != "" && waited <= l.length {
		return 0, had, changed, nil
	}
	wanted := l.self
	wanted.Term, wanted.Since = had.Term+1, now
	if err := l.write(ctx, wanted, revision); err != nil {
		if overtaken(err) {
			err = nil // another one was faster
		}
		return 0, had, changed, err
	}
	return wanted.Term, had, changed, nil
}

// write writes the lease if nobody has since a revision. It holds from before it was asked for.
func (l *leadership) write(ctx context.Context, wanted lease, after uint64) error {
	before := time.Now()
	revision, err := l.bucket.Update(ctx, leaseKey, encode(wanted), after)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != wanted.Term {
		l.ready = false
	}
	l.seen, l.revision, l.at = wanted, revision, before
	l.term, l.until = wanted.Term, before.Add(l.length-l.length/leaseReserve)
	return nil
}

// confirm renews the lease: when it returns nil, no other server led a moment ago.
func (l *leadership) confirm(ctx context.Context) error {
	if l.alone {
		return nil
	}
	l.asking.Lock()
	defer l.asking.Unlock()
	l.mu.Lock()
	term, revision, held := l.term, l.revision, l.seen
	l.mu.Unlock()
	if term == 0 || held.Term != term || held.Server != l.self.Server {
		return l.lost(held)
	}
	ctx, cancel := context.WithTimeout(ctx, l.length/2)
	defer cancel()
	err := l.write(ctx, held, revision)
	if err == nil || !overtaken(err) {
		return err
	}
	// Another one, or a renewal of ours of which the answer was lost.
	entry, err := l.bucket.Get(ctx, leaseKey)
	if err != nil {
		return err
	}
	var now lease
	if err := json.Unmarshal(entry.Value(), &now); err != nil {
		return err
	}
	if now.Server != l.self.Server || now.Term != term {
		l.mu.Lock()
		l.seen, l.revision, l.at = now, entry.Revision(), time.Now()
		if !l.stubborn {
			l.term, l.ready = 0, false
		}
		l.mu.Unlock()
		return l.lost(now)
	}
	return l.write(ctx, held, entry.Revision())
}

func (l *leadership) lost(now lease) error {
	if _, holds := l.holds(); holds && now.Server == l.self.Server && !l.stubborn {
		return unled{&drill.Error{Op: "lead", Kind: drill.Unreachable, Err: errors.New("this server is taking over, and does not order yet"), Hint: "ask again in a few seconds"}}
	}
	return unled{&drill.Error{Op: "lead", Kind: drill.Refused, Err: fmt.Errorf("this server does not lead; %s does", nameOf(now)), Hint: "ask again in a few seconds; what was ordered may have begun: firedrill fleet runs"}}
}

// unled is an error of a server that does not lead, or cannot find out whether it does: what it was to do is left to the one that does.
type unled struct{ error }

func (u unled) Unwrap() error { return u.error }

func isUnled(err error) bool { return errors.As(err, &unled{}) }

func nameOf(l lease) string {
	if l.Name == "" {
		return "nobody"
	}
	return l.Name
}

// expire drops a lease that could not be renewed in time, and reports whether there was one.
func (l *leadership) expire(now time.Time) (dropped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == 0 || now.Before(l.until) || l.stubborn {
		return false
	}
	l.term, l.ready = 0, false
	return true
}

// yield gives the lease back, so that another server need not wait.
func (l *leadership) yield(ctx context.Context) error {
	if _, ok := l.holds(); !ok || l.alone {
		return nil
	}
	l.asking.Lock()
	defer l.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.length)
	defer cancel()
	l.mu.Lock()
	given := l.seen
	given.Server, given.Name = "", ""
	revision := l.revision
	l.term, l.ready = 0, false
	l.mu.Unlock()
	_, err := l.bucket.Update(ctx, leaseKey, encode(given), revision)
	return err
}

// campaign keeps the lease, or looks after it until it is to be had, until ctx ends.
func (c *Control) campaign(ctx context.Context) {
	if c.lead.alone {
		return
	}
	tick := time.NewTicker(c.lead.length / leaseBeats)
	defer tick.Stop()
	for {
		if _, ok := c.lead.holds(); ok {
			if err := c.lead.confirm(ctx); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "the lease is not renewed", "error", err)
			}
		} else if term, from, changed, err := c.lead.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "who leads cannot be looked at", "error", err)
		} else if term > 0 {
			c.beside.Go(func() { c.takeOver(context.WithoutCancel(ctx), term, from) })
		} else if changed {
			c.beside.Go(func() { c.reread(context.WithoutCancel(ctx)) })
		}
		if c.lead.expire(time.Now()) {
			c.record("this server leads no more: its lease could not be renewed")
		}
		select {
		case <-ctx.Done():
			if err := c.lead.yield(context.WithoutCancel(ctx)); err != nil {
				c.log.WarnContext(ctx, "the lease cannot be given back; it ends by itself", "error", err)
			}
			return
		case <-tick.C:
		}
	}
}

// takeOver begins to lead: it reads what is kept anew, and takes over what the leader before has begun.
func (c *Control) takeOver(ctx context.Context, term uint64, from lease) {
	c.record("this server leads, term %d, after %s", term, nameOf(from))
	for {
		err := c.catchUp(ctx)
		if now, ok := c.lead.holds(); !ok || now != term {
			return
		}
		if err == nil {
			break
		}
		c.log.WarnContext(ctx, "what is kept cannot be read yet", "error", err)
		<-time.After(overtakenAgain)
	}
	c.mu.Lock()
	clear(c.kept)
	c.mu.Unlock()
	for _, run := range c.runs.going() {
		c.adopt(ctx, run, nameOf(from))
	}
	if err := c.breakOff(ctx, func(run fleet.DrillRun) bool { return !c.conducts(run.ID) }); err != nil {
		c.log.WarnContext(ctx, "the drills of the leader before are not marked yet", "error", err)
	}
	c.lead.mu.Lock()
	if c.lead.term == term {
		c.lead.ready, c.lead.since = true, time.Now()
	}
	c.lead.mu.Unlock()
	c.pulse()
	if err := c.firstAdmin(ctx); err != nil {
		c.log.ErrorContext(ctx, "there is no first admin", "error", err)
	}
	c.beside.Go(func() { c.reread(ctx) })
}

// catchUp returns when what decides about runs and drills is at hand here as it was written last, which may still be on its way. The rest comes as it comes:
// what is done on an old view of it is refused by its revision.
func (c *Control) catchUp(ctx context.Context) error {
	all := []func(context.Context) error{c.levers.sync, c.runs.shelf.sync, c.drills.sync, c.schedule.sync, c.services.sync, c.freezes.sync, c.members.sync}
	problems := make([]error, len(all))
	var reading sync.WaitGroup
	for i, sync := range all {
		reading.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, catchUpTry)
			defer cancel()
			problems[i] = sync(ctx)
		})
	}
	reading.Wait()
	return errors.Join(problems...)
}

// catchUpTry bounds one question: an engine that has just lost a server answers some at once, and others when it has chosen anew.
const catchUpTry = time.Second

// reread reads all that is kept anew: who told of changes may have gone down with a server, and is missed late.
func (c *Control) reread(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rereadMax)
	defer cancel()
	reads := []func(context.Context) error{c.runs.shelf.read, c.levers.read, c.members.read, c.schedule.read, c.tokens.read, c.apiTokens.read, c.services.read, c.drills.read, c.freezes.read, c.retained.read, c.told.read, c.turns.read, c.records.catchUp}
	if c.servers != nil {
		reads = append(reads, c.servers.read)
	}
	if c.shared != nil {
		reads = append(reads, c.shared.chains.read)
	}
	for _, read := range reads {
		for read(ctx) != nil {
			if ctx.Err() != nil {
				c.log.WarnContext(ctx, "what is kept cannot be read anew", "error", ctx.Err())
				return
			}
			select {
			case <-c.closing:
				return
			case <-time.After(storeAgain):
			}
		}
	}
}

const rereadMax = time.Minute

// adopt takes over a run of a leader before. What had begun goes on to its end; what had not is ended, because nobody knows which of its hosts
// were told what. Both are written down in the run.
func (c *Control) adopt(ctx context.Context, run fleet.Run, from string) {
	what := "it goes on"
	if run.State == fleet.RunStarting || time.Now().Before(run.Start) {
		what = "it had not begun, and is ended"
	}
	run, err := c.changeRun(run.ID, func(r *fleet.Run) {
		r.Takeovers = append(r.Takeovers, fleet.Takeover{At: time.Now(), By: c.options.Name, From: from, What: what})
	})
	if err != nil {
		c.log.ErrorContext(ctx, "a run cannot be taken over", "run", run.ID, "error", err)
		return
	}
	c.record("run %s is taken over from %s: %s", run.ID, from, what)
	switch {
	case run.State == fleet.RunStarting:
		if _, err := c.giveUp(ctx, run, "the server that led went down before its start"); drill.KindOf(err) != drill.Refused {
			c.log.WarnContext(ctx, "a run is given up", "run", run.ID, "error", err)
		}
	case time.Now().Before(run.Start):
		run = c.change(run.ID, func(r *fleet.Run) { r.Stopped = c.options.Name + ", which took over before its start" })
		c.tellStopped(run)
	}
}

// keepPermits gives permits back that nobody needs any more, until ctx ends: what a leader before took for a run that was never written down, and what could not be
// given back when a run ended, because the engine was choosing anew, or because what was read of it was old.
func (c *Control) keepPermits(ctx context.Context) {
	tick := time.NewTicker(c.options.Margin)
	defer tick.Stop()
	for said := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.owing:
			select {
			case <-ctx.Done():
				return
			case <-time.After(owedAgain):
			}
		}
		err := c.freePermits(ctx)
		if err != nil {
			c.owe()
		}
		if err != nil && !said && ctx.Err() == nil {
			c.log.WarnContext(ctx, "permits cannot be looked through yet", "error", err)
		}
		said = err != nil
	}
}

const owedAgain = time.Second // between tries to give back what could not be given back

// owe has permits given back that could not be.
func (c *Control) owe() {
	select {
	case c.owing <- struct{}{}:
	default:
	}
}

// freePermits gives back what is held for runs and drills that are over or never were. What a leader before wrote last may be on its way: a permit whose run is
// not known is left for a while after this server has begun to lead.
func (c *Control) freePermits(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeMax)
	defer cancel()
	term, _ := c.lead.holds()
	if !c.lead.leads() || c.options.Keeping {
		return nil
	}
	holders, err := c.permits.Holders(ctx)
	for service, holder := range holders {
		if now, ok := c.lead.holds(); !ok || now != term {
			return nil
		}
		err = errors.Join(err, c.freePermit(ctx, service, holder.Run))
	}
	return err
}

// freePermit gives a permit back if its run or drill needs it no more.
func (c *Control) freePermit(ctx context.Context, service, id string) error {
	known, over := c.overAndDone(id)
	if !known && !c.lead.led(time.Now(), c.options.Margin) {
		return nil
	}
	if !known {
		c.ordering.Lock() // between a permit and its run
		defer c.ordering.Unlock()
		if known, over = c.overAndDone(id); !known {
			over = true
		}
	}
	if !over {
		return nil
	}
	if err := c.permits.Yield(ctx, service, id); err != nil {
		return err
	}
	c.record("the permit of %s is free again: run %s, which held it, is over or never was", service, id)
	return nil
}

// overAndDone reports whether a run or a drill is known, and whether it needs its permit no more.
func (c *Control) overAndDone(id string) (known, over bool) {
	drilled, isDrill := c.drills.get(id)
	run, isRun := c.runs.get(id)
	over = (!isDrill || drilled.Done() && !drilled.Left) && (!isRun || run.Done() && !c.unaccounted(run, time.Now()))
	return isDrill || isRun, over
}

// unaccounted reports whether a host of a run that is over may still have begun, or may not be as it was.
func (c *Control) unaccounted(run fleet.Run, now time.Time) bool {
	lost := func(host fleet.RunHost) bool { return host.State == fleet.HostLost }
	now = now.Add(-c.options.Margin)
	return now.Before(run.Deadline) && slices.ContainsFunc(run.Hosts, lost) || now.Before(c.lookedAt(run)) && len(run.NotReverted()) > 0
}

// lookedAt is when a person has had the time to look at hosts on which something may still be in force.
func (c *Control) lookedAt(run fleet.Run) time.Time {
	if soonest := run.Start.Add(mostDefault); soonest.After(run.Deadline) && !c.options.Hurried {
		return soonest
	}
	return run.Deadline
}

// here are the calls that any server answers: those that look, and the one that must not wait for a leader.
var here = map[string]bool{"hosts": true, "runs": true, "run": true, "journal": true, "members": true, "lever": true, "scheduled": true, "halt": true, "servers": true, "keys": true,
	"services": true, "cadences": true, "service": true, "freezes": true, "drills": true, "drillrun": true, "audit": true, "auditproof": true}

// forwarded is a call that a server hands on to the one that leads.
type forwarded struct {
	By    fleet.Member    `json:"by"`
	Call  string          `json:"call"`
	Asked json.RawMessage `json:"asked"`
}

func leadSubject(server string) string { return "fd.lead." + server }

// heardForwarded carries out what another server was asked.
func (c *Control) heardForwarded(message *nats.Msg) {
	go func() {
		var reply fleet.Reply
		var asked forwarded
		err := json.Unmarshal(message.Data, &asked)
		if err == nil && !atKeeper[asked.Call] && !c.lead.leads() {
			err = c.lead.lost(c.lead.leader())
		}
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), callMax)
			defer cancel()
			var result any
			result, err = c.Call(ctx, asked.By, asked.Call, asked.Asked)
			reply.Result = encode(result)
		}
		if err != nil {
			reply.Error = &fleet.Problem{Kind: kindOf(err), Text: err.Error(), Hint: drill.HintOf(err)}
		}
		c.say(message.Reply, reply)
	}()
}

// forward hands a call on to the server that leads.
func (c *Control) forward(ctx context.Context, by fleet.Member, call string, asked []byte) (any, error) {
	leader := c.lead.leader()
	if leader.Server == "" || leader.Server == c.boot {
		return nil, noLeader(call, nil)
	}
	result, err := c.askServer(ctx, leader.Server, by, call, asked)
	var unheard silence
	if errors.As(err, &unheard) {
		err = noLeader(call, unheard.error)
	}
	return result, err
}

// silence is of a server that does not answer.
type silence struct{ error }

// askServer hands a call to another server, by its boot.
func (c *Control) askServer(ctx context.Context, boot string, by fleet.Member, call string, asked []byte) (any, error) {
	if len(asked) == 0 {
		asked = []byte("null")
	}
	reply, err := c.request(ctx, leadSubject(boot), encode(forwarded{By: by, Call: call, Asked: asked}))
	if err != nil {
		return nil, silence{err}
	}
	result, err := typed(call, reply.Result)
	if reply.Error != nil {
		err = &drill.Error{Kind: reply.Error.Kind, Hint: reply.Error.Hint, Err: errors.New(reply.Error.Text)}
	}
	return result, err
}

func noLeader(call string, err error) error {
	why := "no server leads just now"
	if err != nil {
		why = "the server that leads does not answer: " + err.Error()
	}
	return &drill.Error{Op: call, Kind: drill.Unreachable, Err: errors.New(why), Hint: "ask again in a few seconds; another server takes over. What was ordered may have begun: firedrill fleet runs"}
}

// typed is a result as the call returns it here.
func typed(call string, text json.RawMessage) (any, error) {
	switch call {
	case "attack", "stop":
		return read[fleet.Run](text)
	case "release":
		return read[fleet.Lever](text)
	case "freeze", "unfreeze":
		return read[fleet.Freeze](text)
	case "schedule", "unschedule", "leash", "unleash", "runscheduled":
		return read[fleet.Scheduled](text)
	case "prune":
		return read[fleet.Pruned](text)
	case "putservice":
		return read[fleet.ServiceFile](text)
	case "drill", "stopdrill":
		return read[fleet.DrillRun](text)
	case "drilllog":
		return read[fleet.LogPart](text)
	case "drillfiles":
		return read[[]fleet.DrillFile](text)
	case "drillfile":
		return read[fleet.FilePart](text)
	case "rotate":
		return read[fleet.KeysView](text)
	case "add", "revoke", "rekey":
		return read[fleet.Member](text)
	case "token", "apitoken":
		return read[string](text)
	}
	return text, nil
}

func read[T any](text json.RawMessage) (any, error) {
	var value T
	if len(text) == 0 {
		return value, nil
	}
	err := json.Unmarshal(text, &value)
	return value, err
}

// request asks another server, and puts the parts of its answer together.
func (c *Control) request(ctx context.Context, subject string, text []byte) (fleet.Reply, error) {
	var reply fleet.Reply
	inbox := c.conn.NewInbox()
	answers, err := c.conn.SubscribeSync(inbox)
	if err != nil {
		return reply, err
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be gone
	if err := c.conn.PublishRequest(subject, inbox, text); err != nil {
		return reply, err
	}
	var answer []byte
	for {
		message, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return reply, err
		}
		if len(message.Data) == 0 && message.Header.Get("Status") != "" {
			return reply, errors.New("it is gone")
		}
		number, of, err := fleet.ReadPartName(message.Header.Get(fleet.HeaderPart))
		if err != nil {
			return reply, err
		}
		answer = append(answer, message.Data...)
		if number == of {
			return reply, json.Unmarshal(answer, &reply)
		}
	}
}
