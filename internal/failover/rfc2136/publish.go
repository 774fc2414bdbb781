package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/move"
	"firedrill/internal/failover/nameservers"
	"firedrill/internal/failover/tsig"
)

const (
	exchangeMax = 3 * time.Second // for one question; a name server answers in milliseconds, and writes to its disk in tens of them
	verifyMax   = 20 * time.Second
	verifyEvery = 20 * time.Millisecond
	triesMax    = 20 // of updates that lost the race against someone else's; each loss means that another was done

	ttlMax = time.Minute // a longer one makes every failover longer than a minute
)

// Options make a Publisher. Server is needed; the rest has defaults.
type Options struct {
	Server  string        // name server that takes updates, host or host:port
	Servers []string      // every name server of the zone, which must give the new answer; default: Server alone
	Zone    string        // default: asked of Server
	Key     tsig.Key      // signs the updates; the zero Key: they are not signed
	TTL     time.Duration // of the addresses; default 5 s, in whole seconds
	Verify  time.Duration // how long the name servers may take to follow; default 20 s
	Log     *slog.Logger  // default: none
}

// Publisher moves names in one zone. All methods may be called at once.
type Publisher struct {
	options Options

	mu   sync.Mutex // guards zone
	zone string     // once known
}

// New checks the options. The error is a *drill.Error of kind Invalid.
func New(options Options) (*Publisher, error) {
	invalid := func(format string, args ...any) (*Publisher, error) {
		return nil, &drill.Error{Op: "rfc2136", Kind: drill.Invalid, Err: fmt.Errorf(format, args...)}
	}
	if options.Server == "" {
		return invalid("no name server that takes updates")
	}
	if len(options.Servers) == 0 {
		options.Servers = []string{options.Server}
	}
	if options.TTL == 0 {
		options.TTL = 5 * time.Second
	}
	if options.TTL < 0 || options.TTL > ttlMax || options.TTL%time.Second != 0 {
		return invalid("ttl %v; write whole seconds up to %v", options.TTL, ttlMax)
	}
	if options.Verify == 0 {
		options.Verify = verifyMax
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	options.Server = nameservers.WithPort(options.Server)
	options.Servers = slices.Clone(options.Servers)
	for i, server := range options.Servers {
		options.Servers[i] = nameservers.WithPort(server)
	}
	p := &Publisher{options: options}
	if options.Zone != "" {
		p.zone = dns.CanonicalName(options.Zone)
	}
	return p, nil
}

// Publish makes the name lead to the addresses of the change, and returns nil once every name server was seen to answer so. The same change
// again is nil; it also puts right what somebody else has changed since. The error wraps failover.ErrStale when a newer change was there, or
// is a *drill.Error: Invalid, Refused (the server does not take our updates), Unreachable, or Unproven when the update was made and a name
// server does not follow.
func (p *Publisher) Publish(ctx context.Context, change failover.Change) error {
	change, err := change.Valid()
	if err != nil {
		return err
	}
	change.Name = dns.CanonicalName(change.Name)
	zone, err := p.zoneOf(ctx, change.Name)
	if err != nil {
		return err
	}
	if err := p.swap(ctx, zone, change); err != nil {
		return err
	}
	return nameservers.Verify(ctx, p.options.Servers, change, p.options.Verify)
}

// swap brings the change into the server that takes updates.
func (p *Publisher) swap(ctx context.Context, zone string, change failover.Change) error {
	op := "publish " + change.Name
	var last error
	for range triesMax {
		if ctx.Err() != nil {
			break
		}
		current, err := nameservers.Read(ctx, p.options.Server, change.Name)
		if drill.KindOf(err) == drill.Invalid {
			return err
		}
		if err != nil {
			last = err
			if !move.Pause(ctx, verifyEvery) {
				break
			}
			continue
		}
		switch done, err := current.Judge(change); {
		case err != nil:
			return fmt.Errorf("%s on %s: %w", op, p.options.Server, err)
		case done:
			return nil
		}
		rcode, err := p.send(ctx, p.update(zone, current, change))
		switch {
		case err != nil:
			last = err // it may have been carried out: what is read next says so
		case rcode == dns.RcodeSuccess:
			p.options.Log.InfoContext(ctx, "name updated", "name", change.Name, "server", p.options.Server, "addresses", change.Addresses, "serial", change.Serial)
			return nil
		case lostRace(rcode):
			last = errors.New("someone else keeps changing the name")
		default:
			return p.refused(op, change.Name, rcode)
		}
	}
	if last == nil {
		last = ctx.Err()
	}
	return &drill.Error{Op: op, Host: p.options.Server, Kind: drill.Unreachable, Err: last, Hint: "Check that the name server runs and that TCP to it is open."}
}

// lostRace says whether a prerequisite did not hold.
func lostRace(rcode int) bool {
	return slices.Contains([]int{dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeNameError, dns.RcodeYXDomain}, rcode)
}

func (p *Publisher) refused(op, name string, rcode int) error {
	hint := fmt.Sprintf("Allow key %s to change A and AAAA of %s and TXT of %s there.", p.options.Key.Name, name, nameservers.MarkName(name))
	if p.options.Key.Name == "" {
		hint = "The server wants signed updates: name a key."
	}
	if rcode == dns.RcodeBadTime {
		hint = "The clocks differ by more than five minutes: set them."
	}
	return &drill.Error{Op: op, Host: p.options.Server, Kind: drill.Refused, Err: fmt.Errorf("the update was answered with %s", nameservers.RcodeText(rcode)), Hint: hint}
}

// update is the message that replaces what was read by the change, and nothing else.
func (p *Publisher) update(zone string, current nameservers.State, change failover.Change) *dns.Msg {
	message := new(dns.Msg).SetUpdate(zone)
	var fresh []dns.RR
	ttl := uint32(p.options.TTL / time.Second)
	for _, address := range change.Addresses {
		fresh = append(fresh, addressRecord(change.Name, address, ttl))
	}
	for _, set := range []struct {
		name    string
		kind    uint16
		records []dns.RR
	}{
		{change.Name, dns.TypeA, current.A}, {change.Name, dns.TypeAAAA, current.AAAA}, {nameservers.MarkName(change.Name), dns.TypeTXT, current.Mark},
	} {
		key := []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: set.name, Rrtype: set.kind, Class: dns.ClassINET}}}
		if len(set.records) > 0 {
			message.Used(copies(set.records))
		} else {
			message.RRsetNotUsed(key)
		}
		message.RemoveRRset(key)
	}
	message.Insert(append(fresh, &dns.TXT{
		Hdr: dns.RR_Header{Name: nameservers.MarkName(change.Name), Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: nameservers.MarkText(change),
	}))
	return message
}

