package deploy

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// layout is how a release stands on a host. *target itself is the layout of releases/ and current; inPlace is the other one.
type layout interface {
	// prepare makes our directories, removes what an earlier deployment left half done, and fills record, state and previous.
	prepare(ctx context.Context) error
	// publish brings the release to the host, compared with ours, and names it in target.release; the service does not notice.
	publish(ctx context.Context) error
	// switchTo makes the service find a release when it is restarted.
	switchTo(ctx context.Context, release string) error
	// settle records that what runs is good, and lets go of what nobody goes back to any more.
	settle(ctx context.Context)
}

// target is one host during a run.
type target struct {
	run        *run
	layout     layout
	host       drill.Host
	client     *remote.Client
	lock       *remote.Lock
	record     record // what the host told at the beginning
	state      State  // what current leads to, as far as we know
	previous   string // where to go back to; "" when there is nothing
	release    string // what is deployed here: ours, or the same that runs already
	sent       []file // what travelled
	compared   string // how the release that runs was found to be ours
	dialErr    error  // of the first connection, until it is due
	failure    error  // why this host does not run the release
	restoreErr error
	forward    bool // a rollback: what runs now is not where to go back to
	switched   bool // current may lead to our release
	restored   bool
}

func (t *target) directory() string {
	if elsewhere := t.run.request.hooks.directory; elsewhere != nil {
		return elsewhere(t.host.Name)
	}
	return t.run.request.Deploy.Directory
}

func (r *run) newTarget(host drill.Host, forward bool) *target {
	t := &target{run: r, host: host, forward: forward}
	if t.layout = t; r.request.Deploy.InPlace() {
		t.layout = &inPlace{target: t}
	}
	return t
}

// keptIn is where our own things are below a directory: the lock, what the host remembers, the seal.
func keptIn(d drill.Deploy, directory string) string {
	if d.InPlace() {
		return path.Join(directory, keptInPlace)
	}
	return directory
}

func (t *target) kept() string { return keptIn(t.run.request.Deploy, t.directory()) }

func (t *target) say(fact history.Deploy) {
	fact.Host = t.host.Name
	t.run.say(fact)
}

// bring connects and publishes; the service does not notice.
func (t *target) bring(ctx context.Context) error {
	if err := t.connect(ctx); err != nil {
		return err
	}
	if err := t.share(ctx); err != nil {
		return err
	}
	if err := t.layout.publish(ctx); err != nil {
		return err
	}
	r := t.run
	t.say(history.Deploy{Stage: history.DeployPublish, Release: t.release, Previous: t.previous, Detail: t.travelled(), Files: r.result.Files, Bytes: r.result.Bytes})
	return nil
}

// script runs a script of ours in the shell that holds the lock, and returns what it prints; a code other than 0 is an error.
func (t *target) script(ctx context.Context, input, script string, args ...string) (string, error) {
	out, code, err := t.lock.Script(ctx, remote.Quote(append([]string{"exec", "sh", "-c", script, "sh"}, args...)...), input)
	if err != nil {
		return out, err
	}
	if code != 0 {
		return out, t.run.failed(t.host.Name, drill.Failed, scriptError{code: code, text: strings.TrimSpace(out)})
	}
	return out, nil
}

// scriptError is how a script of ours failed.
type scriptError struct {
	code int
	text string
}

func (e scriptError) Error() string { return fmt.Sprintf("exit code %d: %s", e.code, e.text) }

// share makes what outlives releases, and refuses when a file of it is missing.
func (t *target) share(ctx context.Context) error {
	shared := t.run.request.Deploy.Shared
	if len(shared) == 0 {
		return nil
	}
	below := path.Join(t.directory(), "shared")
	if t.run.request.Deploy.InPlace() {
		below = t.directory()
	}
	missing, err := t.script(ctx, "", sharedScript, append([]string{below}, shared...)...)
	if err != nil {
		return err
	}
	if missing = strings.TrimSpace(missing); missing != "" {
		first, _, _ := strings.Cut(missing, "\n")
		return &drill.Error{Op: t.run.op(), Host: t.host.Name, Kind: drill.Refused, Err: fmt.Errorf("shared files are missing: %s", strings.ReplaceAll(missing, "\n", ", ")),
			Hint: "Put it there, readable for the service: " + path.Join(below, first)}
	}
	return nil
}

// turn makes the service run the release.
func (t *target) turn(ctx context.Context) error {
	if t.release == t.state.Release {
		t.switched = true // it is current, but what is restarted may have to be started again
	} else if err := t.layout.switchTo(ctx, t.release); err != nil {
		return err
	}
	t.say(history.Deploy{Stage: history.DeploySwitched, Release: t.release, Previous: t.previous})
	return t.activate(ctx, t.release)
}

