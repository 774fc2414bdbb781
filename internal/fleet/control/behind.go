package control

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
)

// behind knows whether other servers show a certificate that has followed this one's. A server that was away while it was replaced once is let in as long as the one
// before counts, and follows what is kept. After that it is not let in any more, and nothing that it has could prove that it is not somebody who has an old copy of
// the keys: a person must bring it the new ones.
type behind struct {
	mu    sync.Mutex // guards the fields below
	pin   string     // that others have shown; empty: none that follows on ours
	since time.Time  // when it was seen first while nobody let us in
	said  bool
}

func (b *behind) saw(pin string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pin = pin
}

// leftBehind is the refusal of a server that others let in no more, with its cure; nil: it is none, or that is not sure yet. It is sure when for as long as
// Patience nobody has let it in whose certificate has followed its own.
func (c *Control) leftBehind(now time.Time) error {
	engine := c.engine.Load()
	if len(c.options.Cluster.Peers) == 0 || engine == nil || c.options.Hopeful {
		return nil
	}
	routes, own := engine.NumRoutes(), c.keys.ownPin()
	b := &c.behind
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pin == "" || b.pin == own || routes > 0 {
		b.since = time.Time{}
		return nil
	}
	if b.since.IsZero() {
		b.since = now
	}
	if now.Sub(b.since) < c.options.Patience {
		return nil
	}
	path := c.options.identityPath()
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	hosts := c.otherHosts()
	also := "it is the same on all"
	if len(hosts) > 1 {
		also = "or from " + strings.Join(hosts[1:], ", ")
	}
	return &drill.Error{Op: "fleet", Kind: drill.Refused, Err: fmt.Errorf("the other servers let this one in no more: their certificate was replaced since it was there last, and its own (change %d of the keys) does not count any more", c.keys.now().Turn),
		Hint: fmt.Sprintf("bring it the keys of another server while it is stopped, and start it again; its history and its log stay: scp %s:%s %s && chmod 600 %s (%s; the directory there is that of --data)", hosts[0], path, path, path, also)}
}

// otherHosts are the machines of the other servers; if there are none, this one's.
func (c *Control) otherHosts() (hosts []string) {
	own, _, _ := net.SplitHostPort(c.options.Advertise)
	defer func() {
		if len(hosts) == 0 {
			hosts = []string{own}
		}
	}()
	for _, peer := range c.options.Cluster.Peers {
		if host, _, err := net.SplitHostPort(peer); err == nil && host != own && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// sayLeftBehind says it once, and what helps, of a server that was cut off while it ran.
func (c *Control) sayLeftBehind(ctx context.Context) {
	err := c.leftBehind(time.Now())
	c.behind.mu.Lock()
	say := err != nil && !c.behind.said
	c.behind.said = err != nil
	c.behind.mu.Unlock()
	if say {
		c.log.ErrorContext(ctx, "this server is left behind", "error", err, "cure", drill.HintOf(err))
	}
}
