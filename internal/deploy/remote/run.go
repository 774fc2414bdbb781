package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
)

const (
	// graceDefault is how long a command may take to end after SIGTERM before it gets SIGKILL.
	graceDefault = 5 * time.Second
	// noiseMax bounds what a login shell may print before our own first line; beyond it something else answers.
	noiseMax = 256 << 10
	// leadTimeout bounds the wait for that first line once the command was cancelled.
	leadTimeout = 5 * time.Second
)

// Command is one command line for the shell of the host.
type Command struct {
	Line   string        // read by /bin/sh there
	Stdin  io.Reader     // nil: empty. Its Read must return when the command's context ends, else its goroutine waits for it
	Stdout io.Writer     // nil: dropped
	Stderr io.Writer     // nil: dropped; with PTY everything goes to Stdout
	Env    []string      // "NAME=value" lines; sent over stdin, so that they show in no process list
	PTY    bool          // run on a terminal, for commands that insist on one
	Become string        // "sudo": as root, with Options.SudoPassword when sudo asks; "": as the user that is logged in
	Grace  time.Duration // between SIGTERM and SIGKILL when the context ends, default 5 s
}

// Exit is how a command ended.
type Exit struct {
	Code   int           // exit code; 128 + number when a signal ended it
	Signal string        // name without SIG, as "TERM"; "" when it exited by itself, and for a command behind sudo on a terminal
	Took   time.Duration // from the request to the answer, by our clock
}

// Run runs a command and waits for its end. A non-zero code is not an error.
//
// When ctx ends, every process of the command is killed on the host (its session, and all descendants), and Run returns only when they
// are proven gone: the error is then drill.Timeout or drill.Interrupted. If one is left, the error says which, and errors.Is ErrAlive.
// A lost connection is drill.Unreachable: what became of the command is then unknown. drill.Refused says that sudo did not let us.
func (c *Client) Run(ctx context.Context, command Command) (Exit, error) {
	p, err := c.start(ctx, spec{
		line: command.Line, env: command.Env, stdin: command.Stdin, stdout: command.Stdout, stderr: command.Stderr, pty: command.PTY,
		become: command.Become, grace: command.Grace, op: "run " + brief(command.Line),
	})
	if err != nil {
		return Exit{}, err
	}
	return p.Wait()
}

// Output runs a command and returns what it wrote to standard output. A non-zero code is an error that carries the last of standard error.
func (c *Client) Output(ctx context.Context, line string) (string, error) {
	var out, errOut bytes.Buffer
	exit, err := c.Run(ctx, Command{Line: line, Stdout: &out, Stderr: &errOut})
	if err != nil {
		return out.String(), err
	}
	if exit.Code != 0 {
		return out.String(), &drill.Error{Op: "run " + brief(line), Host: c.host, Kind: drill.Failed, Err: exitError(exit, errOut.String())}
	}
	return out.String(), nil
}

func exitError(exit Exit, stderr string) error {
	text := fmt.Sprintf("exit code %d", exit.Code)
	if exit.Signal != "" {
		text = "killed by SIG" + exit.Signal
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if last := lines[len(lines)-1]; last != "" {
		text += ": " + last
	}
	return errors.New(text)
}

// brief shortens a command line for errors.
func brief(line string) string {
	line, _, _ = strings.Cut(strings.TrimSpace(line), "\n")
	if len(line) > 80 {
		line = line[:77] + "..."
	}
	return line
}

// spec is what Run and Start have in common.
type spec struct {
	line           string
	env            []string
	stdin          io.Reader
	hold           bool // keep stdin open after the reader's end
	stdout, stderr io.Writer
	pty            bool
	become         string
	short          bool // it ends by itself: when the context ends, it is left to itself
	grace          time.Duration
	op             string
}

// outer makes the command the leader of a session of its own; sshd does so already, others may not. With sudo it tells its process id
// itself, as sudo takes its place.
//
//	$1 the inner script, $2 the nonce, $3 the line, $4 the count of environment lines on stdin, $5 how to become root: "", n or S, $6 "pty"
const outer = `read -r _ _ _ _ g _ </proc/$$/stat
lead=
[ "$g" = "$$" ] || ! command -v setsid >/dev/null || lead=setsid
[ -z "$5" ] || [ "$(id -u)" != 0 ] || set -- "$1" "$2" "$3" "$4" "" "$6" root
case $5 in
'') exec $lead /bin/sh -c "$1" sh "$2" "$3" "$4" "$7" "$6" "";;
n) printf '%s %d\n' "$2" "$$"; exec $lead sudo -n -- /bin/sh -c "$1" sh "$2" "$3" "$4" sudo "$6" "$SSH_CONNECTION";;
S) printf '%s %d\n' "$2" "$$"; exec $lead sudo -S -p "$2 password
" -- /bin/sh -c "$1" sh "$2" "$3" "$4" sudo "$6" "$SSH_CONNECTION";;
esac`

// inner tells the process id, which is the id of the session too, and that it is through, then takes in the environment and becomes the
// command. On a terminal of ours the output passes unchanged. Behind sudo on a terminal it stays, and tells how the command ended: see
// sudo.ended. A signal to the group is the command's to answer; its own shell waits.
//
//	$1 nonce, $2 the line, $3 the count of environment lines, $4 "sudo" or "root" when root was asked for, $5 "pty", $6 SSH_CONNECTION behind sudo
const inner = `[ "$4" = sudo ] || printf '%s %d\n' "$1" "$$"
[ -z "$5" ] || [ -z "$4" ] || stty -opost -echo 2>/dev/null
[ -z "$4" ] || printf '%s ready\n' "$1"
[ -z "$4" ] || [ -n "$5" ] || printf '%s ready\n' "$1" >&2
[ -z "$6" ] || export SSH_CONNECTION="$6"
n=$3
while [ "$n" -gt 0 ]; do IFS= read -r l && export "$l"; n=$((n-1)); done
[ -n "$5" ] && [ "$4" = sudo ] || exec /bin/sh -c "$2"
trap : HUP INT QUIT ALRM TERM USR1 USR2
/bin/sh -c "$2"
n=$?
printf '%s ended %d\n' "$1" "$n"
exit "$n"`

// Process is a command that runs on a host.
type Process struct {
	client  *Client
	session *session
	spec    spec
	began   time.Time
	nonce   string

	led     chan struct{} // closed when leader is known or never will be
	leader  int           // process id and session id on the host; 0 when unknown
	sudo    *sudo         // nil for a command of the user
	seen    chan struct{} // output was read
	outputs sync.WaitGroup
	out     drained
	errOut  drained
	stdin   stdin
	fed     chan struct{} // closed when the input that was given at the start has been sent

	over chan struct{} // closed when exit and err are set
	exit Exit
	err  error
}

// stdin lets a process's input be written by us and closed by others at the same time.
type stdin struct {
	mu     sync.Mutex // guards closed
	closed bool
	shut   func() error
}

func (s *stdin) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.shut()
}

