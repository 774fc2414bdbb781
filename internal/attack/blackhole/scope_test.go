package blackhole

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

// The users of these tests, and a port on which the first one waits.
const (
	clerk     = 4001
	bystander = 4002
	clerkPort = 20
)

// pushed sends from the peer into a connection of the host, and waits for it to come out there.
type pushed struct {
	name      string
	out, into net.Conn
}

func (p pushed) flow() at.Flow {
	return flow(p.name, func(limit time.Duration) error {
		if _, err := p.out.Write([]byte("y")); err != nil {
			return err
		}
		return at.Hear(p.into, limit)
	})
}

// accepted makes a TCP connection from a user of the host to the peer, and returns both its ends.
func accepted(w *at.World, from *at.Namespace) (pushed, error) {
	var listener net.Listener
	if err := w.Peer.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(at.Target4, 0).String())
		return err
	}); err != nil {
		return pushed{}, err
	}
	defer listener.Close()
	port := netip.MustParseAddrPort(listener.Addr().String()).Port()
	into, err := from.Open(at.Target4, port, 5*time.Second)
	if err != nil {
		return pushed{}, err
	}
	out, err := listener.Accept()
	return pushed{name: "what the peer pushes", out: out, into: into}, err
}

// datagrams waits on a UDP port of the host as a user; the peer sends there.
func datagrams(w *at.World, as *at.Namespace) (pushed, error) {
	p := pushed{name: "datagrams from the peer"}
	err := as.Do(func() error {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), clerkPort)))
		p.into = conn
		return err
	})
	if err != nil {
		return p, err
	}
	err = w.Peer.Do(func() (err error) {
		p.out, err = net.Dial("udp", netip.AddrPortFrom(at.Host4, clerkPort).String())
		return err
	})
	return p, err
}

// hitsTheUserAlone: new and established flows of one user are cut both ways, and nobody else's.
func hitsTheUserAlone(w *at.World, _ at.Subject, bug string) error {
	his, others := w.Host.As(clerk), w.Host.As(bystander)
	mine, err1 := accepted(w, his)
	theirs, err2 := accepted(w, others)
	waits, err3 := datagrams(w, his)
	if err := errors.Join(err1, err2, err3, w.Listen(his, clerkPort+1, at.Host4)); err != nil {
		return err
	}
	for _, p := range []pushed{mine, theirs, waits} {
		defer p.out.Close()
		defer p.into.Close()
	}
	inward := func(port uint16) at.Flow {
		return flow(fmt.Sprintf("tcp from the peer to port %d", port), func(limit time.Duration) error { return w.Peer.Connect(at.Host4, port, limit) })
	}
	if err := at.Through(mine.flow(), theirs.flow(), waits.flow(), inward(clerkPort+1), inward(at.Port)); err != nil {
		return err
	}
	return traffictest.During(w, bug, []string{"--ipaddress=" + at.Target4.String() + "," + at.Target6.String(), fmt.Sprint("--user=", clerk)}, func() error {
		cut := append(at.Flows(his, at.Target4), at.Flows(his, at.Target6)...)
		cut = append(cut, mine.flow(), waits.flow(), inward(clerkPort+1))
		through := append(at.Flows(others, at.Target4), at.Flows(others, at.Target6)...)
		through = append(append(through, at.Flows(w.Host, at.Target4)...), theirs.flow(), inward(at.Port))
		return errors.Join(at.Cut(cut...), at.Through(through...), at.Through(at.Flows(his, at.Other4)...))
	})
}

func TestUserScopeHitsTheUserAlone(t *testing.T) {
	t.Parallel()
	must(t, hitsTheUserAlone(at.NewWorld(t), at.Subject{}, ""))
}

func TestWrongUserScopeIsCaught(t *testing.T) {
	for _, bug := range []string{"whole host", "no replies"} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, hitsTheUserAlone, at.Subject{}, bug)
		})
	}
}