func copies(records []dns.RR) []dns.RR {
	all := make([]dns.RR, 0, len(records))
	for _, record := range records {
		all = append(all, dns.Copy(record))
	}
	return all
}

func addressRecord(name string, address netip.Addr, ttl uint32) dns.RR {
	head := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: ttl}
	if address.Is4() {
		head.Rrtype = dns.TypeA
		return &dns.A{Hdr: head, A: address.AsSlice()}
	}
	head.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: head, AAAA: address.AsSlice()}
}

// send sends an update over TCP and returns the return code. Over UDP a lost reply and a lost update look alike.
func (p *Publisher) send(ctx context.Context, message *dns.Msg) (int, error) {
	p.options.Key.Sign(message, time.Now())
	client := dns.Client{Net: "tcp", Timeout: exchangeMax, TsigSecret: p.options.Key.Secrets()}
	reply, _, err := client.ExchangeContext(ctx, message, p.options.Server)
	if reply != nil && reply.Id == message.Id && reply.Rcode != dns.RcodeSuccess {
		// What is refused for its signature comes back without one, which is an error too; the reason says more.
		if given := reply.IsTsig(); given != nil && given.Error != 0 {
			return int(given.Error), nil
		}
		return reply.Rcode, nil
	}
	if err != nil {
		return 0, err
	}
	return reply.Rcode, nil
}
