package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// x/crypto's own Session waits until every holder of the output has let go of it, so that `restart &` hangs until a timeout. This one
// knows the exit status as soon as the host tells it, and gives the output a bounded time to run dry.
const (
	drainIdle = 300 * time.Millisecond // output that is silent this long after the exit belongs to a daemon
	drainMax  = 3 * time.Second        // and so does output that never falls silent
)

var (
	// errLost says that the host could not tell how the command ended.
	errLost = errors.New("the connection ended before the command did")
	// errUntold says that it could, and did not: on the host something ended the session behind the command.
	errUntold = errors.New("the host did not tell how the command ended, on a connection that lives")
)

// status is how a command ended, as the host told it.
type status struct {
	code   int
	signal string
	err    error // errLost: see Client.untold
}

// session is one command on its own channel.
type session struct {
	channel ssh.Channel
	ended   chan status // one value, buffered
}

type ptyRequest struct {
	Term                         string
	Columns, Rows, Width, Height uint32
	Modes                        string
}

// noEcho is the terminal mode list "ECHO off, end": what we send must not come back as output.
const noEcho = "\x35\x00\x00\x00\x00\x00"

// open starts a command line on a channel of its own. The line is read by the login shell of the user.
func (c *Client) open(ctx context.Context, line string, pty bool) (*session, error) {
	type opened struct {
		s   *session
		err error
	}
	done := make(chan opened, 1)
	c.work.Go(func() { // opening takes no context; Close waits for it
		s, err := c.openChannel(line, pty)
		done <- opened{s, err}
	})
	select {
	case o := <-done:
		return o.s, o.err
	case <-ctx.Done():
		c.work.Go(func() {
			if o := <-done; o.err == nil {
				_ = o.s.channel.Close()
			}
		})
		return nil, context.Cause(ctx)
	}
}

func (c *Client) openChannel(line string, pty bool) (*session, error) {
	channel, requests, err := c.conn.OpenChannel("session", nil)
	if err != nil {
		return nil, fmt.Errorf("open a channel: %w", err)
	}
	s := &session{channel: channel, ended: make(chan status, 1)}
	c.work.Go(func() { s.ended <- outcome(requests) })
	if pty {
		size := ptyRequest{Term: "dumb", Columns: 200, Rows: 50, Modes: noEcho}
		if err := s.request("pty-req", ssh.Marshal(size)); err != nil {
			return nil, errors.Join(err, channel.Close())
		}
	}
	if err := s.request("exec", ssh.Marshal(struct{ Command string }{line})); err != nil {
		return nil, errors.Join(err, channel.Close())
	}
	return s, nil
}

func (s *session) request(kind string, payload []byte) error {
	ok, err := s.channel.SendRequest(kind, true, payload)
	if err != nil {
		return fmt.Errorf("request %s: %w", kind, err)
	}
	if !ok {
		return fmt.Errorf("the host refuses %s on this connection", kind)
	}
	return nil
}

// outcome reads the host's requests until it tells how the command ended, and keeps answering the rest.
func outcome(requests <-chan *ssh.Request) status {
	ended := status{err: errLost}
	for request := range requests {
		switch request.Type {
		case "exit-status":
			var body struct{ Status uint32 }
			if ssh.Unmarshal(request.Payload, &body) == nil {
				ended = status{code: int(body.Status)}
			}
		case "exit-signal":
			var body struct {
				Signal     string
				Core       bool
				Text, Lang string
			}
			if ssh.Unmarshal(request.Payload, &body) == nil {
				ended = status{code: 128 + signalNumbers[body.Signal], signal: body.Signal}
			}
		}
		if request.WantReply {
			_ = request.Reply(false, nil)
		}
		if ended.err == nil {
			break
		}
	}
	go ssh.DiscardRequests(requests) // ends with the channel
	return ended
}

var signalNumbers = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

// quote makes one word of any text for a POSIX shell (and for fish).
func quote(text string) string {
	if text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@,+%") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// Quote makes a command line of words: each reaches the command as it is.
func Quote(words ...string) string { return quoteAll(words...) }

func quoteAll(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// drained copies output to w until it ends. A writer that fails is not written to again, but the output is still read: a full pipe on
// the host would stop the command.
type drained struct {
	w    io.Writer
	err  error
	seen chan struct{} // gets a value when something was read; buffered by one
}

func (d *drained) Write(p []byte) (int, error) {
	select {
	case d.seen <- struct{}{}:
	default:
	}
	if d.w != nil && d.err == nil {
		_, d.err = d.w.Write(p)
	}
	return len(p), nil
}
