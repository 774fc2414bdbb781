package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
)

// External is NATS with JetStream that others run: one server or a cluster. Members never reach it: they come in by this server's own door, which
// knows their keys, and what they say is carried across. So the engine needs one account for the servers, and nothing else.
type External struct {
	URLs        []string
	Credentials string // file with who this server is there (see login); may be empty
	CA          string // file with authorities to believe, PEM; empty: those of the host
	Certificate string // files with a certificate of this server and its key, PEM; may be empty
	Key         string

	lax   bool // planted bug: who may read the files is not looked at, nor what stands in an address
	stale bool // planted bug: what is renewed in a file does not count
}

// ExternalPermissions are the subjects that the servers' user needs there, for publish and subscribe alike. Whoever may use them is the control plane.
const ExternalPermissions = `fd.>, $JS.API.>, $JS.ACK.>, $JS.FC.>, $KV.>`

const (
	externalPrefix  = "firedrill_" // of buckets and streams, among those of others
	externalConnect = 5 * time.Second
	externalPing    = 5 * time.Second // a node that is gone without a word is left within three of them
	externalWait    = 500 * time.Millisecond
	externalAgain   = 2 * time.Second
	externalMax     = 30 * time.Second // that a server waits for an engine that is not there
)

func (e External) check() error {
	wrong := func(op, hint string, err error) error {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: hint}
	}
	for _, text := range e.URLs {
		parsed, err := url.Parse(text)
		if err == nil && (parsed.Host == "" || parsed.Scheme != "nats" && parsed.Scheme != "tls") {
			err = fmt.Errorf("%q is not nats://HOST:PORT or tls://HOST:PORT", parsed.Redacted())
		} else if err != nil {
			err = errors.New("an address cannot be read") // which one is not said: it may hold a password
		} else if parsed.User != nil && !e.lax {
			return wrong("--nats", "write them into a file of mode 600, as lines user: NAME and password: WORD, or token: WORD, and name it with --nats-creds", errors.New("an address holds a user, a password or a token, and everybody on this host can see them there"))
		}
		if err != nil {
			return wrong("--nats", "write the addresses with commas between: nats://n1.example.com:4222,nats://n2.example.com:4222", err)
		}
	}
	if (e.Certificate == "") != (e.Key == "") {
		return wrong("--nats-cert", "write both: --nats-cert FILE --nats-key FILE", errors.New("a certificate needs its key, and a key its certificate"))
	}
	for flag, path := range map[string]string{"--nats-ca": e.CA, "--nats-cert": e.Certificate} {
		if path == "" {
			continue
		}
		if _, err := os.ReadFile(path); err != nil {
			return wrong(flag, "", err)
		}
	}
	if e.Key != "" {
		if _, err := e.secret("--nats-key", e.Key); err != nil {
			return err
		}
	}
	if _, err := e.login(); err != nil {
		return err
	}
	_, err := e.pair(time.Now())
	return err
}

// secret reads a file that nobody else may read.
func (e External) secret(flag, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && !e.lax {
		return nil, &drill.Error{Op: flag, Kind: drill.Invalid, Err: fmt.Errorf("others can read %s", path), Hint: "chmod 600 " + path + ", and let the user of the server own it"}
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, &drill.Error{Op: flag, Kind: drill.Invalid, Err: err}
	}
	return text, nil
}

// login is what a file of credentials says, which may be one of four: a JWT with its seed as nsc writes them, the seed of an NKey, lines user: and
// password:, or a line token:.
type login struct {
	jwt      bool
	expires  time.Time // of the JWT; zero: never
	pair     nkeys.KeyPair
	user     string
	password string
	token    string
}

func (e External) login() (l login, err error) {
	if e.Credentials == "" {
		return l, nil
	}
	wrong := func(hint, format string, args ...any) (login, error) {
		return login{}, &drill.Error{Op: "--nats-creds", Kind: drill.Invalid, Err: fmt.Errorf("%s: "+format, append([]any{e.Credentials}, args...)...), Hint: hint}
	}
	const forms = "write one of: what nsc generate creds says; the seed of an NKey, SU...; two lines, user: NAME and password: WORD; one line, token: WORD"
	text, err := e.secret("--nats-creds", e.Credentials)
	if err != nil {
		return l, err
	}
	if bytes.Contains(text, []byte("BEGIN NATS USER JWT")) {
		token, err := nkeys.ParseDecoratedJWT(text)
		if err == nil {
			_, err = nkeys.ParseDecoratedUserNKey(text)
		}
		if err != nil {
			return wrong("nsc generate creds writes JWT and seed into one file", "%w", err)
		}
		if l.jwt, l.expires = true, expiryOf(token); !l.expires.IsZero() && !time.Now().Before(l.expires) {
			return wrong("make new ones: nsc generate creds", "the credentials have expired on %s", l.expires.UTC().Format(time.RFC3339))
		}
		return l, nil
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, named := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case !named && strings.HasPrefix(line, "SU"):
			if l.pair, err = nkeys.FromSeed([]byte(line)); err != nil {
				return wrong("nsc generate nkey -u makes one", "the seed of an NKey: %w", err)
			}
		case name == "user" && value != "":
			l.user = value
		case name == "password" && value != "":
			l.password = value
		case name == "token" && value != "":
			l.token = value
		default:
			return wrong(forms, "a line says nothing that is known") // it is not shown: it may be a secret
		}
	}
	kinds := 0
	for _, is := range []bool{l.pair != nil, l.user != "", l.token != ""} {
		if is {
			kinds++
		}
	}
	if kinds != 1 || (l.user == "") != (l.password == "") {
		return wrong(forms, "it says not who this server is, or more than once")
	}
	return l, nil
}

