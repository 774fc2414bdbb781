package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/nfqueue"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// TablePrefix begins the name of every table of ours. The GUID follows, and the GUID's claim tells whether its attack still lives.
const TablePrefix = "firedrill-"

// TableName returns the name of the table of an attack.
func TableName(guid string) string { return TablePrefix + guid }

const (
	// lease is how long the gate stays open without us. Long enough for a busy machine to hold the process up without ending the attack,
	// short enough that a frozen one does not hurt for long; the deadline cuts it shorter.
	lease      = 4 * time.Second
	leaseRenew = time.Second // costs 0.1-0.3 ms each
	// An ordinary user's socket buffer holds 200 KB; 5,000 IPv6 elements are 140 KB.
	chunkMax = 5000
)

// table is our nftables table and the socket that owns it.
type table struct {
	mu     sync.Mutex // guards conn and reader: a batch is one caller's from begin to flush
	conn   *conn
	reader *nftables.Conn // of the addresses that were hit; nil before there is one
	table  *nftables.Table
	sets   map[string]*nftables.Set
	alive  *nftables.Set
	hooks  Hooks
}

// apply makes the table, most urgent things first: when the first batch is in, spares are safe and the first targets are cut; the other
// targets follow in chunks. The lease is renewed on the way.
func (c *cut) apply(ctx context.Context, deadline time.Time) error {
	load := newLoad(c)
	if c.scoped() {
		var err error
		if c.ports, err = c.waitingPorts(); err != nil {
			return err
		}
		if c.held, err = c.heldFlows(); err != nil {
			return err
		}
	}
	t, err := c.install(load, deadline)
	if err != nil {
		return err
	}
	c.setTable(t)
	renewed := time.Now()
	for chunk := range load.rest() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(renewed) > leaseRenew {
			if err := t.renew(deadline); err != nil {
				return err
			}
			renewed = time.Now()
		}
		c.hooks.mark("elements")
		if err := t.addElements(chunk.set, chunk.elements); err != nil {
			return fmt.Errorf("%s: add %d elements to %s: %w", c.kind, len(chunk.elements), chunk.set, err)
		}
	}
	c.hooks.mark("in force")
	return nil
}

// install tries with all that a new kernel has, and with less when this one refuses.
func (c *cut) install(load *load, deadline time.Time) (*table, error) {
	f := features{owner: !c.hooks.NoOwner, socket: true, fib: true, queue: c.effect.Way == WayQueue}
	for {
		t, err := c.create(load, f, deadline)
		switch {
		case err == nil:
			return t, nil
		case errors.Is(err, unix.EINVAL) && f.owner:
			f.owner = false
		case errors.Is(err, unix.ENOENT) && f.queue:
			f.queue = false
		case (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)) && (f.fib || f.socket):
			f.fib, f.socket = false, f.fib // first without fib, then without both
		case errors.Is(err, unix.EOPNOTSUPP) && len(c.groups()) > 0:
			return nil, &drill.Error{Op: "attack " + c.kind, Kind: drill.Unsupported, Err: fmt.Errorf("this kernel does not tell packets apart by control group: nftables: %w", err),
				Hint: "narrow it with --user, or use Linux 5.13 or newer; firedrill doctor says it as nf_tables_cgroup"}
		default:
			return nil, explain(c.kind, err)
		}
	}
}

// create makes the table and all but the elements of load.rest in as few batches as the socket takes: one, unless there are thousands
// of spares.
func (c *cut) create(load *load, f features, deadline time.Time) (*table, error) {
	conn, err := openConn()
	if err != nil {
		return nil, err
	}
	t := &table{conn: conn, sets: map[string]*nftables.Set{}, hooks: c.hooks}
	t.table = &nftables.Table{Name: TableName(c.guid), Family: nftables.TableFamilyINet}
	if f.owner {
		t.table.Flags = nftables.TableFlagOwner
	}
	if err := t.fill(c, load, f, deadline); err != nil {
		t.destroy()
		return nil, err
	}
	return t, nil
}

