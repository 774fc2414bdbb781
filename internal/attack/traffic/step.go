package traffic

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/herd"
	"firedrill/internal/attack/netem"
	"firedrill/internal/attack/nfqueue"
	"firedrill/internal/history"
)

// cut is the one step of a network attack: the table, its lease, and its names.
type cut struct {
	kind    string
	guid    string
	effect  Effect
	targets attack.Targets
	hit     []attack.Named
	spare   []attack.Named
	control []attack.Connection
	names   map[string]attack.Resolution
	scope   attack.ScopeFacts
	herd    *herd.Step // gathers the scope's processes before this step
	hooks   Hooks

	shape    *netem.Step // only in the way of netem
	whyQueue string      // why the queue was chosen though the kernel has netem

	mu       sync.Mutex // guards the fields below
	table    *table
	holder   *nfqueue.Holder // only in the way of the queue
	deadline time.Time
	spared   *attack.Cover         // everything spared so far
	known    map[netip.Addr]bool   // every address hit or spared so far
	nameOf   map[netip.Addr]string // for the hits that are reported
	ports    map[port]bool         // of the scope's sockets that are in the table
	held     []socket              // flows that the processes brought along
}

// Remains implements attack.Step. On a kernel without the owner flag the empty table remains until the next start; its drops do not.
func (c *cut) Remains() attack.Remains { return attack.RemainsNothing }

// Apply implements attack.Step.
func (c *cut) Apply(ctx context.Context, deadline time.Time) error {
	c.mu.Lock()
	c.deadline = deadline
	c.mu.Unlock()
	if err := c.openQueue(); err != nil {
		return err
	}
	return c.apply(ctx, deadline)
}

func (c *cut) setTable(t *table) {
	c.mu.Lock()
	c.table = t
	c.mu.Unlock()
}

func (c *cut) getTable() *table {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table
}

// Revert implements attack.Step.
func (c *cut) Revert(context.Context) error {
	var err error
	holder := c.getHolder()
	if t := c.getTable(); t != nil {
		err = t.revert(holder)
	}
	if holder != nil {
		err = errors.Join(err, holder.Close())
	}
	return err
}

// Residue implements attack.Verified.
func (c *cut) Residue(context.Context) ([]string, error) {
	if c.getTable() == nil {
		return nil, nil // nothing was made; and without the right to make it we cannot look either
	}
	tables, err := listTables(c.kind)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if t.Name == TableName(c.guid) {
			return []string{"table inet " + t.Name}, nil
		}
	}
	return nil, nil
}

// Targets implements attack.Targeting.
func (c *cut) Targets() []history.AttackTarget {
	c.mu.Lock()
	hit, spare := c.hit, c.spare
	c.mu.Unlock()
	if !c.targets.All() {
		return c.oneWay(attack.TargetEvents(c.guid, hit, spare))
	}
	events := attack.TargetEvents(c.guid, nil, spare)
	all := history.AttackTarget{GUID: c.guid, Address: "all", Verb: attack.VerbDrop, Direction: attack.Egress}
	events = slices.Insert(events, len(spare), all)
	all.Direction = attack.Ingress
	return c.oneWay(append(events, all))
}

// oneWay leaves out the lines of a direction in which nothing is hit.
func (c *cut) oneWay(events []history.AttackTarget) []history.AttackTarget {
	return slices.DeleteFunc(events, func(e history.AttackTarget) bool {
		return c.effect.EgressOnly && e.Direction == attack.Ingress || c.effect.ingressOnly() && e.Direction == attack.Egress
	})
}

// Wording implements attack.Worded.
func (c *cut) Wording() string { return c.effect.wording() }

// Answers implements attack.Answering.
func (c *cut) Answers() attack.Answers {
	if c.scoped() {
		return attack.AnswersSome // a canary's socket is ours, not the scope's
	}
	return c.effect.answers()
}

// Hits implements attack.Counting.
func (c *cut) Hits(context.Context) (history.AttackHits, error) {
	c.mu.Lock()
	t := c.table
	c.remember()
	nameOf := make(map[netip.Addr]string, len(c.nameOf))
	for addr, name := range c.nameOf {
		nameOf[addr] = name
	}
	c.mu.Unlock()
	if t == nil {
		return history.AttackHits{GUID: c.guid}, nil
	}
	return t.hits(c.guid, nameOf)
}

