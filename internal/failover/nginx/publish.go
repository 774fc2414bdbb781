package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/move"
)

const (
	verifyMax   = 10 * time.Second
	verifyEvery = 10 * time.Millisecond
	commandMax  = 10 * time.Second // nginx reads its configuration in milliseconds, unless it looks up names
	askMax      = 2 * time.Second
	saidMax     = 4 << 10 // bytes of what a command said

	// agreeMin is how often in a row the running nginx must say the new serial, for where its workers cannot be seen.
	agreeMin = 3
)

var upstreamName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// Options make a Publisher. File, Upstream, Port and Status are needed.
type Options struct {
	File     string        // included at the level of http
	Upstream string        // name of the upstream that the file defines
	Port     int           // of the service on the hosts
	Status   string        // where nginx says what it runs: a loopback address with port, as 127.0.0.1:8099, or unix:/path
	Lines    []string      // further lines of the upstream, as "keepalive 16;"
	Test     []string      // default: nginx -t
	Reload   []string      // default: nginx -s reload
	Verify   time.Duration // how long nginx may take to run the new file; default 10 s
	Log      *slog.Logger  // default: none
}

// Publisher moves one upstream of the nginx on this host. All methods may be called at once.
type Publisher struct{ options Options }

// New checks the options. The error is a *drill.Error of kind Invalid.
func New(options Options) (*Publisher, error) {
	invalid := func(format string, args ...any) (*Publisher, error) {
		return nil, &drill.Error{Op: "nginx", Kind: drill.Invalid, Err: fmt.Errorf(format, args...)}
	}
	loopback := strings.HasPrefix(options.Status, "unix:/")
	if address, err := netip.ParseAddrPort(options.Status); err == nil {
		loopback = address.Addr().IsLoopback()
	}
	switch {
	case options.File == "":
		return invalid("no file; name one that nginx includes at the level of http")
	case !upstreamName.MatchString(options.Upstream):
		return invalid("%q is not the name of an upstream", options.Upstream)
	case options.Port < 1 || options.Port > 65535:
		return invalid("port %d; write that of the service on its hosts", options.Port)
	case !loopback || strings.ContainsAny(options.Status, " ;{}\"\n"):
		return invalid("status %q; write a loopback address with a free port, as 127.0.0.1:8099, or unix:/run/firedrill-nginx.sock", options.Status)
	}
	for _, line := range options.Lines {
		if strings.ContainsAny(line, "{}\n") || !strings.HasSuffix(line, ";") {
			return invalid("%q is no line of an upstream; write one such as: keepalive 16;", line)
		}
	}
	if len(options.Test) == 0 {
		options.Test = []string{"nginx", "-t"}
	}
	if len(options.Reload) == 0 {
		options.Reload = []string{"nginx", "-s", "reload"}
	}
	if options.Verify == 0 {
		options.Verify = verifyMax
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Publisher{options: options}, nil
}

// Publish makes the upstream hold the addresses of the change, and returns nil once the running nginx was seen to have it. The same change
// again is nil; it also puts right what somebody else has changed since. The error wraps failover.ErrStale when a newer change was there,
// or is a *drill.Error: Invalid (nginx does not accept its configuration with the new file; the old one is back), Unreachable (file, lock or
// commands), or Unproven when nginx was told and does not run it.
func (p *Publisher) Publish(ctx context.Context, change failover.Change) error {
	change, err := change.Valid()
	if err != nil {
		return err
	}
	yield, err := move.Take(ctx, p.options.File+".lock")
	if err != nil {
		return err
	}
	defer yield()
	op := "publish " + change.Name
	current, err := readFile(p.options.File)
	if err != nil {
		return &drill.Error{Op: op, Host: p.options.File, Kind: drill.Unreachable, Err: err}
	}
	if err := change.Follows(current.mark, p.options.File); err != nil {
		return err
	}
	mark := change.Mark()
	text := render(p.options, change)
	if bytes.Equal(current.text, text) {
		if running, _, err := p.running(ctx); err == nil && running == mark {
			return nil
		}
	}
	since := uptimeTicks()
	if err := p.install(ctx, op, current.text, text); err != nil {
		return err
	}
	return p.verify(ctx, mark, since)
}

// install puts the new file in its place and has nginx read it. A file that nginx does not accept is taken back.
func (p *Publisher) install(ctx context.Context, op string, before, text []byte) error {
	unreachable := func(err error, hint string) error {
		return &drill.Error{Op: op, Host: p.options.File, Kind: drill.Unreachable, Err: err, Hint: hint}
	}
	if err := move.Replace(p.options.File, text, fileMode); err != nil {
		return unreachable(err, "The directory of the file must be one that we may write to.")
	}
	if err := command(ctx, p.options.Test); err != nil {
		back := move.Replace(p.options.File, before, fileMode)
		if before == nil {
			back = os.Remove(p.options.File)
		}
		return &drill.Error{
			Op: op, Host: p.options.File, Kind: drill.Invalid, Err: errors.Join(err, back),
			Hint: "The file is as it was before. Mend what nginx says; an upstream of this name must not be defined elsewhere too.",
		}
	}
	if err := command(ctx, p.options.Reload); err != nil {
		return unreachable(err, "Check that nginx runs: "+strings.Join(p.options.Reload, " "))
	}
	return nil
}

// command runs a command, and makes what it said a part of the error.
func command(ctx context.Context, words []string) error {
	ctx, cancel := context.WithTimeout(ctx, commandMax)
	defer cancel()
	run := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // the operator's own command
	run.WaitDelay = time.Second
	said, err := run.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, bytes.TrimSpace(said[:min(len(said), saidMax)]))
	}
	return nil
}

