package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
)

// External is NATS with JetStream that others run: one server or a cluster. Members never reach it: they come in by this server's own door, which
// knows their keys, and what they say is carried across. So the engine needs one account for the servers, and nothing else.
type External struct {
	URLs        []string
	Credentials string // file with a JWT and a seed, as nsc writes them; may be empty
	CA          string // file with authorities to believe, PEM; empty: those of the host
	Certificate string // files with a certificate of this server and its key, PEM; may be empty
	Key         string
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
		}
		if err != nil {
			return wrong("--nats", "write the addresses with commas between: nats://n1.example.com:4222,nats://n2.example.com:4222", err)
		}
	}
	if (e.Certificate == "") != (e.Key == "") {
		return wrong("--nats-cert", "write both: --nats-cert FILE --nats-key FILE", errors.New("a certificate needs its key, and a key its certificate"))
	}
	for flag, path := range map[string]string{"--nats-creds": e.Credentials, "--nats-ca": e.CA, "--nats-cert": e.Certificate, "--nats-key": e.Key} {
		if path == "" {
			continue
		}
		if _, err := os.ReadFile(path); err != nil {
			return wrong(flag, "", err)
		}
	}
	return nil
}

func (e External) options() ([]nats.Option, error) {
	var options []nats.Option
	if e.Credentials != "" {
		options = append(options, nats.UserCredentials(e.Credentials))
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
		pair, err := tls.LoadX509KeyPair(e.Certificate, e.Key)
		if err != nil {
			return nil, &drill.Error{Op: "--nats-cert", Kind: drill.Invalid, Err: err, Hint: "give certificate and key as PEM"}
		}
		config.Certificates = []tls.Certificate{pair}
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

// explain says why the engine cannot be reached, and what to do about it.
func (e External) explain(err error) error {
	known := &drill.Error{Op: "--nats " + e.redacted(), Kind: drill.Unreachable, Err: err, Hint: "does NATS run there, and does the way to it let TCP out?"}
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		known.Kind, known.Hint = drill.Refused, "it does not know this user: give the credentials of one with --nats-creds FILE, or as nats://USER:PASSWORD@HOST:PORT"
	case errors.As(err, &unknown):
		known.Kind, known.Hint = drill.Refused, "give the authority that signed its certificate with --nats-ca FILE"
	case errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted):
		known.Hint = "one side speaks TLS and the other does not: write tls:// or nats://, as the server is set up"
	case strings.Contains(err.Error(), "certificate required"):
		known.Kind, known.Hint = drill.Refused, "it wants to see a certificate: --nats-cert FILE --nats-key FILE"
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
