package attacktest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// echo answers on one address and port, over TCP and UDP.
type echo struct {
	tcp     net.Listener
	udp     net.PacketConn
	serving sync.WaitGroup
	heard   atomic.Int64 // connections and datagrams that came in

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

func newEcho(ns *Namespace, at netip.AddrPort) (*echo, error) {
	e := &echo{conns: map[net.Conn]bool{}}
	err := ns.Do(func() (err error) {
		if e.tcp, err = net.Listen("tcp", at.String()); err != nil {
			return err
		}
		e.udp, err = net.ListenPacket("udp", at.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("echo on %s: %w", at, err)
	}
	e.serving.Go(e.serveTCP)
	e.serving.Go(e.serveUDP)
	return e, nil
}

func (e *echo) serveTCP() {
	for {
		conn, err := e.tcp.Accept()
		if err != nil {
			return
		}
		e.heard.Add(1)
		e.mu.Lock()
		e.conns[conn] = true
		e.mu.Unlock()
		e.serving.Go(func() { _, _ = io.Copy(conn, conn) })
	}
}

func (e *echo) serveUDP() {
	buffer := make([]byte, 2048)
	for {
		n, from, err := e.udp.ReadFrom(buffer)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		e.heard.Add(1)
		_, _ = e.udp.WriteTo(buffer[:n], from)
	}
}

func (e *echo) close() {
	_ = e.tcp.Close()
	_ = e.udp.Close()
	e.mu.Lock()
	for conn := range e.conns {
		_ = conn.Close()
	}
	e.mu.Unlock()
	e.serving.Wait()
}

// Connect tries a new TCP connection.
func (n *Namespace) Connect(to netip.Addr, port uint16, limit time.Duration) error {
	conn, err := n.Open(to, port, limit)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// Open makes a TCP connection.
func (n *Namespace) Open(to netip.Addr, port uint16, limit time.Duration) (net.Conn, error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, port).String(), limit)
		return err
	})
	return conn, silent(err)
}

// Dial opens a socket to an address and port, without trying whether anyone answers: for UDP.
func (n *Namespace) Dial(network string, to netip.Addr, port uint16) (net.Conn, error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = net.Dial(network, netip.AddrPortFrom(to, port).String())
		return err
	})
	return conn, err
}

// Talk sends something over a connection and waits for it to come back. What an earlier try sent may come back first.
func Talk(conn net.Conn, limit time.Duration) error {
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write([]byte("x")); err != nil {
		return silent(err)
	}
	_, err := conn.Read(make([]byte, 64))
	return silent(err)
}

// Datagram sends a UDP datagram and waits for it to come back. sent is the error of the send alone.
func (n *Namespace) Datagram(to netip.Addr, port uint16, limit time.Duration) (sent, answered error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(to, port).String())
		return err
	})
	if err != nil {
		return err, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write([]byte("x")); err != nil {
		return err, err
	}
	// An ICMP error would show up at a second send.
	if _, err := conn.Write([]byte("x")); err != nil {
		return err, err
	}
	_, err = conn.Read(make([]byte, 64))
	return nil, silent(err)
}

// volleyAtOnce datagrams of a volley are sent at a time, so that no buffer of the way overflows and what is missing was dropped on purpose.
const volleyAtOnce = 10

// Volley sends UDP datagrams of this size that differ, and returns how many of them came back.
func (n *Namespace) Volley(to netip.Addr, port uint16, count, size int) (answered int, err error) {
	var conn net.Conn
	if err := n.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(to, port).String())
		return err
	}); err != nil {
		return 0, err
	}
	defer conn.Close()
	packet, buffer := make([]byte, max(size, 4)), make([]byte, 2048)
	back := map[uint32]bool{}
	for sent := 0; sent < count; {
		for range min(volleyAtOnce, count-sent) {
			binary.BigEndian.PutUint32(packet, uint32(sent))
			if _, err := conn.Write(packet); err != nil {
				return len(back), fmt.Errorf("the sender sees an error: %w", err)
			}
			sent++
		}
		_ = conn.SetReadDeadline(time.Now().Add(volleySilence()))
		for len(back) < sent {
			if _, err := conn.Read(buffer); err != nil {
				if silent(err) != errCut {
					return len(back), err
				}
				break
			}
			back[binary.BigEndian.Uint32(buffer)] = true
		}
	}
	return len(back), nil
}

