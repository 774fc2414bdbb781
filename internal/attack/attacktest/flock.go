package attacktest

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Flock is many UDP flows from the attacked host to the peer's first address, each with a socket of its own.
type Flock struct {
	flows []net.Conn
	peer  *echo
}

// flockPort is where the peer answers them.
const flockPort = 40

// NewFlock makes so many flows to an address of the peer.
func (w *World) NewFlock(to netip.Addr, count int) (*Flock, error) {
	f := &Flock{}
	at := netip.AddrPortFrom(to, flockPort)
	var server *net.UDPConn
	if err := w.Peer.Do(func() (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	}); err != nil {
		return nil, err
	}
	f.peer = &echo{conns: map[net.Conn]bool{}, udp: server, tcp: noListener{}}
	f.peer.serving.Go(f.peer.serveUDP)
	w.echoes = append(w.echoes, f.peer)
	err := w.Host.Do(func() error {
		for range count {
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
			if err != nil {
				return err
			}
			f.flows = append(f.flows, conn)
		}
		return nil
	})
	return f, err
}

// Close ends the flows.
func (f *Flock) Close() {
	for _, conn := range f.flows {
		_ = conn.Close()
	}
}

// Fly sends so many datagrams in each flow. It returns how many flows had all of them answered, how many had none, and how many datagrams
// the peer heard although the host did not hear their answers.
func (f *Flock) Fly(rounds int) (whole, none, lostBack int, err error) {
	before := f.peer.heard.Load()
	answered := 0
	for at := 0; at < len(f.flows); at += volleyAtOnce {
		part := f.flows[at:min(at+volleyAtOnce, len(f.flows))]
		counts := make([]int, len(part))
		for range rounds {
			for _, conn := range part {
				if _, err := conn.Write([]byte("x")); err != nil {
					return 0, 0, 0, fmt.Errorf("the sender sees an error: %w", err)
				}
			}
			silent := time.Now().Add(volleySilence())
			for i, conn := range part {
				// A deadline that is over would hide an answer that is there already.
				_ = conn.SetReadDeadline(later(silent, time.Now().Add(volleySilence()/20)))
				if _, err := conn.Read(make([]byte, 8)); err == nil {
					counts[i]++
					answered++
				}
			}
		}
		for _, count := range counts {
			switch count {
			case rounds:
				whole++
			case 0:
				none++
			}
		}
	}
	return whole, none, int(f.peer.heard.Load()-before) - answered, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// noListener is an echo's missing TCP side.
type noListener struct{ net.Listener }

func (noListener) Close() error { return nil }
