package attack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// OwnMark is the socket mark of traffic that no firedrill attack may hit: our own resolver's. "fire" in ASCII, so that nobody else's
// policy routing knows it.
const OwnMark = 0x66697265

// Bounds for asking again. A TTL of 0 would ask without pause, and a long one would miss a CDN that moves within the length of a drill.
const (
	ResolveFloor = 250 * time.Millisecond
	ResolveCap   = 10 * time.Second
	// A client may learn of a new address right after we asked. Asked this many times within a TTL, it is open for that part of it at most.
	resolvePerTTL = 4
	// ttlMax is the longest TTL that makes a difference.
	ttlMax = resolvePerTTL * ResolveCap
)

const (
	queryTimeout = time.Second // of one question to one server; two servers asked twice still end before the cap
	queryRounds  = 2
	answerMax    = 1232 // bytes of a datagram, which no path on the Internet breaks into pieces (DNS flag day 2020)
)

// ResolveEvery returns how long to wait before asking again for a name with this TTL: a quarter of it, within the bounds.
func ResolveEvery(ttl time.Duration) time.Duration {
	return min(max(ttl/resolvePerTTL, ResolveFloor), ResolveCap)
}

// Resolver asks the name servers of this host, with sockets that our own attacks spare. It keeps no cache: each call asks, so that an
// address is seen as soon as DNS shows it.
type Resolver struct {
	Conf  string // resolver configuration, /etc/resolv.conf when empty; the container's for an attack on one
	Hosts string // hosts file, /etc/hosts when empty
}

// Lookup returns the addresses of name, IPv4 first, each family in the order of the answer. The hosts file wins over DNS.
// A name that leads nowhere is an error.
func (r Resolver) Lookup(ctx context.Context, name string) (Resolution, error) {
	if found := r.fromHosts(name); len(found) > 0 {
		return Resolution{Addresses: found, TTL: ttlMax}, nil
	}
	file := orDefault(r.Conf, resolverFile("/etc/resolv.conf"))
	conf, err := readResolverConf(file)
	if err != nil {
		return Resolution{}, fmt.Errorf("resolve %s: %w", name, err)
	}
	if len(conf.servers) == 0 {
		return Resolution{}, fmt.Errorf("resolve %s: no name server in %s", name, file)
	}
	var errs []error
	for _, full := range conf.fullNames(name) {
		found, err := r.ask(ctx, conf, full)
		if err == nil {
			return found, nil
		}
		errs = append(errs, err)
	}
	return Resolution{}, fmt.Errorf("resolve %s: %w", name, errors.Join(errs...))
}

// LookupAll resolves names side by side. When one fails the error says how to go on.
func (r Resolver) LookupAll(ctx context.Context, names []string) (map[string]Resolution, error) {
	found := make([]Resolution, len(names))
	errs := make([]error, len(names))
	var wait sync.WaitGroup
	for i, name := range names {
		wait.Go(func() { found[i], errs[i] = r.Lookup(ctx, name) })
	}
	wait.Wait()
	resolved := make(map[string]Resolution, len(names))
	for i, name := range names {
		if errs[i] != nil {
			return nil, &drill.Error{Op: "attack", Kind: drill.Invalid, Err: errs[i],
				Hint: fmt.Sprintf("check with: getent ahosts %s; name an address with --ipaddress instead, or leave the name out", name)}
		}
		resolved[name] = found[i]
	}
	return resolved, nil
}

func (r Resolver) fromHosts(name string) []netip.Addr {
	// A missing hosts file is the same as an empty one.
	text, _ := os.ReadFile(orDefault(r.Hosts, resolverFile("/etc/hosts")))
	wanted := strings.ToLower(strings.TrimSuffix(name, "."))
	var found []netip.Addr
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 || !slices.ContainsFunc(fields[1:], func(f string) bool { return strings.ToLower(f) == wanted }) {
			continue
		}
		if addr, err := netip.ParseAddr(fields[0]); err == nil {
			found = append(found, addr.WithZone("").Unmap())
		}
	}
	return found
}

// ask puts both questions for one full name. An answer for either family is enough.
func (r Resolver) ask(ctx context.Context, conf resolverConf, full string) (Resolution, error) {
	types := []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	parts := make([]Resolution, len(types))
	errs := make([]error, len(types))
	var wait sync.WaitGroup
	for i, qtype := range types {
		wait.Go(func() { parts[i], errs[i] = query(ctx, conf, full, qtype) })
	}
	wait.Wait()
	joined := Resolution{TTL: -1}
	for _, part := range parts {
		joined.Addresses = append(joined.Addresses, part.Addresses...)
		if len(part.Addresses) > 0 && (joined.TTL < 0 || part.TTL < joined.TTL) {
			joined.TTL = part.TTL
		}
	}
	if len(joined.Addresses) > 0 {
		return joined, nil
	}
	if err := errors.Join(errs...); err != nil {
		return Resolution{}, err
	}
	return Resolution{}, fmt.Errorf("%s has no address", full)
}

