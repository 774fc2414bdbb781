package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Defaults of the service file.
const (
	restartTimeout  = 2 * time.Minute
	healthWithin    = 30 * time.Second
	healthTimes     = 3
	keepReleases    = 5
	parallelHosts   = 8               // uploads at a time: more only share the same line
	restoreOverhead = 2 * time.Minute // for connecting and switching back, beside restart and health
)

// Dialer connects to a host; the caller of Run owns the options, Run closes the connection.
type Dialer func(ctx context.Context, host drill.Host) (*remote.Client, error)

// Request is one deployment to one environment.
type Request struct {
	Service     string
	Environment drill.Environment
	Deploy      drill.Deploy
	Endpoint    string    // URL that clients use; its host is the Host header of the health gate
	Base        string    // what a relative path in Source.Git is relative to, default the working directory
	Cache       string    // directory for fetched objects and digests, see CacheDir; "": everything is fetched and read anew
	Output      io.Writer // what the restart command prints, each line with the host before it; nil: dropped

	hooks hooks
}

// hooks let tests break a promise on purpose; the zero value keeps all of them.
type hooks struct {
	switchScript string                     // in place of the atomic switch
	directory    func(host string) string   // in place of Deploy.Directory, for hosts that share a file system
	unmasked     bool                       // show secrets
	endless      bool                       // go on however many hosts fail
	unverified   bool                       // publish without comparing digests
	inPlace      func(script string) string // in place of a script that changes what is in place
	trusting     bool                       // believe the digest list of the release that runs
	sealedScript string                     // in place of a look at change times
	now          func() time.Time           // our clock, for the name of a release
	anew         bool                       // a new release even when the same one runs
	gzip         bool                       // pack every stream
}

// Result is what a deployment left behind.
type Result struct {
	Environment string
	Revision    string // full commit
	Release     string // name of the release directory
	Files       int
	Bytes       int64
	Hosts       []HostResult
}

// HostResult is what a deployment left on one host.
type HostResult struct {
	Host     string
	Release  string // what runs now; "" when the host was not reached
	Previous string // what a rollback leads to; "" when there is none
	Restored bool   // the deployment failed here or on another host, and the previous release runs again
	Failure  error  // why this host does not run the release, where the deployment as a whole went on
}

// Run fetches the revision, publishes it on every host of the environment, and then batch by batch, in the order of the hosts: switches,
// restarts, and waits for health. Each stage is reported as a *history.Deploy. As soon as as many hosts have failed as Deploy says (one, by
// default), or when ctx ends, every host that was switched is switched back to its last good release, restarted, and its health verified.
// Where more failures are allowed, a host that failed goes back alone, its HostResult says why, and the others go on.
//
// The error is drill.Failed when the new release did not prove itself and the previous one runs again; when going back failed as well, its
// hint says that a person is needed. Before the first switch errors keep their own kind, and no service on any host has changed.
func Run(ctx context.Context, request Request, dial Dialer, report func(history.Fact)) (Result, error) {
	r := newRun(request, dial, report)
	if err := r.check(); err != nil {
		return r.result, err
	}
	work, err := os.MkdirTemp("", "firedrill-fetch-")
	if err != nil {
		return r.result, r.failed("", drill.Internal, err)
	}
	defer os.RemoveAll(work)
	for _, host := range request.Environment.Hosts {
		r.targets = append(r.targets, r.newTarget(host, false))
	}
	dialling := r.dialAll(ctx)
	err = r.fetch(ctx, work)
	dialling()
	if err != nil {
		r.say(history.Deploy{Stage: history.DeployFailed, Detail: err.Error()})
		return r.close(err)
	}
	r.each(ctx, r.targets, r.parallel(), func(ctx context.Context, t *target) error { return t.bring(ctx) })
	size := r.batch()
	for rest := r.targets; len(rest) > 0 && !r.stopped(ctx); rest = rest[min(size, len(rest)):] {
		r.each(ctx, rest[:min(size, len(rest))], size, func(ctx context.Context, t *target) error { return t.turn(ctx) })
	}
	if r.stopped(ctx) {
		return r.giveUp(ctx)
	}
	r.settle(ctx)
	return r.close(nil)
}