func (c *Client) start(ctx context.Context, spec spec) (*Process, error) {
	for _, line := range spec.env {
		if name, _, ok := strings.Cut(line, "="); !ok || name == "" || strings.ContainsAny(line, "\n\r\x00") {
			return nil, &drill.Error{Op: spec.op, Host: c.host, Kind: drill.Invalid, Err: fmt.Errorf("environment %q is not NAME=value on one line", name)}
		}
	}
	nonce := rand.Text()
	began := time.Now()
	root, mode, err := c.becoming(spec, nonce)
	if err != nil {
		return nil, err
	}
	terminal := ""
	if spec.pty {
		terminal = "pty"
	}
	s, err := c.open(ctx, "exec /bin/sh -c "+quoteAll(outer, "sh", inner, nonce, spec.line, strconv.Itoa(len(spec.env)), mode, terminal), spec.pty)
	if err != nil {
		return nil, c.fail(ctx, spec.op, err)
	}
	seen := make(chan struct{}, 1)
	p := &Process{
		client: c, session: s, spec: spec, began: began, nonce: nonce, sudo: root, led: make(chan struct{}), seen: seen, over: make(chan struct{}), fed: make(chan struct{}),
		out: drained{w: spec.stdout, seen: seen}, errOut: drained{w: spec.stderr, seen: seen}, stdin: stdin{shut: s.channel.CloseWrite},
	}
	p.outputs.Go(p.readOutput)
	p.outputs.Go(p.readErrors)
	go p.feed() // ends with the channel, or when spec.stdin's Read returns
	c.work.Go(func() {
		defer close(p.over)
		p.exit, p.err = p.attend(ctx)
	})
	return p, nil
}

// readOutput takes the process id out of the output and passes on the rest. What a login shell prints before it is noise.
func (p *Process) readOutput() {
	reader := bufio.NewReaderSize(p.session.channel, 32<<10)
	_ = scanLines(reader, func(line string) bool {
		if id, ok := strings.CutPrefix(line, p.nonce+" "); ok {
			p.leader, _ = strconv.Atoi(id)
			return true
		}
		return false
	})
	close(p.led)
	if p.sudo == nil {
		_, _ = io.Copy(&p.out, reader)
		return
	}
	p.sudo.watch(p, reader, true)
	last := lastWord{to: &p.out, word: p.nonce + " ended ", told: p.sudo.tell}
	_, _ = io.Copy(&last, reader)
	last.flush()
}

func (p *Process) readErrors() {
	reader := bufio.NewReaderSize(p.session.channel.Stderr(), 32<<10)
	if p.sudo != nil && !p.spec.pty {
		p.sudo.watch(p, reader, false)
	}
	_, _ = io.Copy(&p.errOut, reader)
}

