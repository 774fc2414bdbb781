package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
)

const connectMax = 10 * time.Second

// Client asks a control plane, over a connection with a key, or over HTTPS with a token. Its methods may be called at the same time.
type Client struct {
	conn    *nats.Conn
	https   *overHTTPS // in place of conn
	key     string
	several bool

	mu          sync.Mutex // guards credentials
	credentials fleet.Credentials
}

// Load reads credentials. Their file must be readable by its owner alone.
func Load(path string) (fleet.Credentials, error) {
	var c fleet.Credentials
	wrong := func(err error, hint string) (fleet.Credentials, error) {
		return c, &drill.Error{Op: "credentials", Kind: drill.Invalid, Err: err, Hint: hint}
	}
	info, err := os.Stat(path)
	if err != nil {
		return wrong(err, "name the file with --fleet or FIREDRILL_FLEET; the server makes the first one: admin.json in its fleet directory")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return wrong(fmt.Errorf("%s may be read by others", path), "chmod 600 "+path)
	}
	if err := durable.Load(path, &c); err != nil {
		return wrong(err, "get new ones from an admin: firedrill fleet add")
	}
	if c.Address == "" || c.Pin == "" || c.Seed == "" {
		return wrong(fmt.Errorf("%s is not whole", path), "get new ones from an admin: firedrill fleet add")
	}
	return c, nil
}

// NewKey makes a key for a person.
func NewKey() (seed, key string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", "", err
	}
	secret, err1 := pair.Seed()
	key, err2 := pair.PublicKey()
	return string(secret), key, errors.Join(err1, err2)
}

// Connect logs in. Where a key was about to be replaced when the file was written, the new one lets in if the old one does not.
func Connect(c fleet.Credentials) (*Client, error) {
	connected, err := connect(c)
	if err != nil && c.Next != "" && errors.Is(err, nats.ErrAuthorization) {
		c.Seed, c.Next = c.Next, ""
		return connect(c)
	}
	return connected, err
}

// Credentials are those to connect with the next time: the key of the server may have been replaced, or that of the person.
func (c *Client) Credentials() fleet.Credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.credentials
}

// Renew has another key log the person in from now on, and returns the credentials with it. keep writes credentials down; it is called before the
// key is asked for, with both keys, and after.
func (c *Client) Renew(ctx context.Context, keep func(fleet.Credentials) error) error {
	if c.https != nil {
		return &drill.Error{Op: "renew", Kind: drill.Invalid, Err: errors.New("a token is no key"), Hint: "make another one: firedrill fleet api-token; a key is renewed with --server HOST:" + fleet.DefaultPort}
	}
	now := c.Credentials()
	seed, key, err := NewKey()
	if err != nil {
		return err
	}
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return err
	}
	signature, err := pair.Sign(fleet.RekeyText(c.key, key))
	if err != nil {
		return err
	}
	now.Key, now.Next = c.key, seed
	if err := keep(now); err != nil {
		return err
	}
	// What is connected by the key before is cut off as soon as the new one counts, so the answer may be lost.
	asking, cancel := context.WithTimeout(ctx, connectMax)
	defer cancel()
	asked := c.Call(asking, "rekey", fleet.Rekey{Key: key, Signature: signature}, nil)
	if drill.KindOf(asked) == drill.Refused {
		now.Next = ""
		return errors.Join(asked, keep(now))
	}
	now.Seed, now.Next = seed, ""
	again, err := connect(now)
	if err != nil {
		return errors.Join(asked, err) // the file holds both
	}
	again.Close()
	return keep(now)
}

