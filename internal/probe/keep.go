package probe

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"firedrill/internal/history"
)

// keeper makes HTTP requests as a client does that keeps its connections: it takes one that is idle, and opens another, looking the name up
// anew, only when there is none. So it stays with the host that it is connected to for as long as that answers, whatever the name leads to
// meanwhile, and fails over when its connection breaks or a request on it is not answered in time. Requests that hang do not hold up
// others: those get connections of their own, as in every pool.
type keeper struct {
	runner *runner
	spec   Spec

	mu   sync.Mutex // guards idle
	idle []*kept
}

// kept is a connection with no request on it.
type kept struct {
	conn    net.Conn
	reader  *bufio.Reader
	address string
}

// idleMax is how many idle connections are kept, as in Go's own client.
const idleMax = 2

func (k *keeper) try(ctx context.Context, at slot) {
	sent := k.runner.now()
	outcome := k.attempt(ctx)
	k.runner.sample(k.spec, at, k.runner.now().Sub(sent), outcome)
}

func (k *keeper) stop(context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, one := range k.idle {
		_ = one.conn.Close()
	}
	k.idle = nil
}

func (k *keeper) take() *kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.idle) == 0 {
		return nil
	}
	one := k.idle[len(k.idle)-1]
	k.idle = k.idle[:len(k.idle)-1]
	return one
}

func (k *keeper) give(one *kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.idle) >= idleMax {
		_ = one.conn.Close()
		return
	}
	k.idle = append(k.idle, one)
}

func (k *keeper) attempt(ctx context.Context) result {
	if one := k.take(); one != nil {
		outcome := k.ask(ctx, one)
		outcome.reused = true
		// A server may close a connection that was idle for too long just when we ask: clients ask again then, and so does this one.
		if !outcome.unheard {
			return outcome
		}
	}
	target, err := url.Parse(k.spec.URL)
	if err != nil {
		return result{}.failed(history.CauseProber, "%v", err)
	}
	conn, outcome := connect(ctx, k.spec, target.Hostname(), portOf(target))
	if conn == nil {
		return outcome
	}
	address := outcome.address
	if target.Scheme == "https" {
		name := target.Hostname()
		if k.spec.Host != "" {
			name = hostOnly(k.spec.Host)
		}
		secure, judged := handshake(ctx, k.spec, conn, name, outcome)
		if secure == nil {
			_ = conn.Close()
			return judged
		}
		conn = secure
	}
	return k.ask(ctx, &kept{conn: conn, reader: bufio.NewReader(conn), address: address})
}

// ask makes one request and gives the connection back when it can serve another.
func (k *keeper) ask(ctx context.Context, one *kept) (outcome result) {
	outcome.address = one.address
	keep := false
	defer func() {
		if keep {
			k.give(one)
		} else {
			_ = one.conn.Close()
		}
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.spec.URL, http.NoBody)
	if err != nil {
		return outcome.failed(history.CauseProber, "%v", err)
	}
	if k.spec.Host != "" {
		request.Host = k.spec.Host
	}
	request.Header.Set("User-Agent", "firedrill-probe")
	deadline, _ := ctx.Deadline() // a try has one
	if err := one.conn.SetDeadline(deadline); err != nil {
		return outcome.failed(history.CauseReset, "%v", err)
	}
	if err := request.Write(one.conn); err != nil {
		outcome.unheard = isGone(err)
		return outcome.failed(causeOf(err, history.CauseReset), "send request: %s", reason(err))
	}
	if _, err := one.reader.Peek(1); err != nil {
		outcome.unheard = isGone(err)
		return outcome.failed(causeOf(err, history.CauseReset), "read response: %s", reason(err))
	}
	response, err := readResponse(one.reader, request)
	if err != nil {
		return outcome.failed(causeOf(err, history.CauseContent), "read response: %s", reason(err))
	}
	defer response.Body.Close()
	outcome.status = response.StatusCode
	outcome = k.spec.judgeResponse(response, outcome)
	rest, err := io.Copy(io.Discard, io.LimitReader(response.Body, readLimit))
	keep = err == nil && rest < readLimit && !response.Close
	if keep {
		_ = one.conn.SetDeadline(time.Time{}) // the next request sets its own
	}
	return outcome
}

// isGone says that the other side had closed the connection before it read anything.
func isGone(err error) bool {
	cause := causeOf(err, "")
	return cause == history.CauseReset || errors.Is(err, net.ErrClosed)
}

func hostOnly(text string) string {
	if host, _, err := net.SplitHostPort(text); err == nil {
		return host
	}
	return text
}