// Refused tries a new TCP connection and returns nil when it is refused, by whatever means.
func (n *Namespace) Refused(to netip.Addr, port uint16) error {
	switch err := n.Connect(to, port, answerWithin); {
	case err == nil:
		return fmt.Errorf("tcp to %s is answered, and should be refused", to)
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES):
		return nil
	default:
		return fmt.Errorf("tcp to %s should be refused, but: %w", to, err)
	}
}

// Ping sends an ICMP echo request and waits for its reply.
func (n *Namespace) Ping(to netip.Addr, limit time.Duration) error {
	network, request, reply, protocol := "ip4:icmp", icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply), unix.IPPROTO_ICMP
	if to.Is6() {
		network, request, reply, protocol = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, unix.IPPROTO_ICMPV6
	}
	var conn *net.IPConn
	err := n.Do(func() (err error) {
		conn, err = net.DialIP(network, nil, &net.IPAddr{IP: to.AsSlice()})
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	message := icmp.Message{Type: request, Body: &icmp.Echo{ID: 9, Seq: 1, Data: []byte("firedrill")}}
	packet, err := message.Marshal(nil)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write(packet); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	for {
		buffer := make([]byte, 1500)
		size, _, err := conn.ReadFromIP(buffer) // Read would hand out the IPv4 header too
		if err != nil {
			return silent(err)
		}
		got, err := icmp.ParseMessage(protocol, buffer[:size])
		if err == nil && got.Type == reply && bytes.Contains(buffer[:size], []byte("firedrill")) {
			return nil
		}
	}
}

// silent makes errCut out of a timeout; any other error means that something answered, and stays.
func silent(err error) error {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout()) {
		return errCut
	}
	return err
}

// Flow is one way to reach someone.
type Flow struct {
	Name string
	Try  func(limit time.Duration) error // waits this long for an answer
}

// Flows are all new flows from one side to an address: TCP, UDP and ICMP.
func Flows(from *Namespace, to netip.Addr) []Flow {
	return []Flow{
		{"tcp to " + to.String(), func(limit time.Duration) error { return from.Connect(to, Port, limit) }},
		{"udp to " + to.String(), func(limit time.Duration) error {
			sent, answered := from.Datagram(to, Port, limit)
			if sent != nil {
				return fmt.Errorf("the sender sees an error: %w", sent)
			}
			return answered
		}},
		{"icmp to " + to.String(), func(limit time.Duration) error { return from.Ping(to, limit) }},
	}
}

// Cut returns nil when none of the flows is answered, and none sees an error.
func Cut(flows ...Flow) error {
	return all(flows, func(f Flow) error {
		switch err := f.Try(silence); {
		case err == nil:
			return fmt.Errorf("%s is answered, and should be cut", f.Name)
		case !errors.Is(err, errCut):
			return fmt.Errorf("%s should be silent, but: %w", f.Name, err)
		}
		return nil
	})
}

// Through returns nil when all of the flows are answered.
func Through(flows ...Flow) error {
	return all(flows, func(f Flow) error {
		if err := f.Try(answerWithin); err != nil {
			return fmt.Errorf("%s should be answered, but: %w", f.Name, err)
		}
		return nil
	})
}

// all tries flows side by side, because a cut one takes as long as silence does.
func all(flows []Flow, check func(Flow) error) error {
	errs := make([]error, len(flows))
	var wait sync.WaitGroup
	for i, f := range flows {
		wait.Go(func() { errs[i] = check(f) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Hear waits for anything to come out of a connection.
func Hear(conn net.Conn, limit time.Duration) error {
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	_, err := conn.Read(make([]byte, 64))
	return silent(err)
}
