package certificate

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// signed is a certificate with its key.
type signed struct {
	*x509.Certificate
	key crypto.Signer
}

// sign makes one that ends in so many days. A nil issuer makes a root.
func sign(t *testing.T, name string, days int, issuer *signed, authority bool) *signed {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(days) + 1000), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-1, 0, 0),
		NotAfter: time.Now().AddDate(0, 0, days).Add(time.Hour), IsCA: authority, BasicConstraintsValid: true}
	if !authority {
		template.DNSNames = []string{name}
	}
	parent, signer := template, crypto.Signer(key)
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signed{parsed, key}
}

// family is a root, an authority between, and a leaf, with the days that each has left.
func family(t *testing.T, root, between, leaf int) (r, b, l *signed) {
	t.Helper()
	r = sign(t, "root", root, nil, true)
	b = sign(t, "between", between, r, true)
	return r, b, sign(t, "shop.example.test", leaf, b, false)
}

func write(t *testing.T, all ...*signed) string {
	t.Helper()
	var text bytes.Buffer
	text.WriteString("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n")
	for _, c := range all {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve is a TLS endpoint that shows a chain.
func serve(t *testing.T, staple []byte, clientCertificate bool, chain ...*signed) string {
	t.Helper()
	shown := tls.Certificate{PrivateKey: chain[0].key, OCSPStaple: staple}
	for _, c := range chain {
		shown.Certificate = append(shown.Certificate, c.Raw)
	}
	config := &tls.Config{Certificates: []tls.Certificate{shown}}
	if clientCertificate {
		config.ClientAuth = tls.RequireAnyClientCert
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	answering(t, listener, func(conn net.Conn) {
		if secure, ok := conn.(*tls.Conn); ok {
			_ = secure.Handshake()
		}
	})
	return listener.Addr().String()
}

func answering(t *testing.T, listener net.Listener, answer func(net.Conn)) {
	t.Helper()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				answer(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
}

// look runs a check as a user does and returns its account and error.
func look(t *testing.T, kind Kind, flags attack.Values) (history.AttackAccount, error) {
	t.Helper()
	var out bytes.Buffer
	return attack.Start(context.Background(), attack.Invocation{Kind: kind, Flags: flags, JSON: true, Out: &out})
}

// is checks the outcome: that it bit, and the kind of the error, or none.
func is(account history.AttackAccount, err error, bit bool, want *drill.ErrorKind, says string) error {
	switch {
	case account.Bit != bit || !account.Reverted:
		return fmt.Errorf("account %+v, %w: want bit %t", account, err, bit)
	case want == nil && err != nil:
		return err
	case want != nil && (err == nil || drill.KindOf(err) != *want):
		return fmt.Errorf("got %w, want %s", err, *want)
	case !strings.Contains(strings.Join(account.Evidence, "; "), says):
		return fmt.Errorf("the evidence is %q, want %q in it", account.Evidence, says)
	}
	return nil
}

func kindOf(kind drill.ErrorKind) *drill.ErrorKind { return &kind }

// cases are endpoints and files with what is to be found, and the planted bug that would not find it.
func cases(t *testing.T) map[string]func(Kind) error {
	t.Helper()
	failed, unproven := kindOf(drill.Failed), kindOf(drill.Unproven)
	root, between, leaf := family(t, 400, 300, 100)
	trusted := write(t, root)
	staple := func(status int, next time.Duration) []byte {
		answer, err := ocsp.CreateResponse(between.Certificate, between.Certificate, ocsp.Response{Status: status, SerialNumber: leaf.SerialNumber,
			ThisUpdate: time.Now().Add(-48 * time.Hour), NextUpdate: time.Now().Add(next), RevokedAt: time.Now().Add(-time.Hour)}, between.key)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answering(t, silent, func(conn net.Conn) { _, _ = conn.Write([]byte("220 not TLS\r\n")) })
	shortRoot, longBetween, longLeaf := family(t, 20, 300, 100)
	all := map[string]func(Kind) error{}
	add := func(name string, bit bool, want *drill.ErrorKind, says string, flags attack.Values) {
		all[name] = func(kind Kind) error {
			account, err := look(t, kind, flags)
			return is(account, err, bit, want, says)
		}
	}
	good := serve(t, nil, false, leaf, between)
	add("valid", true, nil, "would be valid", attack.Values{"connect": {good}, "days": {"90"}, "ca": {trusted}})
	add("expired today+101", true, failed, `"shop.example.test" (by "between") would be expired`, attack.Values{"connect": {good}, "days": {"101"}, "ca": {trusted}})
	shortBetween := sign(t, "between", 10, root, true)
	add("authority expires", true, failed, `"between" (by "root") would be expired`,
		attack.Values{"connect": {serve(t, nil, false, sign(t, "shop.example.test", 100, shortBetween, false), shortBetween)}, "days": {"30"}})
	add("root expires", true, failed, "no chain to a trusted root any more", attack.Values{"connect": {serve(t, nil, false, longLeaf, longBetween)}, "days": {"30"}, "ca": {write(t, shortRoot)}})
	add("own root", true, nil, "only dates are looked at", attack.Values{"connect": {good}})
	add("expired already", true, failed, "is expired since", attack.Values{"file": {write(t, sign(t, "old", -3, nil, false))}, "days": {"0"}})
	add("client certificate", true, nil, "would be valid", attack.Values{"connect": {serve(t, nil, true, leaf, between)}})
	add("good staple", true, nil, "OCSP answer is good until", attack.Values{"connect": {serve(t, staple(ocsp.Good, 72*time.Hour), false, leaf, between)}})
	add("old staple", true, failed, "it is not renewed", attack.Values{"connect": {serve(t, staple(ocsp.Good, -time.Hour), false, leaf, between)}})
	add("revoked", true, failed, "was revoked", attack.Values{"connect": {serve(t, staple(ocsp.Revoked, time.Hour), false, leaf, between)}})
	add("file", true, nil, "would be valid", attack.Values{"file": {write(t, leaf, between)}})
	add("file expires", true, failed, "would be expired", attack.Values{"file": {write(t, leaf, between)}, "days": {"200"}})
	add("no TLS", false, unproven, "not everything was looked at", attack.Values{"connect": {silent.Addr().String()}})
	add("one of two", false, unproven, "would be valid", attack.Values{"connect": {good, silent.Addr().String()}})
	add("no file", false, unproven, "not everything", attack.Values{"file": {"/nonexistent.pem"}})
	return all
}

func TestFindsWhatWouldBeExpired(t *testing.T) {
	for name, check := range cases(t) {
		if err := check(Kind{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlantedBugsAreCaught(t *testing.T) {
	all := cases(t)
	for name, h := range map[string]hooks{
		"expired today+101": {today: true}, "authority expires": {leafOnly: true}, "root expires": {trusting: true}, "no TLS": {deaf: true},
	} {
		err := all[name](Kind{hooks: h})
		if err == nil {
			t.Errorf("%s: the planted bug was not caught", name)
		}
		t.Logf("caught: %v", err)
	}
}

// An endpoint that takes the connection and says nothing must not hold the check beyond its length, or beyond Ctrl-C.
func TestEndsWhenTheEndpointHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answering(t, listener, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1<<20)); _, _ = conn.Read(make([]byte, 1)) })
	account, err := look(t, Kind{}, attack.Values{"connect": {listener.Addr().String()}, "length": {"1"}})
	if drill.KindOf(err) != drill.Unproven || account.Bit || !account.Reverted {
		t.Errorf("%+v, %v", account, err)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flags := range []attack.Values{{}, {"connect": {":443"}}, {"connect": {"a:0"}}, {"connect": {"a:x"}}, {"connect": {"a:99999"}}, {"file": {"x"}, "days": {"-1"}},
		{"file": {"x"}, "days": {"1.5"}}, {"file": {"x"}, "days": {"40000"}}, {"file": {"x"}, "length": {"0"}}, {"host": {"x"}}} {
		if _, err := (Kind{}).Order(flags); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: %v, want invalid", flags, err)
		}
	}
}

func TestThePortIs443UnlessGiven(t *testing.T) {
	for text, want := range map[string]string{"a.example": "a.example:443", "a.example:8443": "a.example:8443", "192.0.2.1": "192.0.2.1:443", "::1": "[::1]:443", "[::1]:8443": "[::1]:8443"} {
		if got, err := parseEndpoint(text); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
}

func TestCertificateIsDescribedAndDeterministic(t *testing.T) {
	if err := errors.Join(at.Described(Kind{}.Describe()), at.Deterministic(Kind{}, attack.Values{"connect": {"a", "b:1"}, "file": {"x"}}, attack.Facts{GUID: at.GUID})); err != nil {
		t.Error(err)
	}
}

func FuzzParsePEM(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		if chain, err := parsePEM(text); err == nil && len(chain) == 0 {
			t.Errorf("%q holds no certificate, and that is no error", text)
		}
	})
}
