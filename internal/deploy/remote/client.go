package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"firedrill/internal/drill"
)

const (
	// connectTimeout bounds TCP and the SSH handshake together: a dead path takes 135 s to say so by itself.
	connectTimeout = 15 * time.Second
	// keepAliveEvery and keepAliveMissed: a peer that is cut off is noticed after 20 s, well before a drill's deadline.
	keepAliveEvery  = 5 * time.Second
	keepAliveMissed = 4
)

// Where secrets are looked for when Options name none: the variable itself, or a file that NAME_FILE names.
const (
	PassphraseVariable = "FIREDRILL_SSH_PASSPHRASE"
	SudoVariable       = "FIREDRILL_SUDO_PASSWORD"
)

// Options say how Dial finds its way. The zero value does what ssh(1) does for the same user.
type Options struct {
	Home           string        // where .ssh is, default the user's home directory
	ConfigFiles    []string      // default ~/.ssh/config and /etc/ssh/ssh_config; an empty, non-nil slice reads none
	KnownHosts     []string      // in place of ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts; drill.SSH.KnownHosts wins
	AgentSocket    string        // default $SSH_AUTH_SOCK; "none" asks no agent
	ConnectTimeout time.Duration // default 15 s, for TCP and handshake of each hop together; a ConnectTimeout in a configuration file wins
	KeepAlive      time.Duration // default 5 s; four without an answer end the connection; a shorter ServerAliveInterval wins
	Passphrase     Secret        // of encrypted key files; default that of the host, then by the environment, see PassphraseVariable
	SudoPassword   Secret        // of the user, where sudo asks for it; default that of the host, then by the environment, see SudoVariable
	Note           func(string)  // told what was passed over in a configuration file; may be nil

	// DialNet opens the TCP connection of the first hop, default net.Dialer. Tests cut it at a chosen byte.
	DialNet func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client is one SSH connection to one host. Its methods may be called concurrently.
type Client struct {
	host         string // name in errors
	address      string // host:port that was dialled
	user         string
	sudoPassword Secret
	conn         *ssh.Client
	socket       net.Conn      // what conn goes over
	jumps        []*ssh.Client // nearest first; closed after conn

	lost     chan struct{} // closed when the connection has ended
	end      error         // why it ended; to be read when lost is closed
	silent   atomic.Bool   // we ended it, as the host did not answer
	closed   atomic.Bool   // we ended it, by Close
	work     sync.WaitGroup
	closing  sync.Once
	closeErr error
}

// Dial connects to a host and proves who both sides are. It reads OpenSSH's configuration files; what host.SSH states explicitly wins.
//
// Errors are *drill.Error: Refused when the host key is unknown, changed or revoked (with its fingerprint and the command that helps),
// Unreachable when the host did not answer or no key was accepted, Invalid when a configuration or key file cannot be used. ctx bounds
// connecting only.
func Dial(ctx context.Context, host drill.Host, options Options) (*Client, error) {
	if options.Passphrase == (Secret{}) {
		options.Passphrase = Secret{File: host.SSH.PassphraseFile}
	}
	if options.SudoPassword == (Secret{}) {
		options.SudoPassword = Secret{File: host.SSH.SudoPasswordFile}
	}
	if options.Passphrase == (Secret{}) {
		options.Passphrase = SecretFromEnvironment(PassphraseVariable)
	}
	if options.SudoPassword == (Secret{}) {
		options.SudoPassword = SecretFromEnvironment(SudoVariable)
	}
	environment, err := load(options)
	if err != nil {
		return nil, err
	}
	route, err := environment.route(ctx, host, "", 0)
	if err != nil {
		return nil, err
	}
	client := &Client{host: host.Name, lost: make(chan struct{}), sudoPassword: options.SudoPassword}
	for i, hop := range route {
		conn, socket, err := environment.connect(ctx, hop, client.jumps)
		if err != nil {
			return nil, errors.Join(err, closeAll(client.jumps))
		}
		if i < len(route)-1 {
			client.jumps = append(client.jumps, conn)
			continue
		}
		client.conn, client.socket, client.address, client.user = conn, socket, hop.dial, hop.user
		client.watch(hop.keepAlive)
	}
	return client, nil
}

// connect opens one hop, through the last of the jumps when there is one.
func (e *environment) connect(ctx context.Context, hop hop, jumps []*ssh.Client) (*ssh.Client, net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, hop.timeout, fmt.Errorf("no answer within %s", hop.timeout))
	defer cancel()
	config, finish, err := e.clientConfig(ctx, hop)
	if err != nil {
		return nil, nil, err
	}
	defer finish()
	conn, err := e.open(ctx, hop, jumps)
	if err != nil {
		return nil, nil, unreachable(ctx, hop, err)
	}
	// The handshake takes no context: closing the connection under it is the only way to end it early.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	sshConn, channels, requests, err := ssh.NewClientConn(conn, hop.dial, config)
	if !stop() && err == nil {
		err = errors.Join(context.Cause(ctx), sshConn.Close())
	}
	if err != nil {
		_ = conn.Close()
		if command, ok := conn.(*proxied); ok {
			err = command.explain(ctx, hop.command, err)
		}
		return nil, nil, handshakeError(ctx, hop, err)
	}
	return ssh.NewClient(sshConn, channels, requests), conn, nil
}

// open opens the stream that a hop speaks SSH over.
func (e *environment) open(ctx context.Context, hop hop, jumps []*ssh.Client) (net.Conn, error) {
	switch {
	case hop.command != "":
		return dialCommand(hop)
	case len(jumps) > 0:
		return jumps[len(jumps)-1].DialContext(ctx, "tcp", hop.dial)
	case e.options.DialNet != nil:
		return e.options.DialNet(ctx, hop.network, hop.dial)
	default:
		return (&net.Dialer{LocalAddr: hop.bind}).DialContext(ctx, hop.network, hop.dial)
	}
}

