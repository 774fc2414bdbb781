package probe

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/history"
)

// witness asks one name server for the addresses of one name, or a load balancer for who serves, and tells when the answer changes.
type witness struct {
	runner *runner
	spec   Spec

	mu     sync.Mutex // guards the fields below
	latest time.Time  // schedule of the newest try that has ended; older ones that end later are old news
	told   time.Time
	last   history.Answer
}

// try asks once. An answer counts from when it came; silence from when we asked.
func (w *witness) try(ctx context.Context, at slot) {
	if w.spec.Kind == Served {
		w.tryServed(ctx, at)
		return
	}
	w.tryDNS(ctx, at)
}

// tryDNS asks over UDP as resolvers do.
func (w *witness) tryDNS(ctx context.Context, at slot) {
	answer := history.Answer{Name: w.spec.Query, Server: w.spec.Address, Addresses: []string{}}
	server := withPort(w.spec.Address, "53")
	reply, err := askOne(ctx, server, dns.Fqdn(w.spec.Query), dns.TypeA, w.spec.timeout())
	seen := w.runner.now()
	switch {
	case err != nil && causeOf(err, "") == history.CauseProber:
		w.runner.ourFault(w.spec, at, err.Error())
		return
	case err != nil:
		answer.Error = err.Error()
		seen = at.Scheduled.Add(at.Lag)
	case reply.Rcode == dns.RcodeNameError:
		answer.Error = "the name does not exist (NXDOMAIN)"
	default:
		found, _ := readAddresses(reply, w.spec.Query)
		slices.SortFunc(found, func(a, b netip.Addr) int { return a.Compare(b) })
		for _, address := range found {
			answer.Addresses = append(answer.Addresses, address.String())
		}
	}
	w.tell(at, seen, answer)
}

func (w *witness) tell(at slot, seen time.Time, answer history.Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at.Scheduled.Before(w.latest) {
		return
	}
	w.latest = at.Scheduled
	same := answer.Error == w.last.Error && slices.Equal(answer.Addresses, w.last.Addresses)
	if same && !w.told.IsZero() && at.Scheduled.Sub(w.told) < w.spec.repeat() {
		return
	}
	w.told, w.last = at.Scheduled, answer
	w.runner.emit(seen, &answer)
}

func (w *witness) stop(context.Context) {}