// scanLines hands lines on until found says so; an error says that it never did.
func scanLines(reader *bufio.Reader, found func(line string) bool) error {
	for noise := 0; noise < noiseMax; {
		line, err := reader.ReadSlice('\n')
		if found(string(bytes.TrimSpace(line))) {
			return nil
		}
		noise += len(line)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	return errors.New("the login shell prints without an end")
}

func (p *Process) feed() {
	defer close(p.fed)
	if p.sudo != nil {
		<-p.sudo.through
		if !p.sudo.admitted {
			_ = p.stdin.close()
			return
		}
	}
	for _, line := range p.spec.env {
		if _, err := io.WriteString(p.session.channel, line+"\n"); err != nil {
			return
		}
	}
	if p.spec.stdin != nil {
		if _, err := io.Copy(p.session.channel, p.spec.stdin); err != nil {
			_ = p.endInput() // the command must not wait for the rest
			return
		}
	}
	if !p.spec.hold {
		_ = p.endInput()
	}
}

// endOfInput is what a terminal takes for the end of its input.
const endOfInput = "\x04"

// endInput ends the input of the process. A terminal knows no end of its stream, only a character that says so.
func (p *Process) endInput() error {
	if p.spec.pty && p.sudo != nil {
		_, err := io.WriteString(p.session.channel, endOfInput)
		return err
	}
	return p.stdin.close()
}

// attend waits for the end of the command, or ends it when ctx is over.
func (p *Process) attend(ctx context.Context) (Exit, error) {
	defer p.session.channel.Close()
	select {
	case ended := <-p.session.ended:
		if ended.err == nil || ctx.Err() == nil {
			return p.finish(ended)
		}
		p.session.ended <- ended // whoever ended the context may have closed the connection too: that is no loss of it
	case <-p.sudo.over():
		return p.finish(p.sudo.end(p))
	case <-ctx.Done():
	}
	grace := p.spec.grace
	if grace == 0 {
		grace = graceDefault
	}
	if p.spec.short {
		return Exit{}, context.Cause(ctx)
	}
	killErr := p.kill(context.WithoutCancel(ctx), grace)
	kind := drill.Interrupted
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = drill.Timeout
	}
	exit := Exit{Took: time.Since(p.began)}
	if killErr == nil {
		select { // the processes are gone, so the answer is on its way
		case ended := <-p.session.ended:
			p.drain()
			exit.Code, exit.Signal = ended.code, ended.signal
		case <-time.After(drainMax):
		}
	}
	return exit, &drill.Error{Op: p.spec.op, Host: p.client.host, Kind: kind,
		Err: errors.Join(fmt.Errorf("ended after %s: %w", exit.Took.Round(time.Millisecond), context.Cause(ctx)), killErr)}
}

func (p *Process) finish(ended status) (Exit, error) {
	p.drain()
	exit := Exit{Code: ended.code, Signal: ended.signal, Took: time.Since(p.began)}
	if ended.err != nil {
		return exit, &drill.Error{Op: p.spec.op, Host: p.client.host, Kind: drill.Unreachable, Err: p.client.untold(),
			Hint: "What became of the command is unknown: look at the host before you start it again."}
	}
	if p.sudo != nil && !p.sudo.admitted {
		return exit, p.sudo.refused(p)
	}
	if p.leader == 0 {
		return exit, &drill.Error{Op: p.spec.op, Host: p.client.host, Kind: drill.Unsupported,
			Err:  fmt.Errorf("the login shell of %s ran nothing (exit code %d)", p.client.user, exit.Code),
			Hint: "The account needs a shell that runs commands: a forced command, nologin or an sftp-only account will not do."}
	}
	if err := errors.Join(p.out.err, p.errOut.err); err != nil {
		return exit, fmt.Errorf("%s: %s: pass on the output: %w", p.spec.op, p.client.host, err)
	}
	return exit, nil
}

// drain waits for the rest of the output. A daemon that keeps the output open must not keep us.
func (p *Process) drain() {
	dry := make(chan struct{})
	go func() { p.outputs.Wait(); close(dry) }()
	limit := time.After(drainMax)
	for {
		select {
		case <-dry:
			return
		case <-p.seen:
			continue
		case <-limit:
		case <-time.After(drainIdle):
		}
		_ = p.session.channel.Close() // ends both readers
		<-dry
		return
	}
}

// Wait waits for the end of the process. The context given at its start decides when it is killed.
func (p *Process) Wait() (Exit, error) {
	<-p.over
	return p.exit, p.err
}

// Done is closed when Wait would return at once.
func (p *Process) Done() <-chan struct{} { return p.over }

// CloseStdin ends the input of the process, after what was given at its start. It may be called twice.
func (p *Process) CloseStdin() error {
	p.awaitFed()
	if err := p.endInput(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %s: close its input: %w", p.spec.op, p.client.host, err)
	}
	return nil
}

// Write sends to the input of a process that was started from a pushed binary, after what was given at its start.
func (p *Process) Write(text []byte) (int, error) {
	p.awaitFed()
	n, err := p.session.channel.Write(text)
	if err != nil {
		return n, fmt.Errorf("%s: %s: write to its input: %w", p.spec.op, p.client.host, err)
	}
	return n, nil
}

func (p *Process) awaitFed() {
	select {
	case <-p.fed:
	case <-p.over:
	}
}