// remember makes the indexes of what is known at the start, once. c.mu is held.
func (c *cut) remember() {
	if c.known != nil {
		return
	}
	c.known, c.nameOf = map[netip.Addr]bool{}, map[netip.Addr]string{}
	for _, n := range slices.Concat(c.hit, c.spare) {
		if n.Name != "" {
			c.known[n.Prefix.Addr()] = true
			c.nameOf[n.Prefix.Addr()] = n.Name
		}
	}
	c.cover()
}

func (c *cut) cover() {
	prefixes := make([]netip.Prefix, len(c.spare))
	for i, n := range c.spare {
		prefixes[i] = n.Prefix
	}
	c.spared = attack.NewCover(prefixes)
}

// Tend implements attack.Tended: it renews the lease, and resolves the names again.
func (c *cut) Tend(ctx context.Context, report func(history.Fact)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for _, name := range c.targets.Names() {
		wait.Go(func() {
			if err := c.follow(ctx, name, report); err != nil {
				cancel(err)
			}
		})
	}
	wait.Go(func() {
		// What cannot be deleted is not in force any more, for its gate is shut.
		_, _ = Sweeper{}.Sweep(ctx, attack.Alive)
	})
	if c.scoped() {
		wait.Go(func() {
			if err := c.followSockets(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wait.Go(func() {
		if err := c.heedQueue(ctx); err != nil {
			cancel(err)
		}
	})
	wait.Go(func() {
		if err := c.grow(ctx); err != nil {
			cancel(err)
		}
	})
	wait.Go(func() {
		if err := c.keepAlive(ctx); err != nil {
			cancel(err)
		}
	})
	<-ctx.Done()
	wait.Wait()
	return context.Cause(ctx)
}

func (c *cut) keepAlive(ctx context.Context) error {
	c.mu.Lock()
	t, deadline := c.table, c.deadline
	c.mu.Unlock()
	for { // the lease is fresh: apply renewed it a second ago at most
		timer := time.NewTimer(attack.NextSecond())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := t.renew(deadline); err != nil {
			return err
		}
	}
}

// follow resolves one name four times within its TTL. A name that does not resolve any more keeps the addresses that it had: clients do the
// same, and DNS may be among the things that are cut.
func (c *cut) follow(ctx context.Context, name string, report func(history.Fact)) error {
	ttl := c.names[name].TTL
	for {
		timer := time.NewTimer(attack.ResolveEvery(ttl))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		found, err := attack.Resolver{}.Lookup(ctx, name)
		if err != nil {
			continue
		}
		ttl = found.TTL
		if err := c.Learn(name, found.Addresses, report); err != nil {
			return err
		}
	}
}

// Learn implements attack.Learning. An address once hit stays hit until the end: clients keep using it after DNS has moved on.
func (c *cut) Learn(name string, addrs []netip.Addr, report func(history.Fact)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table == nil || c.hooks.ResolveOnce || !slices.Contains(c.targets.Names(), name) {
		return nil
	}
	c.remember()
	spares := slices.Contains(c.targets.SpareNames, name)
	var fresh []attack.Named
	for _, addr := range addrs {
		addr = addr.Unmap()
		prefix := netip.PrefixFrom(addr, addr.BitLen())
		if c.known[addr] || (!spares && c.spared.Holds(prefix)) {
			continue
		}
		c.known[addr], c.nameOf[addr] = true, name
		fresh = append(fresh, attack.Named{Prefix: prefix, Name: name})
	}
	if len(fresh) == 0 {
		return nil
	}
	what := "hit"
	events := attack.TargetEvents(c.guid, fresh, nil)
	if spares {
		what = "spare"
		events = attack.TargetEvents(c.guid, nil, fresh)
		c.spare = append(slices.Clone(c.spare), fresh...)
		c.cover()
	}
	for _, f := range families() {
		for part := range addressChunks(what+f.suffix, fresh, f) {
			if err := c.table.addElements(part.set, part.elements); err != nil {
				return err
			}
		}
	}
	events = c.oneWay(events)
	for i := range events {
		report(&events[i])
	}
	return nil
}

func addressChunks(set string, named []attack.Named, f family) func(func(chunk) bool) {
	l := &load{sets: map[string]content{}}
	l.addresses(set[:len(set)-1], named, false)
	if _, ok := l.sets[set]; !ok {
		return func(func(chunk) bool) {}
	}
	return l.chunks(set)
}
