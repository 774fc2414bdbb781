package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	Output      io.Writer // what the restart command prints, each line with the host before it; nil: dropped

	hooks hooks
}

// hooks let tests break a promise on purpose; the zero value keeps all of them.
type hooks struct {
	switchScript string // in place of the atomic switch
	unverified   bool   // publish without comparing digests
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
}

// Run fetches the revision, and for each host of the environment in order: publishes, switches, restarts, and waits for health. Each stage
// is reported as a *history.Deploy. At the first failure, or when ctx ends, every host that was switched is switched back to its last
// good release, restarted, and its health verified.
//
// The error is drill.Failed when the new release did not prove itself and the previous one runs again; when going back failed as well, its
// hint says that a person is needed. Before the first switch errors keep their own kind, and nothing has changed on any host.
func Run(ctx context.Context, request Request, dial Dialer, report func(history.Fact)) (Result, error) {
	r := &run{request: request, dial: dial, report: report}
	if r.report == nil {
		r.report = func(history.Fact) {}
	}
	r.result.Environment = request.Environment.Name
	if err := r.check(); err != nil {
		return r.result, err
	}
	work, err := os.MkdirTemp("", "firedrill-fetch-")
	if err != nil {
		return r.result, r.failed("", drill.Internal, err)
	}
	defer os.RemoveAll(work)
	if err := r.fetch(ctx, work); err != nil {
		r.say(history.Deploy{Stage: history.DeployFailed, Detail: err.Error()})
		return r.result, err
	}
	for _, host := range request.Environment.Hosts {
		target := &target{run: r, host: host}
		r.targets = append(r.targets, target)
		if err := target.deploy(ctx); err != nil {
			target.say(history.Deploy{Stage: history.DeployFailed, Release: r.result.Release, Detail: err.Error()})
			return r.giveUp(ctx, target, err)
		}
	}
	for _, target := range r.targets { // only now: until the last host is healthy, any host may have to go back
		target.settle(ctx)
	}
	return r.close(nil)
}

// run is the state of one Run.
type run struct {
	request Request
	dial    Dialer
	report  func(history.Fact)
	files   []file
	tree    string // where the files are
	stamp   time.Time
	targets []*target
	result  Result
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
	r.report(&fact)
}

func (r *run) note(text string) { r.report(&history.Note{Text: text}) }

// giveUp takes every host back that was switched, the failed one first.
func (r *run) giveUp(ctx context.Context, failed *target, cause error) (Result, error) {
	d := r.request.Deploy
	budget := orDefault(d.Timeout, restartTimeout) + orDefault(d.Healthy.Within, healthWithin) + restoreOverhead
	var errs []error
	switched := 0
	for i := len(r.targets) - 1; i >= 0; i-- {
		target := r.targets[i]
		if !target.switched {
			continue
		}
		switched++
		// A cancelled deployment goes back too: the caller's context must not stop it, only the clock.
		restoring, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget)
		if err := target.restore(restoring); err != nil {
			errs = append(errs, fmt.Errorf("%s: go back: %w", target.host.Name, err))
		}
		cancel()
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
	return r.close(&drill.Error{Op: r.op(), Host: failed.host.Name, Kind: kind, Hint: hint, Err: errors.Join(append([]error{cause}, errs...)...)})
}

// close lets go of all hosts and sums up.
func (r *run) close(err error) (Result, error) {
	for _, target := range r.targets {
		target.disconnect()
		r.result.Hosts = append(r.result.Hosts, HostResult{
			Host: target.host.Name, Release: target.state.Release, Previous: target.previous, Restored: target.restored,
		})
	}
	return r.result, err
}

func orDefault(value drill.Seconds, preset time.Duration) time.Duration {
	if value == 0 {
		return preset
	}
	return value.Duration()
}