func (t *table) fill(c *cut, load *load, f features, deadline time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.hooks.mark("table")
	t.conn.CreateTable(t.table)
	t.addSets(c, load)
	for i, chunk := range load.spares() {
		if i > 0 { // the first one goes with the table
			c.hooks.mark("spares")
			if err := t.conn.Flush(); err != nil {
				return err
			}
		}
		t.conn.SetAddElements(t.sets[chunk.set], chunk.elements)
	}
	t.addPorts(c.ports)
	t.addHeld(c.held)
	for _, chunk := range load.first() {
		t.conn.SetAddElements(t.sets[chunk.set], chunk.elements)
	}
	if !c.hooks.NeverBites {
		t.conn.SetAddElements(t.alive, t.aliveUntil(deadline))
	}
	for _, counter := range []string{counterEgress, counterIngress, counterForward} {
		t.conn.AddCounter(t.table, counter)
	}
	rules := newLayout(c, load, f).build()
	own, routed := rules, []rule(nil)
	if !c.scoped() {
		own, routed = splitRouted(rules)
	}
	t.addRegularChains(c)
	t.addBaseChains(c.ownHooks())
	if err := t.addRules(own); err != nil {
		return err
	}
	c.hooks.mark("rules")
	if err := t.conn.Flush(); err != nil || c.scoped() {
		return err
	}
	// What is routed through this host has a batch of its own. To hook into another place of the kernel's network takes it as long as all
	// the rest, and this host's own traffic should not wait for that.
	t.addBaseChains(c.routedHooks())
	if err := t.addRules(routed); err != nil {
		return err
	}
	c.hooks.mark("routed")
	return t.conn.Flush()
}

// splitRouted takes the rules of the chain that sees what is routed out of all.
func splitRouted(rules []rule) (own, routed []rule) {
	for _, r := range rules {
		if r.chain == chainThru {
			routed = append(routed, r)
		} else {
			own = append(own, r)
		}
	}
	return own, routed
}

func (t *table) addSets(c *cut, load *load) {
	t.alive = &nftables.Set{Table: t.table, Name: setAlive, KeyType: nftables.TypeNFProto, HasTimeout: true}
	t.conn.AddSet(t.alive)
	for _, name := range load.names {
		set := load.sets[name].set(t.table, name)
		t.conn.AddSet(set)
		t.sets[name] = set
	}
	for _, direction := range directions() {
		for _, f := range families() {
			// Without a size: the kernel would make room for all of them at once, a megabyte for each set, and the first packet would have
			// to wait for it. It keeps to 65,535 by itself; beyond them packets are still hit and counted in total.
			set := &nftables.Set{Table: t.table, Name: seen(direction, f), KeyType: keyType(f), Dynamic: true}
			t.conn.AddSet(set)
			t.sets[set.Name] = set
		}
	}
	for _, set := range append(c.scopeSets(t.table), c.shareSet(t.table)...) {
		t.conn.AddSet(set)
		t.sets[set.Name] = set
	}
}

func keyType(f family) nftables.SetDatatype {
	if f.size == 4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

func newLayout(c *cut, load *load, f features) *layout {
	l := &layout{cut: c, features: f, hasSet: map[string]bool{}}
	for name := range load.sets {
		l.hasSet[name] = true
	}
	return l
}

func (t *table) addRegularChains(c *cut) {
	regular := []string{chainOutSink, chainOutHit, chainThruDrop, chainThruHit, chainInDrop, chainInHit}
	if c.scoped() {
		regular = append(regular, chainOutScope, chainInScope)
	}
	for _, name := range regular {
		t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table})
	}
}

// ownHooks are the places at which the kernel shows us this host's own traffic. Chain in is the last to come and the last to go: see
// layout.build.
func (c *cut) ownHooks() []nftables.Chain {
	hooks := []nftables.Chain{{Name: chainOut, Type: nftables.ChainTypeRoute, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(priorityOut)}}
	if c.scoped() {
		hooks = append(hooks, nftables.Chain{Name: chainLocal, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityRef(priorityIn)})
	}
	hooks = append(hooks, nftables.Chain{Name: chainIn, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(priorityIn)})
	if c.hooks.DropFirst {
		slices.Reverse(hooks)
	}
	return hooks
}

