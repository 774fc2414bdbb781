package route53

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/failover"
)

// How long an endpoint may take, and how much of it is read, as Route 53 publishes it.
const (
	connectMax    = 4 * time.Second // HTTP and HTTPS, with TLS
	answerMax     = 2 * time.Second // status line and headers
	bodyMax       = 2 * time.Second
	tcpConnectMax = 10 * time.Second
	searchedMax   = 5120 // bytes of a body
)

// places are where checkers say that they are. All are here; but each has its own rhythm and opinion.
var places = []string{"us-east-1", "us-west-2", "eu-west-1"}

// checker is one of the observers of an endpoint.
type checker struct {
	region string
	streak failover.Streak
	said   string
	at     time.Time // of the last result; zero: none yet
}

// take goes on with what another saw.
func (k *checker) take(other *checker) { k.streak, k.said, k.at = other.streak, other.said, other.at }

// prepare gives a check on an endpoint its checkers. Callers hold mu.
func (s *Service) prepare(c *check) {
	if kinds[c.Check.HealthCheckConfig.Type] != failover.CheckEndpoint {
		return
	}
	for _, place := range places {
		c.checkers = append(c.checkers, &checker{region: place})
	}
}

// start makes a check's checkers go, once the service runs. Callers hold mu.
func (s *Service) start(c *check) {
	if s.checking == nil || len(c.checkers) == 0 || is(c.Check.HealthCheckConfig.Disabled) {
		return
	}
	ctx, stop := context.WithCancel(s.checking)
	c.stop = stop
	every := time.Duration(*c.Check.HealthCheckConfig.RequestInterval) * time.Second
	if s.options.CheckEvery > 0 {
		every = s.options.CheckEvery
	}
	for i, k := range c.checkers {
		s.making.Go(func() { s.checkAgain(ctx, c, k, every*time.Duration(i)/time.Duration(len(places)), every) })
	}
}

// checkAgain checks an endpoint until ctx ends: the interval runs from an answer to the next request.
func (s *Service) checkAgain(ctx context.Context, c *check, k *checker, first, every time.Duration) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		said, err := s.try(ctx, c.Check.HealthCheckConfig)
		if ctx.Err() != nil {
			return
		}
		s.note(c, k, said, err)
		timer.Reset(every)
	}
}

// note takes one result.
func (s *Service) note(c *check, k *checker, said string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := k.at.IsZero() // it counts from now on
	k.said, k.at = "Success: "+said, s.now()
	if err != nil {
		k.said = "Failure: " + err.Error()
	}
	before := k.streak.Ill
	k.streak = k.streak.Next(err == nil, *c.Check.HealthCheckConfig.FailureThreshold, s.now())
	if news || k.streak.Ill != before {
		s.look()
	}
}

// try goes to an endpoint once, on a connection of its own, and says what came.
func (s *Service) try(ctx context.Context, c HealthCheckConfig) (string, error) {
	address := c.IPAddress
	if address == "" {
		found, err := s.options.Lookup(ctx, c.FullyQualifiedDomainName)
		if err == nil && len(found) == 0 {
			err = errors.New("it has no IPv4 address")
		}
		if err != nil {
			return "", fmt.Errorf("DNS resolution failed: %s: %w", c.FullyQualifiedDomainName, err)
		}
		address = found[0].String()
	}
	target := net.JoinHostPort(address, strconv.Itoa(*c.Port))
	limit := connectMax
	if c.Type == "TCP" {
		limit = tcpConnectMax
	}
	connecting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var dialer net.Dialer
	connection, err := dialer.DialContext(connecting, "tcp", target)
	if err != nil {
		return "", fmt.Errorf("the connection could not be established: %w", err)
	}
	defer connection.Close()
	if c.Type == "TCP" {
		return "the connection was established", nil
	}
	if strings.HasPrefix(c.Type, "HTTPS") {
		config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // Route 53 does not look at certificates
		if is(c.EnableSNI) {
			config.ServerName = c.FullyQualifiedDomainName
		}
		secure := tls.Client(connection, config)
		if err := secure.HandshakeContext(connecting); err != nil {
			return "", fmt.Errorf("TLS handshake: %w", err)
		}
		connection = secure
	}
	return ask(ctx, connection, c, target)
}

// ask sends the request over a connection and looks at the answer.
func ask(ctx context.Context, connection net.Conn, c HealthCheckConfig, target string) (string, error) {
	host := c.FullyQualifiedDomainName
	if host == "" {
		host = target
	}
	path := c.ResourcePath
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target+path, http.NoBody)
	if err != nil {
		return "", err
	}
	request.Host = host
	request.Close = true
	request.Header.Set("User-Agent", "firedrill health check")
	transport := &http.Transport{
		DialContext:           func(context.Context, string, string) (net.Conn, error) { return connection, nil },
		ResponseHeaderTimeout: answerMax, DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", fmt.Errorf("the endpoint did not answer: %w", err)
	}
	defer response.Body.Close()
	said := fmt.Sprintf("HTTP Status Code %d, %s", response.StatusCode, http.StatusText(response.StatusCode))
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return "", errors.New(said)
	}
	if c.SearchString == "" {
		return said, nil
	}
	if err := connection.SetReadDeadline(time.Now().Add(bodyMax)); err != nil {
		return "", err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, searchedMax))
	if bytes.Contains(body, []byte(c.SearchString)) {
		return said, nil
	}
	if err != nil {
		return "", fmt.Errorf("%s; the body could not be read: %w", said, err)
	}
	return "", fmt.Errorf("%s; the first %d bytes of the body do not hold the search string", said, searchedMax)
}

// lookup finds the IPv4 addresses of a host: in our own zones, else by the system's resolver.
func (s *Service) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	reply, err := s.options.Hosting.Answer(new(dns.Msg).SetQuestion(dns.Fqdn(host), dns.TypeA))
	if err == nil && reply.Rcode == dns.RcodeSuccess {
		var own []netip.Addr
		for _, record := range reply.Answer {
			if a, is := record.(*dns.A); is {
				if address, ok := netip.AddrFromSlice(a.A); ok {
					own = append(own, address.Unmap())
				}
			}
		}
		if len(own) > 0 {
			return own, nil
		}
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}