// expiryOf reads when a JWT ends; what it says otherwise is the engine's to judge.
func expiryOf(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Expires == 0 {
		return time.Time{}
	}
	return time.Unix(claims.Expires, 0)
}

// pair is the certificate that this server shows, with its key; nil: none.
func (e External) pair(now time.Time) (*tls.Certificate, error) {
	if e.Certificate == "" {
		return nil, nil //nolint:nilnil // none was named
	}
	pair, err := tls.LoadX509KeyPair(e.Certificate, e.Key)
	if err != nil {
		return nil, &drill.Error{Op: "--nats-cert", Kind: drill.Invalid, Err: err, Hint: "give certificate and key as PEM, of one pair"}
	}
	if now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		return nil, &drill.Error{Op: "--nats-cert", Kind: drill.Invalid, Err: fmt.Errorf("%s is valid from %s to %s, and it is %s", e.Certificate, pair.Leaf.NotBefore.UTC().Format(time.RFC3339), pair.Leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
			Hint: "renew it; a server that runs takes the new one up by itself"}
	}
	return &pair, nil
}

// options say who this server is. Files are read anew for each connection, so what is renewed in them counts from the next one on.
func (e External) options() ([]nats.Option, error) {
	var options []nats.Option
	known, err := e.login()
	switch {
	case err != nil:
		return nil, err
	case known.jwt:
		options = append(options, nats.UserCredentials(e.Credentials))
	case known.pair != nil:
		public, err := known.pair.PublicKey()
		if err != nil {
			return nil, err
		}
		options = append(options, nats.Nkey(public, func(nonce []byte) ([]byte, error) {
			now, err := e.login()
			if err != nil || now.pair == nil {
				now = known // half a file, just being written
			}
			return now.pair.Sign(nonce)
		}))
	case known.token != "":
		options = append(options, nats.TokenHandler(func() string {
			if now, err := e.login(); err == nil && now.token != "" {
				return now.token
			}
			return known.token
		}))
	case known.user != "":
		options = append(options, nats.UserInfoHandler(func() (string, string) {
			if now, err := e.login(); err == nil && now.user != "" && !e.stale {
				return now.user, now.password
			}
			return known.user, known.password
		}))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CA != "" {
		text, err := os.ReadFile(e.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, &drill.Error{Op: "--nats-ca", Kind: drill.Invalid, Err: fmt.Errorf("%s holds no certificate", e.CA), Hint: "give it as PEM"}
		}
	}
	if e.Certificate != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return e.pair(time.Now()) }
	}
	if e.CA != "" || e.Certificate != "" {
		options = append(options, nats.Secure(config))
	}
	return options, nil
}

// openExternal connects to the engine that others run, and carries across what members say and hear.
func (c *Control) openExternal(ctx context.Context, door *nats.Conn) error {
	e := c.options.External
	options, err := e.options()
	if err != nil {
		return err
	}
	complained := &complaints{}
	options = append(options, nats.Name("firedrill "+c.options.Name), nats.CustomInboxPrefix(inboxOfServers+"."+c.boot), nats.Timeout(externalConnect),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectWait(externalWait), nats.PingInterval(externalPing), nats.MaxPingsOutstanding(2), nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.log.Warn("the engine is lost", "error", err) }),                  //nolint:sloglint // no context
		nats.ReconnectHandler(func(conn *nats.Conn) { c.log.Info("the engine is there again", "url", conn.ConnectedUrlRedacted()) }), //nolint:sloglint // no context
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			complained.heard(err)
			c.log.Warn("the engine complains", "error", err)
		})) //nolint:sloglint // no context
	var conn *nats.Conn
	for began := time.Now(); ; {
		// Both may have been started a moment ago, by the same power that came back.
		if conn, err = nats.Connect(strings.Join(e.URLs, ","), options...); err == nil {
			break
		}
		explained := e.explain(err)
		if drill.KindOf(explained) != drill.Unreachable || time.Since(began) > c.options.Patience {
			return explained
		}
		c.log.WarnContext(ctx, "waiting for the engine", "error", err)
		select {
		case <-ctx.Done():
			return explained
		case <-time.After(externalAgain):
		}
	}
	c.closers = append(c.closers, func() error { conn.Close(); return nil })
	if c.conn, err = conn, bridge(door, conn); err != nil {
		return err
	}
	c.store.prefix = externalPrefix
	c.store.what = e.redacted
	c.store.cure = func(err error) error {
		if refused := complained.get(); refused != nil {
			return &drill.Error{Op: "--nats", Kind: drill.Refused, Err: fmt.Errorf("the user of the servers may not do what they need: %w", refused), Hint: "allow it to publish and subscribe: " + ExternalPermissions}
		}
		return e.lacks(err)
	}
	return conn.Flush()
}

