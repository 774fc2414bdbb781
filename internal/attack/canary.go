package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/history"
)

// The three times at which a canary is tried, and the two flows; these words are in the log.
const (
	whenBefore  = "before"
	whenInForce = "in force"
	whenAfter   = "after"

	flowNew         = "new"
	flowEstablished = "established"
)

const (
	canaryEvery   = time.Second
	canaryTimeout = 750 * time.Millisecond // for a new connection: within the pace, and within the shortest attack
	canaryAfter   = 5                      // tries after the revert: the first may fall into a back-off of the other side
	// An established connection proves nothing before two of its keep-alive probes are overdue.
	canarySettle = 2500 * time.Millisecond
	canarySlack  = 200 * time.Millisecond // for the coarseness of the kernel's clock
	// The kernel may lift the impact a little before the deadline, 13 ms as measured: what is tried that late proves nothing.
	canaryMargin = 100 * time.Millisecond
)

// canary is one target of the positive control: new connections, and one that is kept from before.
type canary struct {
	target string
	name   string // resolved anew at each try in force; empty for an address
	port   uint16
	kept   *net.TCPConn

	mu      sync.Mutex   // guards the fields below
	seen    []netip.Addr // addresses tried, in the order in which they were seen; the first one is that of kept
	address netip.AddrPort
	before  bool // answered before the impact
	tried   int  // new connections in force
	through int  // of these, how many got through
	aged    int  // readings of the established connection in force
	alive   int  // of these, how many showed life
	after   bool // answered after the revert
}

type canaries struct {
	list   []*canary
	report func(history.Fact)
	guid   string
	steps  []Step
	until  time.Time // what is seen in force must be seen before
	expect Answers
}

// release closes the connections kept.
func (c *canaries) release() {
	for _, one := range c.list {
		if one.kept != nil {
			_ = one.kept.Close()
		}
	}
}

// before resolves each target, tries it, and keeps one connection to it.
func (c *canaries) before(ctx context.Context, targets []string) error {
	for _, target := range targets {
		host, port, err := net.SplitHostPort(target)
		if err != nil {
			return Refuse("canary", "", "--canary %s: write host:port", target)
		}
		number, err := net.LookupPort("tcp", port)
		if err != nil {
			return Refuse("canary", "", "--canary %s: %w", target, err)
		}
		one := &canary{target: target, port: uint16(number)}
		addr, err := netip.ParseAddr(host)
		if err != nil {
			found, err := Resolver{}.LookupAll(ctx, []string{host})
			if err != nil {
				return err
			}
			addr, one.name = found[host].Addresses[0], host
		}
		one.aim(addr.Unmap())
		c.list = append(c.list, one)
	}
	c.each(func(one *canary) {
		conn, err := one.dial(ctx)
		one.before = c.answered(err)
		if conn != nil {
			_ = conn.Close()
		}
		c.tell(one, flowNew, whenBefore, one.before, detail(err))
		if err == nil {
			one.kept, _ = one.dial(ctx)
		}
	})
	return nil
}

// inForce tries all canaries until ctx ends or the deadline is near. What was under way then is not counted. All steps must have been
// applied before since.
func (c *canaries) inForce(ctx context.Context, since, deadline time.Time) {
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(-canaryMargin))
	defer cancel()
	c.until = deadline.Add(-canaryMargin)
	c.each(func(one *canary) {
		tick := time.NewTicker(canaryEvery)
		defer tick.Stop()
		for {
			c.tryNew(ctx, one)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			c.readKept(ctx, one, since)
		}
	})
}

// follow aims the canary at where its name leads now, for the clients of the host ask again too. What it finds is told to the steps
// first, or an address that appeared a moment ago would count as a leak.
func (c *canaries) follow(ctx context.Context, one *canary) {
	if one.name == "" {
		return
	}
	found, err := Resolver{}.Lookup(ctx, one.name)
	if err != nil {
		return // clients go on with what they have, too
	}
	for _, step := range c.steps {
		if learning, ok := step.(Learning); ok {
			// An error here is the step's own to report: it tends the same names.
			_ = learning.Learn(one.name, found.Addresses, c.report)
		}
	}
	one.aim(found.Addresses...)
}

// aim takes the first address that was not tried yet, else the first one.
func (one *canary) aim(addrs ...netip.Addr) {
	one.mu.Lock()
	defer one.mu.Unlock()
	next := addrs[0]
	if at := slices.IndexFunc(addrs, func(a netip.Addr) bool { return !slices.Contains(one.seen, a) }); at >= 0 {
		next = addrs[at]
		one.seen = append(one.seen, next)
	}
	one.address = netip.AddrPortFrom(next, one.port)
}

func (one *canary) aimedAt() netip.AddrPort {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.address
}

