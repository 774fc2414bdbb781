//go:build !hostpart

package cli

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"firedrill/internal/drill"
)

// certificateLook is how often the files of a certificate are read again, at the next connection. Who renews one does so days before it ends.
const certificateLook = 10 * time.Second

// shownCertificate is a certificate in files, which dashboard and API show in place of the server's own: browsers, Prometheus and pagers trust authorities, and know
// no pins. One that is renewed in place is shown from then on; while the files hold no pair, or one that has ended, the one before stays.
type shownCertificate struct {
	file, key string // PEM
	log       *slog.Logger
	stale     bool // planted bug: what is renewed is not noticed

	mu     sync.Mutex // guards the fields below
	pair   *tls.Certificate
	text   []byte    // of both files
	looked time.Time // at them
}

// openCertificate reads a certificate that is to be shown; nil: none was named.
func openCertificate(file, key string, now time.Time, log *slog.Logger) (*shownCertificate, error) {
	if file == "" && key == "" {
		return nil, nil //nolint:nilnil // none was named
	}
	if file == "" || key == "" {
		return nil, &drill.Error{Op: "--fleet-http-cert", Kind: drill.Invalid, Err: errors.New("a certificate needs its key, and a key its certificate"), Hint: "Write both: --fleet-http-cert FILE --fleet-http-key FILE."}
	}
	s := &shownCertificate{file: file, key: key, log: log, looked: now}
	text, err := s.read()
	if err == nil {
		s.text = text
		s.pair, err = s.load(now)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// read is what the files hold. A key that everybody on this host can read is refused.
func (s *shownCertificate) read() ([]byte, error) {
	wrong := func(op string, err error, hint string) ([]byte, error) {
		return nil, &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: hint}
	}
	certificate, err := os.ReadFile(s.file)
	if err != nil {
		return wrong("--fleet-http-cert", err, "Name a file with the certificate, PEM, those that vouch for it behind it.")
	}
	info, err := os.Stat(s.key)
	if err != nil {
		return wrong("--fleet-http-key", err, "Name a file with the key of --fleet-http-cert, PEM.")
	}
	if info.Mode().Perm()&0o007 != 0 {
		return wrong("--fleet-http-key", fmt.Errorf("%s can be used by everybody on this host (mode %#o)", s.key, info.Mode().Perm()), "chmod o= "+s.key)
	}
	key, err := os.ReadFile(s.key)
	if err != nil {
		return wrong("--fleet-http-key", err, "Let the server read it.")
	}
	return bytes.Join([][]byte{certificate, key}, []byte{0}), nil
}

// load makes a pair of what was read, if it is one, and its time is now.
func (s *shownCertificate) load(now time.Time) (*tls.Certificate, error) {
	certificate, key, _ := bytes.Cut(s.text, []byte{0})
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, &drill.Error{Op: "--fleet-http-cert", Kind: drill.Invalid, Err: fmt.Errorf("%s and %s: %w", s.file, s.key, err), Hint: "Give certificate and key as PEM, of one pair."}
	}
	if now.Before(pair.Leaf.NotBefore) || now.After(pair.Leaf.NotAfter) {
		return nil, &drill.Error{Op: "--fleet-http-cert", Kind: drill.Invalid, Err: fmt.Errorf("%s is valid from %s to %s, and it is %s", s.file, pair.Leaf.NotBefore.UTC().Format(time.RFC3339), pair.Leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
			Hint: "Renew it; a server that runs takes the new one up by itself."}
	}
	return &pair, nil
}

// at is what is shown now.
func (s *shownCertificate) at(now time.Time) *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale || now.Sub(s.looked) < certificateLook {
		return s.pair
	}
	s.looked = now
	text, err := s.read()
	if err == nil && bytes.Equal(text, s.text) {
		return s.pair
	}
	if err == nil {
		s.text = text // what is wrong with it is said once
		var pair *tls.Certificate
		if pair, err = s.load(now); err == nil {
			s.pair = pair
			s.log.Info("dashboard and API show another certificate", "file", s.file, "until", pair.Leaf.NotAfter.UTC().Format(time.RFC3339)) //nolint:sloglint // no context
			return pair
		}
	}
	s.log.Warn("the certificate of dashboard and API cannot be taken up anew; the one before is shown", "error", err, "cure", drill.HintOf(err)) //nolint:sloglint // no context
	return s.pair
}

// config is how it is shown.
func (s *shownCertificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.at(time.Now()), nil }}
}

// names are what it is for, as a log tells it.
func (s *shownCertificate) names() []string {
	leaf := s.at(time.Now()).Leaf
	names := leaf.DNSNames
	for _, address := range leaf.IPAddresses {
		names = append(names, address.String())
	}
	return names
}
