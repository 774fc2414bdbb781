package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Where this host says how names are resolved. Both are read anew for each try: they may be what a drill changes.
const (
	hostsFile    = "/etc/hosts"
	resolverFile = "/etc/resolv.conf"
)

const (
	chainMax  = 8 // CNAMEs followed; resolvers stop at about as many
	serverMax = 3 // servers of resolv.conf that are asked, as in glibc
	udpSize   = 1232
)

// resolve returns the addresses of host, IPv4 before IPv6, asked for anew. With server empty it does what the host's own programs do:
// the hosts file first, then the name servers of resolv.conf, with its search list. The error says which server said what.
func resolve(ctx context.Context, server, host string) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{address}, nil
	}
	if server != "" {
		return lookup(ctx, []string{withPort(server, "53")}, dns.Fqdn(host))
	}
	if found := inHostsFile(hostsFile, host); len(found) > 0 {
		return found, nil
	}
	config, err := dns.ClientConfigFromFile(resolverFile)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var servers []string
	for _, name := range config.Servers[:min(len(config.Servers), serverMax)] {
		servers = append(servers, net.JoinHostPort(name, config.Port))
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("resolve %s: %s names no server", host, resolverFile)
	}
	var problem error
	for _, name := range config.NameList(host) {
		found, err := lookup(ctx, servers, name)
		if err == nil {
			return found, nil
		}
		problem = err
		if !errors.Is(err, errNoAddress) {
			break
		}
	}
	return nil, problem
}

// errNoAddress says that a name server answered, and that the name has no address.
var errNoAddress = errors.New("no address")

// lookup asks for A, and if there is none for AAAA.
func lookup(ctx context.Context, servers []string, name string) ([]netip.Addr, error) {
	found, err := lookupType(ctx, servers, name, dns.TypeA)
	if err != nil || len(found) > 0 {
		return found, err
	}
	found, err = lookupType(ctx, servers, name, dns.TypeAAAA)
	if err == nil && len(found) == 0 {
		return nil, fmt.Errorf("resolve %s: %w", name, errNoAddress)
	}
	return found, err
}

// lookupType returns the addresses of one type, following aliases; none when the name or the type does not exist.
func lookupType(ctx context.Context, servers []string, name string, qtype uint16) ([]netip.Addr, error) {
	for range chainMax {
		reply, err := ask(ctx, servers, name, qtype)
		if err != nil {
			return nil, err
		}
		found, alias := readAddresses(reply, name)
		if len(found) > 0 || alias == "" {
			return found, nil
		}
		name = alias
	}
	return nil, fmt.Errorf("resolve %s: more than %d aliases in a row", name, chainMax)
}

// readAddresses returns the addresses in a reply, and where its chain of aliases ends when that has none.
func readAddresses(reply *dns.Msg, name string) (found []netip.Addr, alias string) {
	for _, record := range reply.Answer {
		switch record := record.(type) {
		case *dns.A:
			if address, ok := netip.AddrFromSlice(record.A); ok {
				found = append(found, address.Unmap())
			}
		case *dns.AAAA:
			if address, ok := netip.AddrFromSlice(record.AAAA); ok {
				found = append(found, address)
			}
		case *dns.CNAME:
			alias = record.Target
		}
	}
	if strings.EqualFold(alias, name) {
		alias = ""
	}
	return found, alias
}

// ask asks one server after the other until one answers usefully; each gets its share of the time left.
func ask(ctx context.Context, servers []string, name string, qtype uint16) (*dns.Msg, error) {
	var problem error
	for i, server := range servers {
		share := time.Second
		if deadline, ok := ctx.Deadline(); ok {
			share = time.Until(deadline) / time.Duration(len(servers)-i)
		}
		reply, err := askOne(ctx, server, name, qtype, share)
		if err == nil {
			return reply, nil
		}
		problem = errors.Join(problem, err)
	}
	return nil, problem
}

func askOne(ctx context.Context, server, name string, qtype uint16, share time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	query := new(dns.Msg)
	query.SetQuestion(name, qtype)
	query.SetEdns0(udpSize, false)
	client := dns.Client{Net: "udp", UDPSize: udpSize, Timeout: share}
	reply, _, err := client.ExchangeContext(ctx, query, server)
	if err == nil && reply.Truncated {
		client.Net = "tcp"
		reply, _, err = client.ExchangeContext(ctx, query, server)
	}
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %s: %w", name, server, plain(err))
	}
	if reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("resolve %s: %s answered %s", name, server, dns.RcodeToString[reply.Rcode])
	}
	return reply, nil
}

// plain takes the ports of our own side out of an error: they differ each time and tell nobody anything.
func plain(err error) error {
	var inner *net.OpError
	if !errors.As(err, &inner) || inner.Err == nil {
		return err
	}
	if inner.Timeout() {
		return errNoReply
	}
	return inner.Err
}

var errNoReply = errors.New("no answer in time")

// inHostsFile returns the addresses that a hosts file gives to a name.
func inHostsFile(path, host string) []netip.Addr {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	host = strings.TrimSuffix(host, ".")
	var found []netip.Addr
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		address, err := netip.ParseAddr(words[0])
		if err == nil && slices.ContainsFunc(words[1:], func(name string) bool { return strings.EqualFold(name, host) }) {
			found = append(found, address)
		}
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return found
}

// withPort adds the port when server has none; an IPv6 address may stand with or without brackets.
func withPort(server, port string) string {
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), port)
}
