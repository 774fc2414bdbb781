package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"firedrill/internal/history"
)

// attemptTLS connects, shakes hands and judges the certificates. Its value is how many days the chain is still good for, negative once it
// is not: told also of a chain that is refused.
func attemptTLS(ctx context.Context, spec Spec) result {
	host, port, err := net.SplitHostPort(spec.Address)
	if err != nil {
		return result{}.failed(history.CauseProber, "%v", err)
	}
	conn, outcome := connect(ctx, spec, host, port)
	if conn == nil {
		return outcome
	}
	defer conn.Close()
	name := spec.Server
	if name == "" {
		name = host
	}
	secure, outcome := handshake(ctx, spec, conn, name, outcome)
	if secure != nil {
		_ = secure.Close() // the verdict on it stands
	}
	return outcome
}

// handshake makes a connection secure, or says why that cannot be; the value of the outcome is the days left. The certificates are judged
// here and not by crypto/tls, which keeps those that it refuses to itself.
func handshake(ctx context.Context, spec Spec, conn net.Conn, name string, outcome result) (*tls.Conn, result) {
	roots, err := rootsOf(spec.CAFile)
	if err != nil {
		return nil, outcome.failed(history.CauseProber, "%v", err)
	}
	var refused error
	secure := tls.Client(conn, &tls.Config{
		ServerName: name, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			outcome = outcome.with(daysLeft(state.PeerCertificates))
			refused = judge(state.PeerCertificates, roots, name)
			return refused
		},
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		if refused != nil {
			return nil, outcome.failed(history.CauseTLS, "certificate: %v", refused)
		}
		return nil, outcome.failed(causeOf(err, history.CauseTLS), "TLS: %s", reason(err))
	}
	return secure, outcome
}

func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // the system's
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate", file)
	}
	return roots, nil
}

func judge(chain []*x509.Certificate, roots *x509.CertPool, name string) error {
	if len(chain) == 0 {
		return errors.New("none was shown")
	}
	between := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		between.AddCert(certificate)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between})
	return err
}

// daysLeft counts until the first certificate of the chain ends.
func daysLeft(chain []*x509.Certificate) float64 {
	var first time.Time
	for _, certificate := range chain {
		if first.IsZero() || certificate.NotAfter.Before(first) {
			first = certificate.NotAfter
		}
	}
	return time.Until(first).Hours() / 24
}