// afterHandshake is what is left of its words where they were too late: with TLS 1.3 a certificate is judged after the handshake.
const afterHandshake = "closed by remote after tls handshake"

// explain says why the engine cannot be reached, and what to do about it.
func (e External) explain(err error) error {
	known := &drill.Error{Op: "--nats " + e.redacted(), Kind: drill.Unreachable, Err: err, Hint: "does NATS run there, and does the way to it let TCP out?"}
	refused := func(hint string) { known.Kind, known.Hint = drill.Refused, hint }
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var other x509.HostnameError
	var own *drill.Error
	says := strings.ToLower(err.Error())
	switch {
	case errors.As(err, &own):
		return own // a file of ours
	case errors.Is(err, nats.ErrAuthExpired):
		refused("the credentials have expired: make new ones, nsc generate creds, in the file of --nats-creds")
	case errors.Is(err, nats.ErrAuthRevoked):
		refused("this user was revoked there: make another one, and name its credentials with --nats-creds FILE")
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAccountAuthExpired):
		hint := "it does not know this user: give the credentials of one with --nats-creds FILE"
		if e.Credentials != "" {
			hint = "it does not know who " + e.Credentials + " says, or the word in it is wrong"
		} else if e.Certificate != "" {
			hint = "it does not know a user by the certificate of --nats-cert: with verify_and_map its subject or a name in it must be a user there; else give --nats-creds FILE as well"
		}
		refused(hint)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		refused("it knows no NKeys and no JWT: give a user and a password, or a token, in the file of --nats-creds")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		refused("the certificate of that NATS has expired, or a clock is wrong: renew it there")
	case errors.As(err, &other):
		refused("its certificate is for another name: write the address as one of those that stand in it")
	case errors.As(err, &unknown):
		refused("give the authority that signed its certificate with --nats-ca FILE")
	case errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted), strings.Contains(says, "first record does not look like a tls handshake"):
		known.Hint = "one side speaks TLS and the other does not: write tls:// or nats://, as the server is set up"
	case e.Certificate == "" && (strings.Contains(says, "certificate required") || strings.Contains(says, afterHandshake)):
		refused("it wants to see a certificate: --nats-cert FILE --nats-key FILE")
	case strings.Contains(says, "remote error: tls: "), strings.Contains(says, afterHandshake): // what it thinks of ours
		refused("it does not accept the certificate of --nats-cert: is it signed by an authority that it knows, for clients, and not expired?")
	}
	return known
}

// redacted are the addresses without passwords.
func (e External) redacted() string {
	var all []string
	for _, text := range e.URLs {
		if parsed, err := url.Parse(text); err == nil {
			all = append(all, parsed.Redacted())
		}
	}
	return strings.Join(all, ",")
}

// lacks explains what an engine does not have and will not have by waiting.
func (e External) lacks(err error) error {
	hint := ""
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		hint = "let the account have JetStream: jetstream: enabled in it, or nsc edit account --js-enable"
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		hint = `turn JetStream on in its configuration: jetstream { store_dir: "/var/lib/nats" }, or start nats-server -js`
	default:
		return nil
	}
	return &drill.Error{Op: "--nats", Kind: drill.Unsupported, Err: fmt.Errorf("nothing can be kept there: %w", err), Hint: hint}
}

// bridge carries what members say to where the servers hear it, and what servers say to where members are. No subject goes both ways.
func bridge(door, kept *nats.Conn) error {
	carry := func(from, to *nats.Conn, subjects ...string) error {
		for _, subject := range subjects {
			if _, err := from.Subscribe(subject, func(message *nats.Msg) {
				_ = to.PublishMsg(&nats.Msg{Subject: message.Subject, Reply: message.Reply, Header: message.Header, Data: message.Data}) // who waits for it asks again
			}); err != nil {
				return err
			}
		}
		return from.Flush()
	}
	return errors.Join(carry(door, kept, "fd.agent.>", "fd.join.>", "fd.api.>"), carry(kept, door, "fd.ctl.>", "fd.inbox.>"))
}
