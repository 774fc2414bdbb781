package remotetest

import (
	"context"
	"net"
	"sync"
)

// Cutter makes connections that break after a number of bytes, both directions together, and counts them.
type Cutter struct {
	mu    sync.Mutex // guards the fields below
	after []int64
	spent int64
	open  []net.Conn
}

// CutAfter breaks what carries the bytes from now on, once for each number; none never.
func (c *Cutter) CutAfter(bytes ...int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spent, c.after = 0, bytes
}

// Spent returns the bytes since CutAfter or the last cut.
func (c *Cutter) Spent() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spent
}

// Left returns how many of the cuts are still to come.
func (c *Cutter) Left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.after)
}

// spend counts bytes and returns how many of them still pass.
func (c *Cutter) spend(bytes int) (pass int, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spent += int64(bytes)
	if len(c.after) == 0 || c.spent <= c.after[0] {
		return bytes, false
	}
	pass = bytes - int(c.spent-c.after[0])
	c.spent, c.after = 0, c.after[1:]
	return max(pass, 0), true
}

// Cut breaks every connection now.
func (c *Cutter) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
}

// DialNet is for remote.Options.
func (c *Cutter) DialNet(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, conn)
	return &cutConn{Conn: conn, cutter: c}, nil
}

type cutConn struct {
	net.Conn
	cutter *Cutter
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	pass, cut := c.cutter.spend(n)
	if cut {
		_ = c.Conn.Close()
		return pass, net.ErrClosed
	}
	return n, err
}

// Write sends exactly the bytes that are left before the cut.
func (c *cutConn) Write(p []byte) (int, error) {
	pass, cut := c.cutter.spend(len(p))
	if !cut {
		return c.Conn.Write(p)
	}
	n, _ := c.Conn.Write(p[:pass])
	_ = c.Conn.Close()
	return n, net.ErrClosed
}