func unreachable(ctx context.Context, hop hop, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
		if errors.Is(cause, context.Canceled) {
			return &drill.Error{Op: "connect", Host: hop.name, Kind: drill.Interrupted, Err: err}
		}
	}
	return &drill.Error{Op: "connect", Host: hop.name, Kind: drill.Unreachable,
		Hint: fmt.Sprintf("Check that %s answers: ssh -v %s", hop.dial, hop.commandLine()), Err: fmt.Errorf("%s: %w", hop.dial, err)}
}

func handshakeError(ctx context.Context, hop hop, err error) error {
	var known *drill.Error
	if errors.As(err, &known) { // from the host key check or a key file
		return known
	}
	if strings.Contains(err.Error(), "unable to authenticate") {
		return &drill.Error{Op: "connect", Host: hop.name, Kind: drill.Unreachable,
			Hint: first(hop.offered.hint, fmt.Sprintf("Give a key that %s accepts (ssh.identity, or ssh-add), and compare with: ssh -v %s", hop.name, hop.commandLine())),
			Err:  fmt.Errorf("%s accepts no key for user %s; offered: %s", hop.dial, hop.user, hop.offered.list())}
	}
	var mismatch *ssh.AlgorithmNegotiationError
	if errors.As(err, &mismatch) {
		return &drill.Error{Op: "connect", Host: hop.name, Kind: drill.Unsupported, Err: fmt.Errorf("%s: %w", hop.dial, err),
			Hint: fmt.Sprintf("Compare HostKeyAlgorithms, KexAlgorithms, Ciphers and MACs of both sides: ssh -vv %s", hop.commandLine())}
	}
	return unreachable(ctx, hop, err)
}

// watch sends keepalives until the connection ends; without an answer it ends it.
func (c *Client) watch(every time.Duration) {
	c.work.Go(func() {
		c.end = c.conn.Wait()
		close(c.lost)
	})
	answers := make(chan struct{}, 1)
	ask := make(chan struct{}, 1)
	c.work.Go(func() { // a request blocks for as long as the peer is silent, so it has its own goroutine
		for range ask {
			if _, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil); err != nil {
				return
			}
			select {
			case answers <- struct{}{}:
			case <-c.lost:
				return
			}
		}
	})
	c.work.Go(func() {
		defer close(ask)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		silent := 0
		for {
			select {
			case <-c.lost:
				return
			case <-answers:
				silent = 0
			case <-ticker.C:
				if silent++; silent > keepAliveMissed {
					c.silent.Store(true)
					_ = c.conn.Close()
					return
				}
				select {
				case ask <- struct{}{}:
				default: // the last one is not answered yet
				}
			}
		}
	})
}

// Host returns the name of the host that this connection leads to.
func (c *Client) Host() string { return c.host }

// User returns the user that is logged in.
func (c *Client) User() string { return c.user }

// Lost is closed when the connection has ended, by Close or by itself.
func (c *Client) Lost() <-chan struct{} { return c.lost }

// LocalAddr returns our end of the connection, for those who must spare it.
func (c *Client) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the host's end of the connection.
func (c *Client) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Close ends the connection. It may be called twice. Commands that still run on the host are not killed: cancel their context before.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.closed.Store(!c.isLost())
		err := c.conn.Close()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			err = nil
		}
		c.closeErr = errors.Join(err, closeAll(c.jumps))
		c.work.Wait()
	})
	return c.closeErr
}

// DialContext opens a TCP connection from the host, for what only the host can reach.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.conn.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%s: connect from there to %s: %w", c.host, address, err)
	}
	return conn, nil
}

func closeAll(clients []*ssh.Client) error {
	var errs []error
	for i := len(clients) - 1; i >= 0; i-- {
		if err := clients[i].Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// isLost reports whether the connection has ended.
func (c *Client) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// lostGrace is how long a connection may take to end after its channels did, which go first.
const lostGrace = time.Second

// untold says why the host did not tell how a command ended: the connection is gone, and by whom, or the host ended the channel alone.
func (c *Client) untold() error {
	select {
	case <-c.lost:
	case <-time.After(lostGrace):
		return errUntold
	}
	switch {
	case c.silent.Load():
		return fmt.Errorf("%w: the host answered none of %d keep-alives", errLost, keepAliveMissed)
	case c.closed.Load():
		return fmt.Errorf("%w: we closed it", errLost)
	case c.end == nil || errors.Is(c.end, io.EOF):
		return fmt.Errorf("%w: the host closed it", errLost)
	default:
		return fmt.Errorf("%w: %w", errLost, c.end)
	}
}

// fail wraps an error of an operation on the host. A dead connection is Unreachable whatever the operation saw of it.
func (c *Client) fail(ctx context.Context, op string, err error) error {
	var known *drill.Error
	var broken *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &drill.Error{Op: op, Host: c.host, Kind: drill.Timeout, Err: err}
	case ctx.Err() != nil:
		return &drill.Error{Op: op, Host: c.host, Kind: drill.Interrupted, Err: err}
	case c.isLost() || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &broken):
		return &drill.Error{Op: op, Host: c.host, Kind: drill.Unreachable, Hint: "Check the host and the path to it, then start again.", Err: err}
	default:
		return &drill.Error{Op: op, Host: c.host, Kind: drill.Failed, Err: err}
	}
}