func newRun(request Request, dial Dialer, report func(history.Fact)) *run {
	r := &run{request: request, dial: dial, report: func(history.Fact) {}}
	if report != nil {
		r.report = func(fact history.Fact) {
			r.mu.Lock()
			defer r.mu.Unlock()
			report(fact)
		}
	}
	if request.Output != nil {
		r.request.Output = &oneAtATime{w: request.Output}
	}
	r.result.Environment = request.Environment.Name
	r.learnSecrets()
	return r
}

// dialAll connects to the hosts while something else is done; the returned function waits for it. A failure counts when its host is due.
func (r *run) dialAll(ctx context.Context) (wait func()) {
	var work sync.WaitGroup
	places := make(chan struct{}, r.parallel())
	for _, t := range r.targets {
		work.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			t.client, t.dialErr = r.dial(ctx, t.host)
		})
	}
	return work.Wait
}

// each does the work for the targets that have not failed, at most limit at a time, until too many have failed. It waits for all of them.
func (r *run) each(ctx context.Context, targets []*target, limit int, work func(ctx context.Context, t *target) error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	places := make(chan struct{}, limit)
	for _, t := range targets {
		group.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if t.failure != nil || r.stopped(ctx) {
				return
			}
			if t.failure = work(ctx, t); t.failure == nil {
				return
			}
			t.say(history.Deploy{Stage: history.DeployFailed, Release: t.release, Detail: t.failure.Error()})
			if r.count(t); r.stopped(ctx) {
				cancel(errStopped)
				return
			}
			if t.switched {
				t.restoreErr = r.restore(ctx, t)
			}
		})
	}
	group.Wait()
}

// errStopped is why work on a host ends when others have failed.
var errStopped = errors.New("other hosts failed")

func (r *run) count(t *target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.enough() { // what fails now only fails because everything ends
		r.failures = append(r.failures, t)
	}
}

// stopped reports whether the deployment is over: enough hosts have failed, or the caller wants an end.
func (r *run) stopped(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ctx.Err() != nil || r.enough()
}

func (r *run) enough() bool {
	return !r.request.hooks.endless && len(r.failures) >= max(1, r.request.Deploy.StopAtFailures) || len(r.failures) == len(r.targets)
}

func (r *run) parallel() int {
	if n := r.request.Deploy.Parallel; n > 0 {
		return n
	}
	return parallelHosts
}

// batch is how many hosts are switched together; drill.ParseService has checked its form.
func (r *run) batch() int { return BatchSize(r.request.Deploy.Batch, len(r.request.Environment.Hosts)) }

// BatchSize returns how many of the hosts "2" or "25%" means, one at least and by default. A share is rounded down: no more hosts are out of
// service together than was said.
func BatchSize(batch string, hosts int) int {
	number, share := strings.CutSuffix(batch, "%")
	size, err := strconv.Atoi(number)
	if err != nil {
		return 1
	}
	if share {
		size = hosts * size / 100
	}
	return max(1, min(size, hosts))
}

// settle records the release as good where it is, only now: until the last host is healthy, any host may have to go back.
func (r *run) settle(ctx context.Context) {
	var work sync.WaitGroup
	for _, t := range r.targets {
		if t.failure == nil {
			work.Go(func() { t.layout.settle(ctx) })
		}
	}
	work.Wait()
}

// run is the state of one Run.
type run struct {
	request  Request
	dial     Dialer
	report   func(history.Fact)
	files    []file // with REVISION
	contents contents
	manifest string // digest list of files
	stamp    time.Time
	targets  []*target
	result   Result

	masks masks

	mu       sync.Mutex // guards failures, and calls of report
	failures []*target  // in the order in which they failed
}

