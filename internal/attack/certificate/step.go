package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const (
	handshakeTimeout = 10 * time.Second // for one endpoint
	fileMax          = 16 << 20         // bytes; all roots of a host are 0.2 MB
)

// step is the one step. It only looks.
type step struct {
	order Order

	mu       sync.Mutex // guards the fields below
	opinions []opinion
	whole    bool // everything was looked at
}

// Lines implements attack.Step.
func (s *step) Lines() []string {
	var lines []string
	for _, where := range append(append([]string{}, s.order.Endpoints...), s.order.Files...) {
		lines = append(lines, fmt.Sprintf("look at the certificates of %s as if it were %d days later", where, s.order.Days))
	}
	return append(lines, "change nothing")
}

// Remains implements attack.Step.
func (*step) Remains() attack.Remains { return attack.RemainsNothing }

// Apply implements attack.Step: there is nothing to apply.
func (*step) Apply(context.Context, time.Time) error { return nil }

// Revert implements attack.Step.
func (*step) Revert(context.Context) error { return nil }

// Tend implements attack.Tended: the look itself. It ends the attack.
func (s *step) Tend(ctx context.Context, report func(history.Fact)) error {
	roots, err := s.roots()
	if err != nil {
		return err
	}
	now := time.Now()
	then := now.AddDate(0, 0, s.order.Days)
	if s.order.hooks.today {
		then = now
	}
	var missed []error
	var bad []string
	look := func(found seen, err error) {
		if err != nil {
			missed = append(missed, err)
			return
		}
		for _, o := range judge(found, now, then, roots, s.order.hooks) {
			report(&history.Note{Text: o.text})
			if o.bad {
				bad = append(bad, o.text)
			}
			s.mu.Lock()
			s.opinions = append(s.opinions, o)
			s.mu.Unlock()
		}
	}
	for _, endpoint := range s.order.Endpoints {
		look(s.connect(ctx, endpoint))
	}
	for _, file := range s.order.Files {
		look(readFile(file))
	}
	s.mu.Lock()
	s.whole = len(missed) == 0 || s.order.hooks.deaf
	whole := s.whole
	s.mu.Unlock()
	switch {
	case len(bad) > 0:
		return &drill.Error{Op: "attack " + Name, Kind: drill.Failed, Err: errors.New(strings.Join(bad, "; ")), Hint: "renew it before that day"}
	case !whole:
		return &drill.Error{Op: "attack " + Name, Kind: drill.Unproven, Err: errors.Join(missed...), Hint: "what was not looked at may be expired as well: is the name right, and does TLS answer there?"}
	}
	return attack.ErrDone
}

// roots reads what is trusted; nil where this host has no roots.
func (s *step) roots() (*x509.CertPool, error) {
	if s.order.Roots == "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, nil // a minimal container has none: then only dates are looked at
		}
		return pool, nil
	}
	found, err := readFile(s.order.Roots)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, certificate := range found.chain {
		pool.AddCert(certificate)
	}
	return pool, nil
}

// connect asks an endpoint for its certificates.
func (s *step) connect(ctx context.Context, endpoint string) (seen, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return seen{}, fmt.Errorf("connect to %s: %w", endpoint, err)
	}
	defer raw.Close()
	name := s.order.ServerName
	if name == "" {
		name, _, _ = net.SplitHostPort(endpoint)
	}
	found := seen{where: endpoint}
	conn := tls.Client(raw, &tls.Config{
		ServerName: name,
		// Nothing is sent over this connection: what would be refused must be seen too, and judge verifies.
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10,
		VerifyConnection: func(state tls.ConnectionState) error {
			found.chain, found.staple = state.PeerCertificates, state.OCSPResponse
			return nil
		},
	})
	err = conn.HandshakeContext(ctx)
	if len(found.chain) > 0 {
		return found, nil // an endpoint that wants a certificate of ours has shown its own by then
	}
	return seen{}, fmt.Errorf("TLS with %s: %w", endpoint, errors.Join(err, errors.New("it showed no certificate")))
}

// readFile reads all certificates of a PEM file.
func readFile(path string) (seen, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > fileMax {
		err = fmt.Errorf("%s is larger than %d MiB", path, fileMax>>20)
	}
	if err != nil {
		return seen{}, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return seen{}, err
	}
	chain, err := parsePEM(text)
	if err != nil {
		return seen{}, fmt.Errorf("%s: %w", path, err)
	}
	return seen{where: path, chain: chain}, nil
}

// parsePEM reads the certificates among the blocks of a file, as a server's file with its key.
func parsePEM(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, certificate)
	}
	if bytes.Contains(text, []byte("-----BEGIN CERTIFICATE-----")) {
		return nil, fmt.Errorf("after %d certificates there is one that is not whole", len(chain))
	}
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return chain, nil
}

// Evidence implements attack.Evidencing: it bit when all was looked at.
func (s *step) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.opinions {
		sentences = append(sentences, o.text)
	}
	if !s.whole {
		sentences = append(sentences, "not everything was looked at")
	}
	return s.whole, sentences
}
