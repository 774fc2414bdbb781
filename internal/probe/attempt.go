package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"firedrill/internal/history"
)

// result is what one try found; an empty cause means that all was well.
type result struct {
	cause   string
	detail  string
	address string // host:port tried last
	status  int
	value   *float64
	reused  bool // the connection had served tries before
	unheard bool // and was gone before the other side read anything
}

// with returns the outcome with a value.
func (r result) with(value float64) result {
	r.value = &value
	return r
}

func (r result) failed(cause, format string, args ...any) result {
	r.cause, r.detail = cause, fmt.Sprintf(format, args...)
	return r
}

// addressesMax is how many addresses of a name one try goes through, as clients do; the time is shared out among them.
const addressesMax = 4

// continuesMax is how many 1xx responses are read over before the real one.
const continuesMax = 5

// attemptTCP resolves, connects and closes.
func attemptTCP(ctx context.Context, spec Spec) result {
	host, port, err := net.SplitHostPort(spec.Address)
	if err != nil {
		return result{}.failed(history.CauseProber, "%v", err)
	}
	conn, outcome := connect(ctx, spec, host, port)
	if conn != nil {
		_ = conn.Close()
	}
	return outcome
}

// connect resolves host afresh and connects to the first of its addresses that takes us.
func connect(ctx context.Context, spec Spec, host, port string) (net.Conn, result) {
	addresses, err := resolve(ctx, spec.Resolver, host)
	if err != nil {
		return nil, result{}.failed(causeOfResolve(err), "%v", err)
	}
	if outside := spec.outside(addresses); outside.IsValid() {
		return nil, result{address: outside.String()}.failed(history.CauseProber, "%s leads to %s, which may not be looked at from here: nothing was sent", host, outside)
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, result{}.failed(history.CauseProber, "port %q: %v", port, err)
	}
	addresses = addresses[:min(len(addresses), addressesMax)]
	var outcome result
	for i, address := range addresses {
		target := netip.AddrPortFrom(address, uint16(number))
		conn, err := dial(ctx, target, len(addresses)-i)
		last := result{address: target.String()}
		if err == nil {
			return conn, last
		}
		if i == 0 { // the first thing that went wrong is the cause; the address is the last one tried
			outcome = last.failed(causeOf(err, history.CauseConnect), "connect to %s: %s", target, reason(err))
		}
		outcome.address = last.address
	}
	return nil, outcome
}

// dial connects to one address within its share of the time that is left.
func dial(ctx context.Context, target netip.AddrPort, shares int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && shares > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(shares))
		defer cancel()
	}
	dialer := net.Dialer{KeepAlive: -1}
	return dialer.DialContext(ctx, "tcp", target.String())
}

// attemptHTTP makes one GET request on a connection of its own. It does not use net/http's Transport: there a dial outlives its request
// and connections are shared, and which phase failed must be guessed. Redirects are not followed.
func attemptHTTP(ctx context.Context, spec Spec) result {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, spec.URL, http.NoBody)
	if err != nil {
		return result{}.failed(history.CauseProber, "%v", err)
	}
	return exchange(ctx, spec, request, func(response *http.Response, outcome result) result {
		return spec.judgeResponse(response, outcome)
	})
}

// judgeResponse holds a response against what is wanted of it. It reads no more of the body than it needs.
func (s Spec) judgeResponse(response *http.Response, outcome result) result {
	if want := s.Status; (want != 0 && response.StatusCode != want) || (want == 0 && response.StatusCode/100 != 2) {
		return outcome.failed(history.CauseStatus, "status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, bodyMax))
	if err != nil {
		return outcome.failed(causeOf(err, history.CauseContent), "read body: %s", reason(err))
	}
	if s.Contains != "" && !strings.Contains(string(body), s.Contains) {
		return outcome.failed(history.CauseContent, "the body does not hold %q", s.Contains)
	}
	return outcome
}

// exchange connects, sends request and passes the response to read. The connection is closed afterwards.
func exchange(ctx context.Context, spec Spec, request *http.Request, read func(*http.Response, result) result) result {
	conn, outcome := connect(ctx, spec, request.URL.Hostname(), portOf(request.URL))
	if conn == nil {
		return outcome
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return outcome.failed(history.CauseProber, "%v", err)
		}
	}
	if spec.Host != "" {
		request.Host = spec.Host
	}
	if request.URL.Scheme == "https" {
		secure, judged := handshake(ctx, spec, conn, hostOnly(request.Host), outcome)
		if secure == nil {
			return judged
		}
		conn = secure
	}
	request.Close = true
	request.Header.Set("User-Agent", "firedrill-probe")
	if err := request.Write(conn); err != nil {
		return outcome.failed(causeOf(err, history.CauseReset), "send request: %s", reason(err))
	}
	// The limit is on everything that is read: headers cannot be endless either.
	response, err := readResponse(bufio.NewReader(io.LimitReader(conn, readLimit)), request)
	if err != nil {
		return outcome.failed(causeOf(err, history.CauseContent), "read response: %s", reason(err))
	}
	defer response.Body.Close()
	outcome.status = response.StatusCode
	return read(response, outcome)
}

// readLimit bounds what one response may send us: the list of a ledger of a million entries fits.
const readLimit = 16 << 20

func readResponse(from *bufio.Reader, request *http.Request) (*http.Response, error) {
	for range continuesMax {
		response, err := http.ReadResponse(from, request)
		if err != nil || response.StatusCode/100 != 1 {
			return response, err
		}
		_ = response.Body.Close()
	}
	return nil, errors.New("no final response after many of 1xx")
}

func portOf(target *url.URL) string {
	switch {
	case target.Port() != "":
		return target.Port()
	case target.Scheme == "https":
		return strconv.Itoa(443)
	}
	return strconv.Itoa(80)
}

// causeOf returns the cause that an error of the network stands for, otherwise when it is none of those with a cause of their own.
func causeOf(err error, otherwise string) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EADDRNOTAVAIL):
		return history.CauseProber // out of descriptors, memory or ports: nothing was sent
	case errors.Is(err, syscall.ECONNREFUSED):
		return history.CauseRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return history.CauseReset
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return history.CauseTimeout
	}
	return otherwise
}

// causeOfResolve is causeOf for names: a name server that refuses or hangs is a name that does not resolve.
func causeOfResolve(err error) string {
	if cause := causeOf(err, ""); cause == history.CauseProber {
		return cause
	}
	return history.CauseResolve
}

// reason returns the innermost words of a network error; address and operation stand beside it already.
func reason(err error) string {
	if causeOf(err, "") == history.CauseTimeout {
		return "no answer in time"
	}
	var inner *net.OpError
	if errors.As(err, &inner) && inner.Err != nil {
		return inner.Err.Error()
	}
	return err.Error()
}