// tooLate says that what was just seen may have been seen after the impact. The clock is asked too: on a busy machine the context of a
// deadline ends late, and the kernel is punctual.
func (c *canaries) tooLate(ctx context.Context) bool {
	return ctx.Err() != nil || time.Now().After(c.until)
}

func (c *canaries) tryNew(ctx context.Context, one *canary) {
	c.follow(ctx, one)
	conn, err := one.dial(ctx)
	if conn != nil {
		_ = conn.Close()
	}
	if c.tooLate(ctx) {
		return
	}
	through := c.answered(err)
	one.mu.Lock()
	one.tried++
	if through {
		one.through++
	}
	one.mu.Unlock()
	c.tell(one, flowNew, whenInForce, through, detail(err))
}

func (c *canaries) readKept(ctx context.Context, one *canary, since time.Time) {
	// Our clock first: when we are held up in between, the age only grows, and a dead path is not taken for a living one.
	elapsed := time.Since(since)
	if one.kept == nil || elapsed < canarySettle {
		return
	}
	age, err := lastHeard(one.kept)
	if c.tooLate(ctx) {
		return
	}
	if err != nil {
		c.tell(one, flowEstablished, whenInForce, false, err.Error())
		return
	}
	through := age < elapsed-canarySlack
	one.mu.Lock()
	one.aged++
	if through {
		one.alive++
	}
	one.mu.Unlock()
	c.tell(one, flowEstablished, whenInForce, through, fmt.Sprintf("last heard of %s ago", age))
}

// after waits for one answer of each canary that had answered before.
func (c *canaries) after(ctx context.Context) {
	c.each(func(one *canary) {
		var err error
		for range canaryAfter {
			var conn *net.TCPConn
			conn, err = one.dial(ctx)
			if conn != nil {
				_ = conn.Close()
			}
			if one.after = c.answered(err); one.after || !one.before || ctx.Err() != nil {
				break
			}
		}
		c.tell(one, flowNew, whenAfter, one.after, detail(err))
	})
}

func (c *canaries) each(do func(*canary)) {
	var wait sync.WaitGroup
	for _, one := range c.list {
		wait.Go(func() { do(one) })
	}
	wait.Wait()
}

func (c *canaries) tell(one *canary, flow, when string, through bool, detail string) {
	c.report(&history.AttackCanary{GUID: c.guid, Target: one.target, Address: one.aimedAt().String(), Flow: flow, When: when,
		Through: through, Detail: detail})
}

func (one *canary) dial(ctx context.Context) (*net.TCPConn, error) {
	// A probe each second, so that the kernel itself keeps asking whether the path lives; more unanswered ones than any drill is long
	// would end the connection, and 127 is the most that the kernel takes.
	dialer := net.Dialer{Timeout: canaryTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 127}}
	conn, err := dialer.DialContext(ctx, "tcp", one.aimedAt().String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// answered reports whether the other side was reached. A refusal is an answer too, unless refusing is what the attack does.
func (c *canaries) answered(err error) bool {
	refused := errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET)
	return err == nil || refused && c.expect != AnswersRefusal
}

func detail(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// lastHeard returns how long ago the other side acknowledged anything.
func lastHeard(conn *net.TCPConn) (time.Duration, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var optErr error
	if err := raw.Control(func(fd uintptr) { info, optErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
		return 0, err
	}
	if optErr != nil {
		return 0, optErr
	}
	return time.Duration(info.Last_ack_recv) * time.Millisecond, nil
}

func joinAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return strings.Join(texts, ", ")
}

// judge says for each canary what it proves. bit holds when all of them were cut off, doubt when any got through or proves nothing.
func (c *canaries) judge() (sentences []string, cut, leaked, lost bool) {
	cut = len(c.list) > 0
	for _, one := range c.list {
		one.mu.Lock()
		sentence := fmt.Sprintf("canary %s (%s): ", one.target, joinAddrs(one.seen))
		switch {
		case !one.before:
			sentence += "did not answer before the impact, so it proves nothing"
			cut = false
		case one.tried == 0:
			sentence += "was not tried while the impact was in force"
			cut = false
		case c.expect == AnswersSome:
			sentence += fmt.Sprintf("got through in %d of %d new connections, which proves nothing, for some are meant to", one.through, one.tried)
			cut = false
		case one.through > 0 || one.alive > 0:
			sentence += fmt.Sprintf("got through in %d of %d new connections and %d of %d readings of the established one",
				one.through, one.tried, one.alive, one.aged)
			cut, leaked = false, true
		default:
			sentence += fmt.Sprintf("answered before; cut off in %d of %d new connections and %d of %d readings of the established one",
				one.tried, one.tried, one.aged, one.aged)
		}
		if one.before && one.after {
			sentence += "; answers again"
		} else if one.before {
			sentence += "; does not answer after the revert"
			lost = true
		}
		one.mu.Unlock()
		sentences = append(sentences, sentence)
	}
	return sentences, cut, leaked, lost
}