// routedHooks are those at which it shows us what is routed.
func (c *cut) routedHooks() []nftables.Chain {
	return []nftables.Chain{{Name: chainThru, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(priorityOut)}}
}

func (t *table) addBaseChains(hooks []nftables.Chain) {
	accept := nftables.ChainPolicyAccept
	for _, base := range hooks {
		base.Table, base.Policy = t.table, &accept
		t.conn.AddChain(&base)
	}
}

func (t *table) addRules(rules []rule) error {
	for _, rule := range rules {
		for _, e := range rule.exprs {
			switch e := e.(type) {
			case *expr.Lookup:
				e.SetID = t.setID(e.SetName)
			case *expr.Dynset:
				e.SetID = t.setID(e.SetName)
			}
		}
		if err := t.conn.AddRule(t.table, rule.chain, rule.exprs); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) setID(name string) uint32 {
	if name == setAlive {
		return t.alive.ID
	}
	return t.sets[name].ID
}

// aliveUntil returns the gate's elements, open for one lease and never past the deadline.
func (t *table) aliveUntil(deadline time.Time) []nftables.SetElement {
	left := min(lease, time.Until(deadline))
	if t.hooks.PastEnd {
		left = lease
	}
	// The kernel takes whole milliseconds, and 0 would mean for ever.
	left = max(left, time.Millisecond)
	return []nftables.SetElement{{Key: []byte{unix.NFPROTO_IPV4}, Timeout: left}, {Key: []byte{unix.NFPROTO_IPV6}, Timeout: left}}
}

// renew opens the gate for another lease. Elements are deleted and added in one batch, because adding alone does not refresh them.
// When they are gone already the attack is over: attack.ErrLapsed.
func (t *table) renew(deadline time.Time) error {
	if t.hooks.NeverBites || t.hooks.NoGate {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil || (!time.Now().Before(deadline) && !t.hooks.PastEnd) {
		return nil
	}
	elements := t.aliveUntil(deadline)
	t.conn.SetDeleteElements(t.alive, elements)
	t.conn.SetAddElements(t.alive, elements)
	err := t.conn.Flush()
	if errors.Is(err, unix.ENOENT) {
		if !time.Now().Before(deadline) {
			return nil
		}
		return attack.ErrLapsed
	}
	if err != nil {
		return fmt.Errorf("traffic: renew the lease: %w", err)
	}
	return nil
}

func (t *table) addElements(set string, elements []nftables.SetElement) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return attack.ErrLapsed
	}
	t.conn.SetAddElements(t.sets[set], elements)
	return t.conn.Flush()
}

// hits reads the counters.
func (t *table) hits(guid string, nameOf map[netip.Addr]string) (history.AttackHits, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	total := history.AttackHits{GUID: guid}
	if t.conn == nil {
		return total, attack.ErrLapsed
	}
	packets, err := t.conn.Counters(t.table)
	if err != nil {
		return total, fmt.Errorf("traffic: read counters: %w", err)
	}
	total.Egress, total.Ingress, total.Forward = packets[counterEgress], packets[counterIngress], packets[counterForward]
	if total.Egress+total.Ingress+total.Forward == 0 || t.hooks.Anonymous {
		return total, nil
	}
	if t.reader == nil {
		if t.reader, err = nftables.New(nftables.AsLasting()); err != nil {
			return total, err
		}
	}
	return total, t.addressHits(&total, nameOf)
}

func (t *table) addressHits(total *history.AttackHits, nameOf map[netip.Addr]string) error {
	at := map[netip.Addr]int{}
	for _, direction := range directions() {
		for _, f := range families() {
			elements, err := t.reader.GetSetElements(t.sets[seen(direction, f)])
			if err != nil {
				return fmt.Errorf("traffic: read hits: %w", err)
			}
			for _, e := range elements {
				addr, ok := netip.AddrFromSlice(e.Key)
				if !ok || e.Counter == nil {
					continue
				}
				i, known := at[addr]
				if !known {
					i = len(total.Addresses)
					at[addr] = i
					total.Addresses = append(total.Addresses, history.AddressHits{Address: addr.String(), Name: nameOf[addr]})
				}
				switch direction {
				case "out":
					total.Addresses[i].Egress += e.Counter.Packets
				case "in":
					total.Addresses[i].Ingress += e.Counter.Packets
				default:
					total.Addresses[i].Forward += e.Counter.Packets
				}
			}
		}
	}
	return nil
}

