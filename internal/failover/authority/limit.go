package authority

import (
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// bucketsMax bounds the memory of the rate limit to half a MiB however many sources there are. Sources that fall into one bucket
	// share it; which ones do is different in each process, so nobody can aim at the bucket of another.
	bucketsMax = 1 << 14

	rateDefault = 1000 // queries a second and source: a large resolver with TTL 0 stays below it
	burstFactor = 2    // a bucket holds this many seconds of the rate

	connsPerSource = 32  // TCP connections of one source at once
	connsMax       = 512 // of all; each holds a descriptor and a goroutine

	// tcpWriteMax is how long a client may take to read one answer.
	tcpWriteMax = 2 * time.Second
)

// limiter is a token bucket for each source: an IPv4 address, or an IPv6 /56, which is what one customer has.
type limiter struct {
	seed    maphash.Seed
	rate    float64
	buckets []bucket
}

type bucket struct {
	mu     sync.Mutex // guards the fields below
	tokens float64
	filled time.Time
}

// newLimiter returns a limiter for rate queries a second and source.
func newLimiter(rate int) *limiter {
	return &limiter{seed: maphash.MakeSeed(), rate: float64(rate), buckets: make([]bucket, bucketsMax)}
}

// admit takes one token of the source, and says whether there was one.
func (l *limiter) admit(source netip.Addr, now time.Time) bool {
	b := &l.buckets[maphash.Comparable(l.seed, sourceOf(source))%bucketsMax]
	b.mu.Lock()
	defer b.mu.Unlock()
	most := l.rate * burstFactor
	if b.filled.IsZero() {
		b.tokens = most
	} else if since := now.Sub(b.filled); since > 0 {
		b.tokens = min(most, b.tokens+since.Seconds()*l.rate)
	}
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func sourceOf(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		if prefix, err := address.Prefix(56); err == nil {
			return prefix.Addr()
		}
	}
	return address
}

// boundedListener closes connections over the limits at once, so that a few clients that never speak cannot keep the others out.
type boundedListener struct {
	net.Listener

	mu    sync.Mutex // guards the fields below
	total int
	held  map[netip.Addr]int
}

func newBoundedListener(inner net.Listener) *boundedListener {
	return &boundedListener{Listener: inner, held: map[netip.Addr]int{}}
}

// Accept returns the next connection within the limits.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(addressOf(conn.RemoteAddr()))
		if l.take(source) {
			return &boundedConn{Conn: conn, release: sync.OnceFunc(func() { l.yield(source) })}, nil
		}
		_ = conn.Close()
	}
}

func (l *boundedListener) take(source netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= connsMax || l.held[source] >= connsPerSource {
		return false
	}
	l.total++
	l.held[source]++
	return true
}

func (l *boundedListener) yield(source netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.held[source]--; l.held[source] == 0 {
		delete(l.held, source)
	}
}

// boundedConn gives its place back when it is closed, and does not wait for ever on a client that does not read.
type boundedConn struct {
	net.Conn
	release func()
}

// Write writes within tcpWriteMax.
func (c *boundedConn) Write(packet []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(tcpWriteMax)); err != nil {
		return 0, err
	}
	return c.Conn.Write(packet)
}

// Close closes the connection.
func (c *boundedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// addressOf returns the IP address of a peer; the zero address when it has none.
func addressOf(peer net.Addr) netip.Addr {
	switch peer := peer.(type) {
	case *fastPeer:
		return peer.address.Addr()
	case *net.UDPAddr:
		return peer.AddrPort().Addr()
	case *net.TCPAddr:
		return peer.AddrPort().Addr()
	}
	return netip.Addr{}
}
