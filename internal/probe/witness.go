package probe

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
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
		answer.TTL = longestTTL(reply)
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
	same := answer.Error == w.last.Error && slices.Equal(answer.Addresses, w.last.Addresses) && !longer(answer, w.last)
	if same && !w.told.IsZero() && at.Scheduled.Sub(w.told) < w.spec.repeat() {
		return
	}
	w.told, w.last = at.Scheduled, answer
	w.runner.emit(seen, &answer)
}

// longestTTL returns how long a client may keep an answer; nil when there is none to keep.
func longestTTL(reply *dns.Msg) *drill.Seconds {
	var longest *drill.Seconds
	for _, record := range reply.Answer {
		ttl := drill.Seconds(time.Duration(record.Header().Ttl) * time.Second)
		if longest == nil || ttl > *longest {
			longest = &ttl
		}
	}
	return longest
}

// longer says that an answer may be kept longer than the one before: the TTL of a server that answers from a cache only falls until it
// asks again, and its longest is what counts.
func longer(answer, last history.Answer) bool {
	return answer.TTL != nil && (last.TTL == nil || *answer.TTL > *last.TTL)
}

func (w *witness) stop(context.Context) {}
