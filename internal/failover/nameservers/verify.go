package nameservers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/move"
)

const (
	exchangeMax = 3 * time.Second // for one question; a name server answers in milliseconds
	verifyEvery = 20 * time.Millisecond
)

// WithPort returns the address of a name server with the port of DNS, unless it has one.
func WithPort(server string) string {
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), "53")
}

// RcodeText returns the name of a return code.
func RcodeText(rcode int) string {
	if text, known := dns.RcodeToString[rcode]; known {
		return text
	}
	return strconv.Itoa(rcode)
}

// Verify waits until every name server gives the new answer with its mark, at most so long. The error wraps failover.ErrStale when a newer one
// is given, or is a *drill.Error of kind Unproven that names the server.
func Verify(ctx context.Context, servers []string, change failover.Change, most time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	problems := make([]error, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() { problems[i] = verifyOne(bounded, server, change) })
	}
	asking.Wait()
	return errors.Join(problems...)
}

func verifyOne(ctx context.Context, server string, change failover.Change) error {
	var seen failover.Served
	for {
		if read := ask(ctx, server, change.Name); ctx.Err() == nil || seen.Server == "" {
			seen = read
		}
		switch {
		case seen.Err == nil && seen.Serial > change.Serial:
			return fmt.Errorf("publish %s: %s has serial %d: %w", change.Name, server, seen.Serial, failover.ErrStale)
		case seen.Serial == change.Serial && seen.Leads(change):
			return nil
		}
		if !move.Pause(ctx, verifyEvery) {
			break
		}
	}
	if seen.Err != nil {
		return &drill.Error{
			Op: "verify " + change.Name, Host: server, Kind: drill.Unproven, Err: fmt.Errorf("it could not be asked: %w", seen.Err),
			Hint: "The update is made. Start this name server again, or take it out of servers: resolvers that ask it get no answer.",
		}
	}
	return &drill.Error{
		Op: "verify " + change.Name, Host: server, Kind: drill.Unproven, Err: fmt.Errorf("it still answers %v", seen.Addresses),
		Hint: "The update is made. Check that this name server is told of changes (NOTIFY) and may transfer the zone, and that it keeps no cache.",
	}
}