func query(ctx context.Context, conf resolverConf, full string, qtype dnsmessage.Type) (Resolution, error) {
	name, err := dnsmessage.NewName(full)
	if err != nil {
		return Resolution{}, fmt.Errorf("%s: %w", full, err)
	}
	asked := dnsmessage.Question{Name: name, Type: qtype, Class: dnsmessage.ClassINET}
	var last error
	for range queryRounds {
		for _, server := range conf.servers {
			answer, err := exchange(ctx, asked, net.JoinHostPort(server, "53"))
			if err != nil {
				last = err
				continue
			}
			if answer.RCode == dnsmessage.RCodeSuccess || answer.RCode == dnsmessage.RCodeNameError {
				return fromAnswer(full, answer)
			}
			last = fmt.Errorf("%s: %s says %s", full, server, answer.RCode)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return Resolution{}, last
}

func fromAnswer(full string, answer dnsmessage.Message) (Resolution, error) {
	if answer.RCode == dnsmessage.RCodeNameError {
		return Resolution{}, fmt.Errorf("%s does not exist", full)
	}
	found := Resolution{TTL: ttlMax}
	for _, record := range answer.Answers {
		// The TTL of an alias counts too: the chain is believed as long as its shortest link.
		found.TTL = min(found.TTL, time.Duration(record.Header.TTL)*time.Second)
		switch body := record.Body.(type) {
		case *dnsmessage.AResource:
			found.Addresses = append(found.Addresses, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			found.Addresses = append(found.Addresses, netip.AddrFrom16(body.AAAA).Unmap())
		}
	}
	return found, nil
}

// exchange asks one server, over TCP when the answer does not fit into a datagram.
func exchange(ctx context.Context, asked dnsmessage.Question, server string) (dnsmessage.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	answer, err := exchangeOver(ctx, "udp", asked, server)
	if err == nil && answer.Truncated {
		answer, err = exchangeOver(ctx, "tcp", asked, server)
	}
	if err != nil {
		return dnsmessage.Message{}, fmt.Errorf("ask %s: %w", server, err)
	}
	return answer, nil
}

func exchangeOver(ctx context.Context, network string, asked dnsmessage.Question, server string) (dnsmessage.Message, error) {
	var none dnsmessage.Message
	question, id, err := packQuestion(asked)
	if err != nil {
		return none, err
	}
	dialer := net.Dialer{Control: markOwn}
	conn, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		return none, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		question = append(binary.BigEndian.AppendUint16(nil, uint16(len(question))), question...)
	}
	if _, err := conn.Write(question); err != nil {
		return none, err
	}
	for {
		text, err := readAnswer(conn, network)
		if err != nil {
			return none, err
		}
		var answer dnsmessage.Message
		err = answer.Unpack(text)
		switch {
		case err == nil && answer.ID == id && answer.Response && len(answer.Questions) == 1 && same(answer.Questions[0], asked):
			return answer, nil
		case network == "tcp":
			return none, errors.Join(errors.New("what came is no answer to the question"), err)
		}
		// Over UDP anybody may have sent it: the answer may still come.
	}
}

func same(a, b dnsmessage.Question) bool {
	return a.Type == b.Type && a.Class == b.Class && strings.EqualFold(a.Name.String(), b.Name.String())
}

// packQuestion makes a query that says with EDNS how large an answer may be.
func packQuestion(asked dnsmessage.Question) (question []byte, id uint16, err error) {
	id = uint16(rand.Uint32())
	var options dnsmessage.ResourceHeader
	if err := options.SetEDNS0(answerMax, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, 0, err
	}
	message := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions:   []dnsmessage.Question{asked},
		Additionals: []dnsmessage.Resource{{Header: options, Body: &dnsmessage.OPTResource{}}},
	}
	question, err = message.Pack()
	return question, id, err
}

func readAnswer(conn net.Conn, network string) ([]byte, error) {
	if network == "tcp" {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return nil, err
		}
		text := make([]byte, binary.BigEndian.Uint16(length[:]))
		_, err := io.ReadFull(conn, text)
		return text, err
	}
	text := make([]byte, answerMax)
	n, err := conn.Read(text)
	return text[:n], err
}

// markOwn marks a socket as ours. Without the right to do so it stays unmarked: then no attack of ours can be in force either.
func markOwn(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, OwnMark) })
}

func orDefault(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}
