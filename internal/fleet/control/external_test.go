package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), next: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.key = key
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: "an authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	text, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(text); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) file() string {
	return a.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) write(name string, text []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// sign makes a certificate for an address and a name, in two files.
func (a *authority) sign(name string, ip net.IP, until time.Time) (certificate, key string) {
	a.t.Helper()
	a.next++
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	text, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{ip}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.cert, &pair.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: text})), a.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// speaks has a NATS speak TLS.
func (a *authority) speaks(o *server.Options, ip net.IP, until time.Time) {
	a.t.Helper()
	certificate, key := a.sign("nats", ip, until)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		a.t.Fatal(err)
	}
	o.TLS, o.TLSTimeout, o.TLSConfig = true, 10, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
}

func (a *authority) asks(o *server.Options) {
	o.TLSVerify, o.TLSConfig.ClientAuth, o.TLSConfig.ClientCAs = true, tls.RequireAndVerifyClientCert, a.pool()
}

func seedOf(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return string(seed)
}

func publicOf(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func newPair(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// operator is a NATS whose users hold JWTs. It returns what nsc would write for one who is in until a time; zero: for ever.
func operator(t *testing.T, o *server.Options, jetStream bool) (credentials func(until time.Time) string) {
	t.Helper()
	top, account, system := newPair(t, nkeys.CreateOperator), newPair(t, nkeys.CreateAccount), newPair(t, nkeys.CreateAccount)
	claims := jwt.NewOperatorClaims(publicOf(t, top))
	claims.SystemAccount = publicOf(t, system)
	text, err := claims.Encode(top)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jwt.DecodeOperatorClaims(text)
	if err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	for _, pair := range []nkeys.KeyPair{account, system} {
		claims := jwt.NewAccountClaims(publicOf(t, pair))
		if jetStream && pair == account {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
		}
		text, err := claims.Encode(top)
		if err == nil {
			err = resolver.Store(publicOf(t, pair), text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{decoded}, resolver, publicOf(t, system)
	return func(until time.Time) string {
		user := newPair(t, nkeys.CreateUser)
		claims := jwt.NewUserClaims(publicOf(t, user))
		if !until.IsZero() {
			claims.Expires = until.Unix()
		}
		text, err := claims.Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		written, err := jwt.FormatUserConfig(text, []byte(seedOf(t, user)))
		if err != nil {
			t.Fatal(err)
		}
		return string(written)
	}
}

var loopback = net.IPv4(127, 0, 0, 1)

// engineOfOthers is one way in which a NATS of others asks who somebody is, and what a server is given for it.
type engineOfOthers struct {
	name   string
	engine func(t *testing.T, a *authority, o *server.Options) (credentials string)
	use    func(t *testing.T, a *authority, e *External)
	hint   string // of the refusal; empty: it is let in
	kind   drill.ErrorKind
}

func password(_ *testing.T, _ *authority, o *server.Options) string {
	o.Username, o.Password = "firedrill", "s3cret-word"
	return "# of the servers\nuser: firedrill\npassword: s3cret-word\n"
}

func behindTLS(ip net.IP, until time.Time, then func(*testing.T, *authority, *server.Options) string) func(*testing.T, *authority, *server.Options) string {
	return func(t *testing.T, a *authority, o *server.Options) string {
		a.speaks(o, ip, until)
		return then(t, a, o)
	}
}

func certificateAsked(_ *testing.T, a *authority, o *server.Options) string {
	a.asks(o)
	return ""
}

func believes(_ *testing.T, a *authority, e *External) { e.CA = a.file() }

func shows(name string, until time.Duration) func(*testing.T, *authority, *External) {
	return func(_ *testing.T, a *authority, e *External) {
		e.CA = a.file()
		e.Certificate, e.Key = a.sign(name, loopback, time.Now().Add(until))
	}
}

func enginesOfOthers() []engineOfOthers {
	soon := time.Now().Add(time.Hour)
	nkey := func(known bool) func(*testing.T, *authority, *server.Options) string {
		return func(t *testing.T, _ *authority, o *server.Options) string {
			pair := newPair(t, nkeys.CreateUser)
			seed := seedOf(t, pair)
			if !known {
				pair = newPair(t, nkeys.CreateUser)
			}
			o.Nkeys = []*server.NkeyUser{{Nkey: publicOf(t, pair)}}
			return seed + "\n"
		}
	}
	jwtUntil := func(until time.Time, jetStream bool) func(*testing.T, *authority, *server.Options) string {
		return func(t *testing.T, _ *authority, o *server.Options) string { return operator(t, o, jetStream)(until) }
	}
	return []engineOfOthers{
		{name: "user and password", engine: password},
		{name: "token", engine: func(_ *testing.T, _ *authority, o *server.Options) string {
			o.Authorization = "s3cret-word"
			return "token: s3cret-word\n"
		}},
		{name: "NKey", engine: nkey(true)},
		{name: "JWT", engine: jwtUntil(time.Time{}, true)},
		{name: "JWT behind TLS", engine: behindTLS(loopback, soon, jwtUntil(soon, true)), use: believes},
		{name: "password behind TLS", engine: behindTLS(loopback, soon, password), use: believes},
		{name: "certificate", engine: behindTLS(loopback, soon, certificateAsked), use: shows("control", time.Hour)},
		{name: "user by certificate", engine: behindTLS(loopback, soon, func(_ *testing.T, a *authority, o *server.Options) string {
			a.asks(o)
			o.TLSMap, o.Users = true, []*server.User{{Username: "CN=control"}}
			return ""
		}), use: shows("control", time.Hour)},

		{name: "wrong password", kind: drill.Refused, hint: "the word in it is wrong", engine: func(t *testing.T, a *authority, o *server.Options) string {
			return strings.ReplaceAll(password(t, a, o), "s3cret-word", "s3cret-no")
		}},
		{name: "wrong token", kind: drill.Refused, hint: "the word in it is wrong", engine: func(_ *testing.T, _ *authority, o *server.Options) string {
			o.Authorization = "s3cret-word"
			return "token: s3cret-no\n"
		}},
		{name: "NKey that is not known", kind: drill.Refused, hint: "it does not know who", engine: nkey(false)},
		{name: "JWT of another operator", kind: drill.Refused, hint: "it does not know who", engine: func(t *testing.T, _ *authority, o *server.Options) string {
			operator(t, o, true)
			return operator(t, &server.Options{}, true)(time.Time{})
		}},
		{name: "JWT that has expired", kind: drill.Invalid, hint: "nsc generate creds", engine: jwtUntil(time.Now().Add(-time.Hour), true)},
		{name: "account without JetStream", kind: drill.Unsupported, hint: "--js-enable", engine: jwtUntil(time.Time{}, false)},
		{name: "NKey where there are none", kind: drill.Refused, hint: "it knows no NKeys", engine: func(t *testing.T, a *authority, o *server.Options) string {
			password(t, a, o)
			return seedOf(t, newPair(t, nkeys.CreateUser))
		}},
		{name: "authority that is not known", kind: drill.Refused, hint: "--nats-ca", engine: behindTLS(loopback, soon, password)},
		{name: "certificate of that NATS has expired", kind: drill.Refused, hint: "renew it there", engine: behindTLS(loopback, time.Now().Add(-time.Hour), password), use: believes},
		{name: "certificate of another name", kind: drill.Refused, hint: "another name", engine: behindTLS(net.IPv4(192, 0, 2, 1), soon, password), use: believes},
		{name: "no certificate", kind: drill.Refused, hint: "--nats-cert FILE", engine: behindTLS(loopback, soon, certificateAsked), use: believes},
		{name: "own certificate has expired", kind: drill.Invalid, hint: "renew it", engine: behindTLS(loopback, soon, certificateAsked), use: shows("control", -time.Hour)},
		{name: "certificate of another authority", kind: drill.Refused, hint: "signed by an authority that it knows", engine: behindTLS(loopback, soon, certificateAsked), use: func(t *testing.T, a *authority, e *External) {
			shows("control", time.Hour)(t, newAuthority(t), e)
			e.CA = a.file()
		}},
		{name: "user that is not known by its certificate", kind: drill.Refused, hint: "verify_and_map", engine: behindTLS(loopback, soon, func(_ *testing.T, a *authority, o *server.Options) string {
			a.asks(o)
			o.TLSMap, o.Users = true, []*server.User{{Username: "CN=another"}}
			return ""
		}), use: shows("control", time.Hour)},
		{name: "TLS where there is none", kind: drill.Unreachable, hint: "one side speaks TLS", engine: password, use: func(_ *testing.T, _ *authority, e *External) {
			e.URLs[0] = strings.Replace(e.URLs[0], "nats://", "tls://", 1)
		}},
	}
}

func TestANATSOfOthersAsksInItsWayWhoAServerIs(t *testing.T) {
	t.Parallel()
	for _, row := range enginesOfOthers() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			e := External{}
			text := ""
			e.URLs = []string{others(t, func(o *server.Options) { text = row.engine(t, a, o) })}
			if text != "" {
				e.Credentials = a.write("credentials", []byte(text))
			}
			if row.use != nil {
				row.use(t, a, &e)
			}
			directory := filepath.Join(t.TempDir(), "fleet")
			var err error
			for range 10 {
				var c *Control
				c, err = Open(t.Context(), Options{Directory: directory, Listen: "127.0.0.1:0", Name: "control", External: e, Patience: time.Millisecond, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
				if err == nil {
					shut(t, c)
				}
				var slow net.Error
				if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) && !(errors.As(err, &slow) && slow.Timeout()) {
					break // not for a busy machine's sake
				}
			}
			var known *drill.Error
			switch {
			case row.hint == "" && err != nil:
				t.Errorf("%v (%s)", err, drill.HintOf(err))
			case row.hint != "" && (!errors.As(err, &known) || known.Kind != row.kind || !strings.Contains(known.Hint, row.hint)):
				t.Errorf("%v (%s)", err, drill.HintOf(err))
			case err != nil && strings.Contains(err.Error()+drill.HintOf(err), "s3cret"):
				t.Errorf("it says a secret: %v", err)
			}
		})
	}
}

// renewed has the word of a user changed, in the engine and in the file, and reports whether a server comes in with the new one.
func renewed(t *testing.T, stale bool) bool {
	t.Helper()
	a := newAuthority(t)
	e := External{Credentials: a.write("credentials", []byte("user: firedrill\npassword: first\n")), stale: stale}
	var engine *server.Server
	start := func(port int, word string) string {
		var err error
		engine, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: filepath.Join(a.dir, "store"), NoSigs: true, NoLog: true, Username: "firedrill", Password: word})
		if err != nil {
			t.Fatal(err)
		}
		engine.Start()
		if !engine.ReadyForConnections(time.Minute) {
			t.Fatal("the engine does not come up")
		}
		return engine.Addr().String()
	}
	address := start(server.RANDOM_PORT, "first")
	stop := func() { engine.Shutdown(); engine.WaitForShutdown() }
	defer func() { stop() }()
	e.URLs = []string{"nats://" + address}
	c, err := Open(t.Context(), Options{Directory: filepath.Join(t.TempDir(), "fleet"), Listen: "127.0.0.1:0", Name: "control", External: e, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, c)
	stop()
	for c.conn.IsConnected() { // it has not noticed yet
		<-time.After(time.Millisecond)
	}
	a.write("credentials", []byte("user: firedrill\npassword: second\n"))
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := net.LookupPort("tcp", text)
	if err != nil {
		t.Fatal(err)
	}
	start(port, "second")
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		switch {
		case c.conn.IsConnected():
			return true
		case errors.Is(c.conn.LastError(), nats.ErrAuthorization):
			return false
		}
	}
	t.Fatal("it does not come back at all")
	return false
}

func TestCredentialsThatAreRenewedCountAtTheNextConnection(t *testing.T) {
	t.Parallel()
	if !renewed(t, false) {
		t.Error("it does not come in with the new word")
	}
}

func TestCredentialsThatAreReadOnceAreCaught(t *testing.T) {
	t.Parallel()
	if renewed(t, true) {
		t.Error("the planted bug is not noticed")
	}
}

func TestSecretsThatOthersCouldSeeAreRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	certificate, key := a.sign("control", loopback, time.Now().Add(time.Hour))
	open := a.write("open", []byte("token: s3cret-word\n"))
	if err := errors.Join(os.Chmod(open, 0o640), os.Chmod(key, 0o604)); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		e    External
		hint string
		form bool // it is not understood, whoever may read it
	}{
		"a password in an address": {External{URLs: []string{"nats://firedrill:s3cret-word@n1.example.com:4222"}}, "--nats-creds", false},
		"a token in an address":    {External{URLs: []string{"tls://s3cret-word@n1.example.com:4222"}}, "--nats-creds", false},
		"a file that others read":  {External{Credentials: open}, "chmod 600 " + open, false},
		"a key that others read":   {External{Certificate: certificate, Key: key}, "chmod 600 " + key, false},
		"a file of nothing":        {External{Credentials: a.write("nothing", []byte("# nothing\n"))}, "write one of", true},
		"a file of too much":       {External{Credentials: a.write("both", []byte("token: s3cret-word\nuser: a\npassword: s3cret-word\n"))}, "write one of", true},
		"a user without a word":    {External{Credentials: a.write("half", []byte("user: a\n"))}, "write one of", true},
		"a line of something":      {External{Credentials: a.write("line", []byte("s3cret-word\n"))}, "write one of", true},
		"half a JWT":               {External{Credentials: a.write("jwt", []byte("-----BEGIN NATS USER JWT-----\ns3cret-word\n------END NATS USER JWT------\n"))}, "nsc generate creds", true},
		"a seed that is none":      {External{Credentials: a.write("seed", []byte("SUs3cret-word\n"))}, "nsc generate nkey", true},
	} {
		err := row.e.check()
		if drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), row.hint) {
			t.Errorf("%s: %v (%s)", name, err, drill.HintOf(err))
		}
		if err != nil && strings.Contains(err.Error()+drill.HintOf(err), "s3cret") {
			t.Errorf("%s: it says the secret: %v", name, err)
		}
		if row.e.lax = true; row.e.check() != nil && !row.form {
			t.Errorf("%s: the planted bug is not noticed", name)
		}
	}
}