func connect(c fleet.Credentials) (*Client, error) {
	pair, err := nkeys.FromSeed([]byte(c.Seed))
	if err != nil {
		return nil, &drill.Error{Op: "credentials", Kind: drill.Invalid, Err: err, Hint: "get new ones from an admin: firedrill fleet add"}
	}
	key, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	key = cmp.Or(c.Key, key)
	client := &Client{key: key, several: strings.Contains(c.Address, ","), credentials: c}
	pins := func() []string { return []string{client.Credentials().Pin} }
	moved := func(pin string) {
		client.mu.Lock()
		defer client.mu.Unlock()
		client.credentials.Pin = pin
	}
	client.conn, err = nats.Connect(fleet.URLs(c.Address), nats.Secure(fleet.FollowingTLS(pins, moved)), nats.TLSHandshakeFirst(), nats.Nkey(key, pair.Sign),
		nats.Name(c.Name), nats.CustomInboxPrefix(fleet.Inbox(key)), nats.Timeout(connectMax), again(c.Address))
	if err != nil {
		known := &drill.Error{Op: "fleet", Kind: drill.Unreachable, Err: fmt.Errorf("%s: %w", c.Address, err), Hint: "does the server run? systemctl status firedrill-server"}
		switch {
		case errors.Is(err, fleet.ErrPin):
			known.Kind, known.Hint = drill.Refused, "somebody else answers there, or the server has a new identity: get new credentials"
		case errors.Is(err, nats.ErrAuthorization):
			known.Kind, known.Hint = drill.Refused, "the server does not know this key, or has put it out; ask an admin"
		}
		return nil, known
	}
	return client, nil
}

// again has a connection to one of several servers go on at another one. Who knows one alone is told at once that it is gone.
func again(address string) nats.Option {
	return func(o *nats.Options) error {
		o.MaxReconnect, o.ReconnectWait, o.ReconnectBufSize = 0, reconnectWait, -1
		if strings.Contains(address, ",") {
			o.MaxReconnect, o.IgnoreAuthErrorAbort = -1, true // one that has just come up may not know us yet
		}
		return nil
	}
}

// reconnectWait is between two tries at the same server.
const reconnectWait = 250 * time.Millisecond

// Several reports whether the fleet has more than one server, as far as the credentials know.
func (c *Client) Several() bool { return c.several }

// Close ends the connection.
func (c *Client) Close() {
	if c.https != nil {
		c.https.web.CloseIdleConnections()
		return
	}
	c.conn.Close()
}

// Call asks for something, and reads the answer into result, also when the answer is an error that comes with one.
func (c *Client) Call(ctx context.Context, call string, asked, result any) error {
	text, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	reply, err := c.reply(ctx, call, text)
	if err != nil {
		return err
	}
	var decodeErr error
	if len(reply.Result) > 0 && result != nil {
		decodeErr = json.Unmarshal(reply.Result, result)
	}
	if reply.Error != nil {
		return &drill.Error{Kind: reply.Error.Kind, Hint: reply.Error.Hint, Err: errors.New(reply.Error.Text)}
	}
	return decodeErr
}

// reply asks by the way that there is.
func (c *Client) reply(ctx context.Context, call string, text []byte) (reply fleet.Reply, err error) {
	if c.https != nil {
		return c.https.call(ctx, call, text)
	}
	answer, err := c.request(ctx, fleet.APISubject(c.key, call), text)
	if err != nil {
		return reply, &drill.Error{Op: "fleet " + call, Kind: drill.Unreachable, Err: err, Hint: "does the server run? what was ordered may have begun: see firedrill fleet runs"}
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return reply, &drill.Error{Op: "fleet " + call, Kind: drill.Internal, Err: err}
	}
	return reply, nil
}

// request asks, and puts the parts of the answer together.
func (c *Client) request(ctx context.Context, subject string, text []byte) ([]byte, error) {
	inbox := c.conn.NewInbox()
	replies, err := c.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = replies.Unsubscribe() }() // the connection may be gone
	if err := c.conn.PublishRequest(subject, inbox, text); err != nil {
		return nil, err
	}
	var answer []byte
	for got := 1; ; got++ {
		message, err := replies.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		if len(message.Data) == 0 && message.Header.Get("Status") == noResponders {
			return nil, nats.ErrNoResponders
		}
		number, of, err := fleet.ReadPartName(message.Header.Get(fleet.HeaderPart))
		if err == nil && number != got {
			err = fmt.Errorf("part %d of the answer was lost", got)
		}
		if err != nil {
			return nil, err
		}
		answer = append(answer, message.Data...)
		if number == of {
			return answer, nil
		}
	}
}

// noResponders is how the engine says that nobody hears a subject.
const noResponders = "503"