// revert shuts the gate, then deletes the table, then closes the socket that owns it: any one of the three would do. What is held is let
// go in between: with a table the kernel drops every packet that waits in a queue.
func (t *table) revert(holder *nfqueue.Holder) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil || t.hooks.KeepTable {
		return nil
	}
	t.hooks.mark("shut")
	t.conn.FlushSet(t.alive)
	shut := t.conn.Flush()
	if holder != nil {
		t.hooks.mark("drain")
		holder.Drain(drainWithin)
	}
	t.hooks.mark("delete")
	t.conn.DelTable(t.table)
	deleted := t.conn.Flush()
	t.hooks.mark("close")
	closed := t.conn.Close()
	t.conn = nil
	if t.reader != nil {
		closed = errors.Join(closed, t.reader.CloseLasting())
	}
	if deleted == nil || errors.Is(deleted, unix.ENOENT) {
		return closed
	}
	return fmt.Errorf("traffic: delete table %s: %w", t.table.Name, errors.Join(shut, deleted, closed))
}

// destroy forgets a table that was refused: closing the socket undoes what a batch may have left.
func (t *table) destroy() {
	t.conn.batch = t.conn.batch[:0]
	t.conn.DelTable(t.table)
	_ = t.conn.Flush()
	_ = t.conn.Close()
}

// listTables returns our tables as a fresh socket sees them.
func listTables(kind string) ([]*nftables.Table, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	all, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, explain(kind, err)
	}
	var ours []*nftables.Table
	for _, t := range all {
		if strings.HasPrefix(t.Name, TablePrefix) {
			ours = append(ours, t)
		}
	}
	return ours, nil
}

// Sweeper finds and deletes the tables of dead attacks, of every network kind. It implements attack.Sweeper.
type Sweeper struct{}

// Check implements attack.Checker: without the right to change the network nothing else needs to be tried.
func (Sweeper) Check(context.Context) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err == nil && held[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return explain("network", unix.EPERM)
	}
	return nil
}

// SweepsLate implements attack.LateSweeper: the gate of a dead attack is shut, and its table does nothing.
func (Sweeper) SweepsLate() {}

// Residue implements attack.Sweeper.
func (Sweeper) Residue(context.Context) ([]string, error) {
	tables, err := listTables("network")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range tables {
		names = append(names, "table inet "+t.Name)
	}
	return names, nil
}

// Sweep implements attack.Sweeper. Only a kernel that does not know the owner flag has anything to sweep.
func (Sweeper) Sweep(_ context.Context, alive func(guid string) bool) ([]string, error) {
	tables, err := listTables("network")
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, t := range tables {
		if t.Owner != 0 || alive(strings.TrimPrefix(t.Name, TablePrefix)) {
			continue
		}
		conn, err := nftables.New()
		if err == nil {
			conn.DelTable(t)
			err = conn.Flush()
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("traffic: delete table %s of a dead attack: %w", t.Name, err))
			continue
		}
		removed = append(removed, "table inet "+t.Name)
	}
	return removed, errors.Join(errs...)
}

// explain gives the cure for what netlink says.
func explain(kind string, err error) error {
	e := &drill.Error{Op: "attack " + kind, Err: fmt.Errorf("nftables: %w", err)}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		e.Kind, e.Hint = drill.Unsupported, "run it as root: sudo firedrill attack ..."
	case errors.Is(err, unix.EEXIST):
		e.Kind, e.Hint = drill.Refused, "a table of this guid exists already; end it with: firedrill halt"
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		e.Kind, e.Hint = drill.Unsupported, "this kernel lacks nf_tables (Linux 5.10 or newer with CONFIG_NF_TABLES_INET is needed): modprobe nf_tables"
	}
	return e
}
