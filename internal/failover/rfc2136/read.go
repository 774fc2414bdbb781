package rfc2136

import (
	"context"
	"errors"
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

func markName(name string) string { return markLabel + name }

// markAddressesMax is how many addresses stand in the mark; one string holds 255 bytes, and an answer with more addresses is told apart by
// its number of them alone.
const markAddressesMax = 5

// markText is what the mark of a change says.
func markText(change failover.Change) []string {
	text := []string{"serial=" + strconv.FormatUint(change.Serial, 10), fmt.Sprintf("addresses=%d", len(change.Addresses))}
	for _, address := range change.Addresses[:min(len(change.Addresses), markAddressesMax)] {
		text = append(text, address.String())
	}
	return text
}

// state is what stands at a name: its addresses and our mark, record by record.
type state struct {
	a, aaaa, mark []dns.RR
}

// serial returns the serial number of the mark, 0 when there is none that can be read.
func (s state) serial() uint64 {
	for _, record := range s.mark {
		if txt, ok := record.(*dns.TXT); ok && len(txt.Txt) > 0 {
			if number, ok := strings.CutPrefix(txt.Txt[0], "serial="); ok {
				serial, _ := strconv.ParseUint(number, 10, 64) // unreadable: as if there were none
				return serial
			}
		}
	}
	return 0
}

func (s state) addresses() []netip.Addr {
	var all []netip.Addr
	for _, record := range slices.Concat(s.a, s.aaaa) {
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

// judge says whether the change is there already, or that it must not be made.
func (s state) judge(change failover.Change) (done bool, err error) {
	serial := s.serial()
	same := len(s.mark) == 1 && slices.Equal(s.mark[0].(*dns.TXT).Txt, markText(change))
	switch {
	case serial > change.Serial, serial == change.Serial && !same:
		return false, fmt.Errorf("serial %d, served is %d: %w", change.Serial, serial, failover.ErrStale)
	}
	return same && slices.Equal(s.addresses(), change.Addresses), nil
}

// read asks one server for everything at a name.
func (p *Publisher) read(ctx context.Context, server, name string) (state, error) {
	var found state
	for _, set := range []struct {
		name string
		kind uint16
		into *[]dns.RR
	}{{name, dns.TypeA, &found.a}, {name, dns.TypeAAAA, &found.aaaa}, {markName(name), dns.TypeTXT, &found.mark}} {
		reply, err := p.exchange(ctx, server, set.name, set.kind)
		if err != nil {
			return state{}, err
		}
		for _, record := range reply.Answer {
			if record.Header().Rrtype == dns.TypeCNAME {
				return state{}, &drill.Error{
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

// exchange asks a name server over TCP, so that nothing is cut off, and refuses what is not its own knowledge.
func (p *Publisher) exchange(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(name, kind)
	query.RecursionDesired = false
	client := dns.Client{Net: "tcp", Timeout: exchangeMax}
	reply, _, err := client.ExchangeContext(ctx, query, server)
	switch {
	case err != nil:
		return nil, err
	case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("%s: %s", server, rcodeText(reply.Rcode))
	case !reply.Authoritative:
		return nil, fmt.Errorf("%s answers for %s, but not as one of its name servers", server, name)
	}
	return reply, nil
}

// ask returns what one server leads to.
func (p *Publisher) ask(ctx context.Context, server, name string) failover.Served {
	found, err := p.read(ctx, server, name)
	return failover.Served{Server: server, Addresses: found.addresses(), Serial: found.serial(), Err: err}
}

// Served asks every name server what a name leads to there.
func (p *Publisher) Served(ctx context.Context, name string) []failover.Served {
	name = dns.CanonicalName(name)
	all := make([]failover.Served, len(p.options.Servers))
	var asking sync.WaitGroup
	for i, server := range p.options.Servers {
		asking.Go(func() { all[i] = p.ask(ctx, server, name) })
	}
	asking.Wait()
	return all
}

// zoneOf returns the zone that a name is in, as the server that takes updates has it.
func (p *Publisher) zoneOf(ctx context.Context, name string) (string, error) {
	p.mu.Lock()
	known := p.zone
	p.mu.Unlock()
	if known != "" {
		if !dns.IsSubDomain(known, name) {
			return "", &drill.Error{Op: "publish " + name, Kind: drill.Invalid, Err: fmt.Errorf("it is not in the zone %s", known)}
		}
		return known, nil
	}
	op := "find the zone of " + name
	reply, err := p.exchange(ctx, p.options.Server, name, dns.TypeSOA)
	if err != nil {
		return "", &drill.Error{Op: op, Host: p.options.Server, Kind: drill.Unreachable, Err: err, Hint: "Check that it serves the zone, or name the zone."}
	}
	for _, record := range slices.Concat(reply.Answer, reply.Ns) {
		if record.Header().Rrtype == dns.TypeSOA {
			zone := dns.CanonicalName(record.Header().Name)
			p.mu.Lock()
			p.zone = zone
			p.mu.Unlock()
			return zone, nil
		}
	}
	return "", &drill.Error{Op: op, Host: p.options.Server, Kind: drill.Invalid, Err: errors.New("it says no SOA record"), Hint: "Name the zone."}
}
