package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/nameservers"
)

// Served asks every name server what a name leads to there.
func (p *Publisher) Served(ctx context.Context, name string) []failover.Served {
	return nameservers.Served(ctx, p.options.Servers, name)
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
	reply, err := nameservers.Exchange(ctx, p.options.Server, name, dns.TypeSOA)
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
