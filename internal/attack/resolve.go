package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
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
	conf, err := dns.ClientConfigFromFile(orDefault(r.Conf, resolverFile("/etc/resolv.conf")))
	if err != nil {
		return Resolution{}, fmt.Errorf("resolve %s: %w", name, err)
	}
	if len(conf.Servers) == 0 {
		return Resolution{}, fmt.Errorf("resolve %s: no name server in %s", name, orDefault(r.Conf, resolverFile("/etc/resolv.conf")))
	}
	var errs []error
	for _, full := range conf.NameList(name) {
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
func (r Resolver) ask(ctx context.Context, conf *dns.ClientConfig, full string) (Resolution, error) {
	types := []uint16{dns.TypeA, dns.TypeAAAA}
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

func query(ctx context.Context, conf *dns.ClientConfig, full string, qtype uint16) (Resolution, error) {
	question := new(dns.Msg)
	question.SetQuestion(full, qtype)
	question.SetEdns0(1232, false)
	var last error
	for range queryRounds {
		for _, server := range conf.Servers {
			answer, err := exchange(ctx, question, net.JoinHostPort(server, conf.Port))
			if err != nil {
				last = err
				continue
			}
			if answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError {
				return fromAnswer(full, answer)
			}
			last = fmt.Errorf("%s: %s says %s", full, server, dns.RcodeToString[answer.Rcode])
		}
		if ctx.Err() != nil {
			break
		}
	}
	return Resolution{}, last
}

func fromAnswer(full string, answer *dns.Msg) (Resolution, error) {
	if answer.Rcode == dns.RcodeNameError {
		return Resolution{}, fmt.Errorf("%s does not exist", full)
	}
	found := Resolution{TTL: ttlMax}
	for _, record := range answer.Answer {
		// The TTL of an alias counts too: the chain is believed as long as its shortest link.
		found.TTL = min(found.TTL, time.Duration(record.Header().Ttl)*time.Second)
		var ip net.IP
		switch record := record.(type) {
		case *dns.A:
			ip = record.A
		case *dns.AAAA:
			ip = record.AAAA
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			found.Addresses = append(found.Addresses, addr.Unmap())
		}
	}
	return found, nil
}

func exchange(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	client := dns.Client{Net: "udp", UDPSize: 1232, Timeout: queryTimeout, Dialer: &net.Dialer{Timeout: queryTimeout, Control: markOwn}}
	question = question.Copy()
	question.Id = dns.Id()
	answer, _, err := client.ExchangeContext(ctx, question, server)
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, question, server)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", server, err)
	}
	return answer, nil
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