// verify waits until the running nginx says the mark, and no worker from before the reload takes connections any more.
func (p *Publisher) verify(ctx context.Context, mark string, since uint64) error {
	ctx, cancel := context.WithTimeout(ctx, p.options.Verify)
	defer cancel()
	agreed := 0
	said := ""
	var problem error
	for {
		running, worker, err := p.running(ctx)
		old := 0
		if err == nil && running == mark {
			old = oldWorkers(worker, since)
		}
		if old > 0 {
			err = fmt.Errorf("%d of its workers have not noticed the reload", old)
		}
		if ctx.Err() == nil {
			said, problem = running, err
		}
		if agreed++; err != nil || running != mark {
			agreed = 0
		}
		if agreed == agreeMin {
			p.options.Log.InfoContext(ctx, "upstream moved", "upstream", p.options.Upstream, "mark", mark)
			return nil
		}
		if !move.Pause(ctx, verifyEvery) {
			break
		}
	}
	if problem == nil {
		problem = fmt.Errorf("it runs %q, not %q", said, mark)
	}
	return &drill.Error{
		Op: "verify " + p.options.Upstream, Host: p.options.Status, Kind: drill.Unproven, Err: problem,
		Hint: "The file is written. Check that nginx includes " + p.options.File + " at the level of http, and its error log.",
	}
}

// running asks the running nginx which change it has, and which of its workers answers.
func (p *Publisher) running(ctx context.Context) (mark string, worker int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	network, address := "tcp", p.options.Status
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		network, address = "unix", path
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://firedrill/", http.NoBody)
	if err != nil {
		return "", 0, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, saidMax))
	mark, pid, _ := strings.Cut(string(body), pidWord)
	worker, _ = strconv.Atoi(pid) // unreadable: some other server, whose mark says so
	return mark, worker, err
}

// Served says what the running nginx leads to. When it does not run what stands in the file, that is the error.
func (p *Publisher) Served(ctx context.Context, _ string) []failover.Served {
	served := failover.Served{Server: p.options.Status}
	running, _, err := p.running(ctx)
	current, readErr := readFile(p.options.File)
	switch err = errors.Join(err, readErr); {
	case err != nil:
		served.Err = err
	case running != current.mark:
		served.Err = fmt.Errorf("nginx runs %q, and %s holds %q", running, p.options.File, current.mark)
	default:
		served.Addresses, served.Serial = slices.Clone(current.addresses), failover.SerialIn(current.mark)
	}
	return []failover.Served{served}
}