func (r *run) check() error {
	d := r.request.Deploy
	if len(r.request.Environment.Hosts) == 0 {
		return &drill.Error{Op: r.op(), Kind: drill.Invalid, Err: errors.New("the environment has no hosts")}
	}
	if d.Directory == "" || d.Directory == "/" {
		return &drill.Error{Op: r.op(), Kind: drill.Invalid, Err: fmt.Errorf("directory %q cannot hold releases", d.Directory),
			Hint: "State deploy.directory, as /home/ubuntu/apps/bookstore_api."}
	}
	return nil
}

func (r *run) op() string { return "deploy " + r.request.Environment.Name }

func (r *run) failed(host string, kind drill.ErrorKind, err error) error {
	return &drill.Error{Op: r.op(), Host: host, Kind: kind, Err: err}
}

func (r *run) say(fact history.Deploy) {
	fact.Environment = r.request.Environment.Name
	if fact.Revision == "" {
		fact.Revision = r.result.Revision
	}
	fact.Detail = r.masks.text(fact.Detail)
	r.report(&fact)
}

func (r *run) note(text string) { r.report(&history.Note{Text: r.masks.text(text)}) }

// giveUp takes every host back that was switched, the last one first.
func (r *run) giveUp(ctx context.Context) (Result, error) {
	var errs []error
	switched := 0
	for _, t := range slices.Backward(r.targets) {
		if !t.switched {
			continue
		}
		switched++
		if !t.restored && t.restoreErr == nil {
			t.restoreErr = r.restore(ctx, t)
		}
		if t.restoreErr != nil {
			errs = append(errs, fmt.Errorf("%s: go back: %w", t.host.Name, t.restoreErr))
		}
	}
	cause, host := context.Cause(ctx), ""
	if len(r.failures) > 0 {
		cause, host = r.failures[len(r.failures)-1].failure, r.failures[len(r.failures)-1].host.Name
	} else {
		cause = r.failed("", drill.Interrupted, cause)
	}
	if switched == 0 {
		return r.close(cause)
	}
	kind, hint := drill.Failed, "Mend the release and deploy again; the previous release runs."
	if drill.KindOf(cause) == drill.Interrupted {
		kind, hint = drill.Interrupted, "The previous release runs again: start again when you are ready."
	}
	if len(errs) > 0 {
		kind = drill.Failed
		hint = "A person is needed: going back failed too. Look at `current` and at the service on the hosts that are named."
	}
	var known *drill.Error
	if errors.As(cause, &known) && known.Err != nil { // its own operation and host are stated by ours
		cause = known.Err
	}
	return r.close(&drill.Error{Op: r.op(), Host: host, Kind: kind, Hint: hint, Err: errors.Join(append([]error{cause}, errs...)...)})
}

// restore takes one host back. A cancelled deployment goes back too: the caller's context must not stop it, only the clock.
func (r *run) restore(ctx context.Context, t *target) error {
	d := r.request.Deploy
	budget := orDefault(d.Timeout, restartTimeout) + orDefault(d.Healthy.Within, healthWithin) + restoreOverhead
	restoring, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget)
	defer cancel()
	return t.restore(restoring)
}

// close lets go of all hosts and sums up.
func (r *run) close(err error) (Result, error) {
	for _, target := range r.targets {
		target.disconnect()
		if err == nil && target.failure == nil {
			r.result.Release = target.state.Release
		}
		r.result.Hosts = append(r.result.Hosts, HostResult{
			Host: target.host.Name, Release: target.state.Release, Previous: target.previous, Restored: target.restored, Failure: r.masks.error(target.failure),
		})
	}
	return r.result, r.masks.error(err)
}

func orDefault(value drill.Seconds, preset time.Duration) time.Duration {
	if value == 0 {
		return preset
	}
	return value.Duration()
}
