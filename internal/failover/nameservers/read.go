package nameservers

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
)

// markLabel is the label below the name where the mark stands.
const markLabel = "_firedrill."

// MarkName returns where the mark of a name stands.
func MarkName(name string) string { return markLabel + name }

// markAddressesMax is how many addresses stand in the mark; one string holds 255 bytes, and an answer with more addresses is told apart by
// its number of them alone.
const markAddressesMax = 5

// MarkText is what the mark of a change says.
func MarkText(change failover.Change) []string {
	text := []string{"serial=" + strconv.FormatUint(change.Serial, 10), fmt.Sprintf("addresses=%d", len(change.Addresses))}
	for _, address := range change.Addresses[:min(len(change.Addresses), markAddressesMax)] {
		text = append(text, address.String())
	}
	return text
}

// State is what stands at a name: its addresses and our mark, record by record.
type State struct {
	A, AAAA, Mark []dns.RR
}

// Serial returns the serial number of the mark, 0 when there is none that can be read.
func (s State) Serial() uint64 {
	for _, record := range s.Mark {
		if txt, ok := record.(*dns.TXT); ok && len(txt.Txt) > 0 {
			if number, ok := strings.CutPrefix(txt.Txt[0], "serial="); ok {
				serial, _ := strconv.ParseUint(number, 10, 64) // unreadable: as if there were none
				return serial
			}
		}
	}
	return 0
}

// Addresses returns the addresses, sorted.
func (s State) Addresses() []netip.Addr {
	var all []netip.Addr
	for _, record := range slices.Concat(s.A, s.AAAA) {
		var address netip.Addr
		switch record := record.(type) {
		case *dns.A:
			address, _ = netip.AddrFromSlice(record.A)
		case *dns.AAAA:
			address, _ = netip.AddrFromSlice(record.AAAA)
		}
		all = append(all, address)
	}
	return failover.Sorted(all)
}

// Marked says whether the mark is that of the change already, or, as failover.ErrStale, that the change must not be made.
func (s State) Marked(change failover.Change) (done bool, err error) {
	serial := s.Serial()
	same := len(s.Mark) == 1 && slices.Equal(s.Mark[0].(*dns.TXT).Txt, MarkText(change))
	if serial > change.Serial || (serial == change.Serial && !same) {
		return false, fmt.Errorf("serial %d, served is %d: %w", change.Serial, serial, failover.ErrStale)
	}
	return same, nil
}

// MarkedAddresses returns the addresses that the mark names: all of them, or the first ones of many.
func (s State) MarkedAddresses() []netip.Addr {
	var all []netip.Addr
	for _, record := range s.Mark {
		txt, ok := record.(*dns.TXT)
		if !ok {
			continue
		}
		for _, text := range txt.Txt {
			if address, err := netip.ParseAddr(text); err == nil {
				all = append(all, address)
			}
		}
	}
	return failover.Sorted(all)
}

// Judge says whether the change is there already, or, as failover.ErrStale, that it must not be made.
func (s State) Judge(change failover.Change) (done bool, err error) {
	same, err := s.Marked(change)
	return same && slices.Equal(s.Addresses(), change.Addresses), err
}

// Read asks one server for everything at a name.
func Read(ctx context.Context, server, name string) (State, error) {
	var found State
	for _, set := range []struct {
		name string
		kind uint16
		into *[]dns.RR
	}{{name, dns.TypeA, &found.A}, {name, dns.TypeAAAA, &found.AAAA}, {MarkName(name), dns.TypeTXT, &found.Mark}} {
		reply, err := Exchange(ctx, server, set.name, set.kind)
		if err != nil {
			return State{}, err
		}
		for _, record := range reply.Answer {
			if record.Header().Rrtype == dns.TypeCNAME {
				return State{}, &drill.Error{
					Op: "read " + name, Host: server, Kind: drill.Invalid, Err: fmt.Errorf("%s is an alias", set.name), Hint: "Give the failover name addresses of its own.",
				}
			}
			if record.Header().Rrtype == set.kind {
				*set.into = append(*set.into, record)
			}
		}
	}
	return found, nil
}

// Exchange asks a name server over TCP, so that nothing is cut off, and refuses what is not its own knowledge.
func Exchange(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(name, kind)
	query.RecursionDesired = false
	client := dns.Client{Net: "tcp", Timeout: exchangeMax}
	reply, _, err := client.ExchangeContext(ctx, query, server)
	switch {
	case err != nil:
		return nil, err
	case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("%s: %s", server, RcodeText(reply.Rcode))
	case !reply.Authoritative:
		return nil, fmt.Errorf("%s answers for %s, but not as one of its name servers", server, name)
	}
	return reply, nil
}

// ask returns what one server leads to.
func ask(ctx context.Context, server, name string) failover.Served {
	found, err := Read(ctx, server, name)
	return failover.Served{Server: server, Addresses: found.Addresses(), Serial: found.Serial(), Err: err}
}

// Served asks every name server what a name leads to there.
func Served(ctx context.Context, servers []string, name string) []failover.Served {
	name = dns.CanonicalName(name)
	all := make([]failover.Served, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() { all[i] = ask(ctx, server, name) })
	}
	asking.Wait()
	return all
}
