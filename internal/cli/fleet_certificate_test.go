//go:build !hostpart

package cli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

// pairOf makes a certificate for example.com that vouches for itself, and its key, as PEM.
func pairOf(t *testing.T, serial int64, until time.Time) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: until.Add(-48 * time.Hour), NotAfter: until, DNSNames: []string{"example.com"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	text, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: text}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func putPEM(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A certificate that is renewed in place is shown without a new start, and half of a renewal changes nothing.
func TestACertificateIsRenewedInPlace(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, stale := range []bool{false, true} {
		directory := t.TempDir()
		file, key := filepath.Join(directory, "tls.pem"), filepath.Join(directory, "tls.key")
		first, firstKey := pairOf(t, 1, now.Add(24*time.Hour))
		second, secondKey := pairOf(t, 2, now.Add(24*time.Hour))
		ended, endedKey := pairOf(t, 3, now.Add(-time.Hour))
		putPEM(t, file, first)
		putPEM(t, key, firstKey)
		var said bytes.Buffer
		s, err := openCertificate(file, key, now, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		s.stale = stale
		at := now
		serial := func() int64 {
			at = at.Add(certificateLook)
			return s.at(at).Leaf.SerialNumber.Int64()
		}
		putPEM(t, file, second)
		if got := serial(); got != 1 {
			t.Errorf("stale %v: half of a pair: %d is shown", stale, got)
		}
		if warned := strings.Count(said.String(), "level=WARN"); warned != 1 && !stale {
			t.Errorf("half of a pair is said %d times: %s", warned, &said)
		}
		putPEM(t, key, secondKey)
		if got := serial(); got != 2 && !stale || got != 1 && stale {
			t.Errorf("stale %v: renewed: %d is shown", stale, got)
		}
		putPEM(t, file, ended)
		putPEM(t, key, endedKey)
		if got := serial(); got != 2 && !stale {
			t.Errorf("one that has ended is shown: %d", got)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if got := serial(); got != 2 && !stale {
			t.Errorf("no file: %d is shown", got)
		}
	}
}

func TestACertificateThatCannotBeShownIsRefused(t *testing.T) {
	t.Parallel()
	now, directory := time.Now(), t.TempDir()
	file, key := filepath.Join(directory, "tls.pem"), filepath.Join(directory, "tls.key")
	certificate, private := pairOf(t, 1, now.Add(time.Hour))
	_, other := pairOf(t, 2, now.Add(time.Hour))
	open := func() error {
		_, err := openCertificate(file, key, now, slog.New(slog.DiscardHandler))
		return err
	}
	refused := func(what, op string, err error) {
		t.Helper()
		if drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), op) || drill.HintOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("no file", "--fleet-http-cert", open())
	putPEM(t, file, certificate)
	refused("no key", "--fleet-http-key", open())
	putPEM(t, key, other)
	refused("another's key", "--fleet-http-cert", open())
	putPEM(t, key, private)
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("a key that all can read", "--fleet-http-key", open())
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Error(err)
	}
	now = now.Add(2 * time.Hour)
	refused("one that has ended", "--fleet-http-cert", open())
	_, err := openCertificate(file, "", now, nil)
	refused("no key named", "--fleet-http-key FILE", &drill.Error{Kind: drill.Invalid, Err: err, Op: drill.HintOf(err), Hint: "-"})
	if s, err := openCertificate("", "", now, nil); s != nil || err != nil {
		t.Errorf("none named: %v, %v", s, err)
	}
}

// Who trusts the authority reaches the server by its name, without a pin.
func TestACertificateIsShown(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	file, key := filepath.Join(directory, "tls.pem"), filepath.Join(directory, "tls.key")
	certificate, private := pairOf(t, 1, time.Now().Add(time.Hour))
	putPEM(t, file, certificate)
	putPEM(t, key, private)
	s, err := openCertificate(file, key, time.Now(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = s.config()
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	for name, good := range map[string]bool{"example.com": true, "example.org": false} {
		conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12})
		if (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	if names := s.names(); len(names) != 1 || names[0] != "example.com" {
		t.Errorf("%q", names)
	}
}
