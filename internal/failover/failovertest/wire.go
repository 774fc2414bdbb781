package failovertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// exchangeRaw sends a query over UDP and returns the bytes of the reply.
func (s Subject) exchangeRaw(ctx context.Context, query *dns.Msg) ([]byte, error) {
	packet, err := query.Pack()
	if err != nil {
		return nil, err
	}
	reply, err := s.sendRaw(ctx, packet, answerMax)
	if err == nil && reply == nil {
		err = fmt.Errorf("%s: no reply in %v", describe(query), answerMax)
	}
	return reply, err
}

// sendRaw sends bytes over UDP and returns what comes back, nil when nothing comes within wait.
func (s Subject) sendRaw(ctx context.Context, packet []byte, wait time.Duration) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", s.Address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	buffer := make([]byte, dns.MaxMsgSize)
	count, err := conn.Read(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return buffer[:count], err
}

// malformed are packets that are no queries, each wrong in another way.
func malformed() map[string][]byte {
	good, err := question(name("db"), dns.TypeA).Pack()
	if err != nil {
		return nil
	}
	altered := func(change func([]byte) []byte) []byte { return change(slices.Clone(good)) }
	return map[string][]byte{
		"five bytes":            {1, 2, 3, 4, 5},
		"a header alone":        good[:12],
		"a name cut off":        good[:16],
		"a type cut off":        good[:len(good)-3],
		"a name that is a loop": altered(func(p []byte) []byte { return append(p[:12], 0xC0, 12, 0, 1, 0, 1) }),
		"a pointer beyond":      altered(func(p []byte) []byte { return append(p[:12], 0xFF, 0xFF, 0, 1, 0, 1) }),
		"a label too long":      altered(func(p []byte) []byte { p[12] = 0x7F; return p }),
	}
}

func checkMalformed(ctx context.Context, s Subject) error {
	for what, packet := range malformed() {
		got, err := s.sendRaw(ctx, packet, silenceMin)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if got != nil && (len(got) < 4 || int(got[3]&0xF) != dns.RcodeFormatError) {
			return fmt.Errorf("%s: answered with %x; want FORMERR or nothing", what, got)
		}
		if len(got) > max(len(packet), 12) {
			return fmt.Errorf("%s: %d bytes come back for %d", what, len(got), len(packet))
		}
	}
	return checkBothTransports(ctx, s)
}

func checkReplies(ctx context.Context, s Subject) error {
	query := question(name("db"), dns.TypeA)
	query.Response = true
	packet, err := query.Pack()
	if err != nil {
		return err
	}
	got, err := s.sendRaw(ctx, packet, silenceMin)
	if err == nil && got != nil {
		err = errors.New("a reply was answered: two servers would go on for ever")
	}
	return err
}

func checkTransfer(ctx context.Context, s Subject) error {
	reply, err := s.ask(ctx, "tcp", new(dns.Msg).SetAxfr(ZoneName))
	if err == nil && (reply.Rcode != dns.RcodeRefused || len(reply.Answer) != 0) {
		err = fmt.Errorf("AXFR: %s with %d records; want REFUSED", dns.RcodeToString[reply.Rcode], len(reply.Answer))
	}
	return err
}

// pipelined is the number of queries that are sent before the first answer is read.
const pipelined = 20

func checkPipelining(ctx context.Context, s Subject) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerMax)); err != nil {
		return err
	}
	awaited := map[uint16]bool{}
	var all []byte
	for len(awaited) < pipelined {
		query := question(name("db"), dns.TypeA)
		packet, err := query.Pack()
		if err != nil {
			return err
		}
		if !awaited[query.Id] {
			awaited[query.Id] = true
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(packet))), packet...)
		}
	}
	if _, err := conn.Write(all); err != nil {
		return err
	}
	for len(awaited) > 0 {
		var size uint16
		if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
			return fmt.Errorf("%d of %d queries on one connection got no answer: %w", len(awaited), pipelined, err)
		}
		packet := make([]byte, size)
		if _, err := io.ReadFull(conn, packet); err != nil {
			return err
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(packet); err != nil {
			return err
		}
		if !awaited[reply.Id] {
			return fmt.Errorf("a reply with id %d was not asked for", reply.Id)
		}
		delete(awaited, reply.Id)
	}
	return nil
}

// idleConnections is how many connections are held open without a word.
const idleConnections = 10

func checkIdleConnections(ctx context.Context, s Subject) error {
	for range idleConnections {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte{0}); err != nil { // half of a length, and then nothing
			return err
		}
	}
	return checkBothTransports(ctx, s)
}

// flips is how often the answer is changed while others look.
const flips = 50

func checkPublish(ctx context.Context, s Subject) error {
	if s.Publish == nil {
		return nil
	}
	blue, green := netip.MustParseAddr("10.77.1.10"), netip.MustParseAddr("10.77.1.20")
	watching, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	var seen error
	looking.Go(func() {
		for watching.Err() == nil && seen == nil {
			reply, err := s.ask(ctx, "udp", question(ZoneName, dns.TypeA))
			if err == nil && len(addressesIn(reply.Answer)) != 1 {
				err = fmt.Errorf("while the answer changed it was %v", reply.Answer)
			}
			seen = err
		}
	})
	defer looking.Wait()
	defer stop()
	for i := range flips {
		want := []netip.Addr{green, blue}[i%2]
		if err := s.Publish([]netip.Addr{want}); err != nil {
			return err
		}
		network := []string{"udp", "tcp"}[i/2%2]
		reply, err := s.ask(ctx, network, question(ZoneName, dns.TypeA))
		if err != nil {
			return err
		}
		if got := addressesIn(reply.Answer); len(got) != 1 || got[0] != want.String() {
			return fmt.Errorf("over %s after publishing %s: %v", network, want, got)
		}
	}
	stop()
	looking.Wait()
	return seen
}

func checkPanic(ctx context.Context, s Subject) error {
	if s.Hurt == nil {
		return nil
	}
	for range 3 {
		s.Hurt()
		reply, err := s.ask(ctx, "udp", question(name("db"), dns.TypeA))
		if err != nil {
			return fmt.Errorf("after a panic: %w", err)
		}
		if got := addressesIn(reply.Answer); len(got) != 1 || got[0] != "10.77.2.10" {
			return fmt.Errorf("after a panic: %s with %v", dns.RcodeToString[reply.Rcode], got)
		}
	}
	return checkBothTransports(ctx, s)
}
