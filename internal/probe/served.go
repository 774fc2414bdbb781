package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"firedrill/internal/history"
)

// tryServed asks a load balancer, or whatever stands behind a name, once, and tells which host has served: the answer of those who have no
// name server. A response of any status will do, as long as it says who made it; nobody's is an answer that leads nowhere.
func (w *witness) tryServed(ctx context.Context, at slot) {
	answer := history.Answer{Name: w.spec.Query, Server: w.spec.place(), Addresses: []string{}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.spec.URL, http.NoBody)
	if err != nil {
		w.runner.ourFault(w.spec, at, err.Error())
		return
	}
	var from netip.Addr
	outcome := exchange(ctx, w.spec, request, func(response *http.Response, outcome result) result {
		said := response.Header.Values(w.spec.Header)
		if from = w.spec.whoServed(said); !from.IsValid() {
			return outcome.failed(history.CauseContent, "status %d, and %s says %q, which is no host of the service", response.StatusCode, w.spec.Header, said)
		}
		return outcome
	})
	seen := w.runner.now()
	switch {
	case outcome.cause == history.CauseProber:
		w.runner.ourFault(w.spec, at, outcome.detail)
		return
	case outcome.cause != "":
		answer.Error = outcome.detail
		seen = at.Scheduled.Add(at.Lag)
	default:
		answer.Addresses = []string{from.String()}
	}
	w.tell(at, seen, answer)
}

// whoServed returns the address of the host that served, by what a header says: the name of a host, or an address with or without port. Of
// several the last one counts: nginx names each that it tried.
func (s Spec) whoServed(said []string) netip.Addr {
	words := strings.FieldsFunc(strings.Join(said, ","), func(r rune) bool { return r == ',' || r == ' ' })
	if len(words) == 0 {
		return netip.Addr{}
	}
	word := words[len(words)-1]
	if address, known := s.Hosts[word]; known {
		return address
	}
	if host, _, err := net.SplitHostPort(word); err == nil {
		word = host
	}
	address, err := netip.ParseAddr(strings.Trim(word, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	for _, known := range s.Hosts {
		if known == address.Unmap() {
			return known
		}
	}
	return netip.Addr{}
}

// place is what the answers of this witness call the place that was asked.
func (s Spec) place() string {
	if s.Place != "" {
		return s.Place
	}
	return s.URL
}

// validateServed says what is missing to tell who served.
func (s Spec) validateServed() error {
	if s.Query == "" || s.Header == "" || len(s.Hosts) == 0 {
		return errors.New("query (the name), header (which says who served) and hosts (who may) are needed")
	}
	return nil
}