// activate restarts the service on what current leads to and waits for its health.
func (t *target) activate(ctx context.Context, release string) error {
	if err := t.restart(ctx, release); err != nil {
		return err
	}
	healthy := t.run.request.Deploy.Healthy
	if healthy.HTTP == "" {
		return nil
	}
	detail, err := awaitHealth(ctx, t.host, healthy, t.run.request.Endpoint)
	if err != nil {
		return err
	}
	t.say(history.Deploy{Stage: history.DeployHealthy, Release: release, Detail: detail})
	return nil
}

func (t *target) restart(ctx context.Context, release string) error {
	d := t.run.request.Deploy
	if d.Restart == "" {
		return nil
	}
	limit := orDefault(d.Timeout, restartTimeout)
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%q did not end within %s", d.Restart, limit))
	defer cancel()
	output := newPrefixed(t.run.request.Output, t.host.Name+" | ", t.run.masks)
	line := d.Restart
	if !d.InPlace() { // in place it begins where a login does, as with Publish Over SSH
		line = "cd " + remote.Quote(path.Join(t.directory(), "current")) + " && " + line
	}
	exit, err := t.client.Run(limited, remote.Command{Line: line, Stdout: output, Stderr: output, PTY: d.RestartPTY, Become: d.Become})
	output.flush()
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("restart: %q ended with code %d%s", d.Restart, exit.Code, output.tail()))
	}
	t.say(history.Deploy{Stage: history.DeployRestart, Release: release, Detail: fmt.Sprintf("%s: %d ms", d.Restart, exit.Took.Milliseconds())})
	return nil
}

// connect dials, takes the lock, and clears away what an earlier deployment left half done.
func (t *target) connect(ctx context.Context) error {
	if t.client != nil && t.lock != nil {
		return nil
	}
	err := t.dialErr
	if t.dialErr = nil; err == nil && t.client == nil {
		t.client, err = t.run.dial(ctx, t.host)
	}
	if err != nil {
		t.client = nil
		return err
	}
	client := t.client
	if t.lock, err = client.Lock(ctx, path.Join(t.kept(), ".lock")); err != nil {
		return err
	}
	return t.layout.prepare(ctx)
}

func (t *target) prepare(ctx context.Context) error {
	text, err := t.script(ctx, "", prepareScript, t.directory())
	if err != nil {
		return err
	}
	t.record = parseState(text)
	t.state, t.previous = t.record.State, t.record.back(t.forward)
	return nil
}

func (t *target) disconnect() {
	if t.client == nil {
		return
	}
	if t.lock != nil {
		_ = t.lock.Close() // it ends with the connection anyway
	}
	_ = t.client.Close()
	t.client, t.lock = nil, nil
}

// restore goes back to the last good release. A lost connection is made again.
func (t *target) restore(ctx context.Context) error {
	if t.client != nil {
		select {
		case <-t.client.Lost():
			t.disconnect()
		default:
			if t.lock == nil || t.lock.Broken() {
				t.disconnect()
			}
		}
	}
	previous := t.previous
	if err := t.reconnect(ctx); err != nil {
		return err
	}
	if t.previous = previous; previous == "" {
		return fmt.Errorf("there is no earlier good release; current stays at %s", t.release)
	}
	if err := t.layout.switchTo(ctx, previous); err != nil {
		return err
	}
	if err := t.activate(ctx, previous); err != nil {
		return errors.Join(fmt.Errorf("current is %s again", previous), err)
	}
	t.restored = true
	t.say(history.Deploy{Stage: history.DeployRestored, Release: previous, Revision: t.state.Revision, Previous: t.release})
	t.layout.settle(ctx)
	return nil
}

// reconnect tries until ctx ends: a host that was cut off keeps our own lock for up to a minute, and may be on its way up.
func (t *target) reconnect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconnectFor)
	defer cancel()
	for {
		err := t.connect(ctx)
		if err == nil {
			return nil
		}
		t.disconnect()
		if kind := drill.KindOf(err); kind != drill.Unreachable && !errors.Is(err, remote.ErrLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(reconnectPause):
		}
	}
}

const (
	reconnectPause = time.Second
	reconnectFor   = 75 * time.Second // longer than a lock of ours outlives us, and than a host takes to boot
)

// travelled says how much of the release had to be sent.
func (t *target) travelled() string {
	if t.release == t.state.Release {
		return "runs already: " + t.compared + ", nothing travelled"
	}
	var bytes int64
	for _, f := range t.sent {
		bytes += f.size
	}
	return fmt.Sprintf("%d files, %d bytes travelled", len(t.sent), bytes)
}
