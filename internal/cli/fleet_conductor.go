//go:build !hostpart

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	alarms "firedrill/internal/alarm"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/attest"
	"firedrill/internal/conductor"
	"firedrill/internal/deploy"
	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/history"
	"firedrill/internal/probe"
	"firedrill/internal/verdict"
)

// fleetConductor conducts drills for the server of a fleet, as firedrill run does, with agents in place of SSH. It implements control.Conductor.
type fleetConductor struct {
	log *slog.Logger
	key *attest.PrivateKey // signs what each drill has left; nil: nothing is signed
}

// logWriter has what a run says to a person logged.
type logWriter struct {
	log   *slog.Logger
	drill string
}

// Write implements io.Writer.
func (w logWriter) Write(p []byte) (int, error) {
	w.log.Warn("a drill says", "drill", w.drill, "text", strings.TrimSpace(string(p))) //nolint:sloglint // no context
	return len(p), nil
}

// Plan asks the name servers which environment is answered, and makes the drill concrete.
func (fleetConductor) Plan(ctx context.Context, service drill.Service, request fleet.DrillRequest) (drill.Plan, error) {
	service = withoutSecrets(service)
	live, err := liveEnvironment(ctx, service)
	if err != nil {
		return drill.Plan{}, err
	}
	seed := request.Seed
	for seed == 0 {
		seed = int64(rand.Uint32()) // short enough to be read out
	}
	return drill.Compile(service, drill.Facts{Live: live, Kinds: kinds.Describe(), File: "service file of " + service.Name, Seed: seed}, []string{request.Item()})
}

// withoutSecrets leaves out what a file that was put on a server may not have it read or run there.
func withoutSecrets(service drill.Service) drill.Service {
	service.Databases = nil
	if service.Watch != nil {
		watch := *service.Watch
		watch.TokenFile = ""
		service.Watch = &watch
	}
	return service
}

// Conduct carries a drill out and writes its log and reports.
func (f fleetConductor) Conduct(ctx context.Context, job control.Job) (control.End, error) {
	service := withoutSecrets(job.Service)
	quiet := streams{in: nil, out: io.Discard, err: logWriter{f.log, job.Drill.ID}}
	var end control.End
	var judgedErr error
	err := execute(ctx, quiet, runOptions{file: service.Name, out: path.Dir(job.Directory), service: &service, command: "run", trigger: job.Drill.Trigger}, execution{
		service: service, plan: job.Plan, key: f.key, caught: &caughtSignal{},
		run: job.Drill.ID, directory: job.Directory, operator: job.Drill.By,
		opening: []history.Fact{&history.Note{Text: fmt.Sprintf("conducted by the server of a fleet, through agents; version %d of the service file%s", job.Drill.Version, placesOf(job.Drill))}},
		wrap: func(hands conductor.Crew, _ *links) conductor.Crew {
			own := hands.(*crew)
			own.agent = func(ctx context.Context, client drill.Client, spec probe.Spec, emit func(history.Event)) error {
				return job.Hands.Sample(ctx, control.AgentClient{Client: client, URL: spec.URL}, emit)
			}
			return &fleetCrew{crew: own, hands: job.Hands, clocks: map[string]history.Clock{}}
		},
		sealed: func(head string) { end.Head = head },
		done: func(_ string, judged verdict.Verdict) {
			end.Record, judgedErr = recordOfVerdict(judged)
			end.Record.ID = job.Drill.Result
		},
	})
	var explained exitError
	if errors.As(err, &explained) {
		err = nil // it says what the verdict says
	}
	return end, errors.Join(err, judgedErr)
}

// Unfit asks the watch of a service, or where there is none the hosts that are answered. Any doubt is a reason.
func (fleetConductor) Unfit(ctx context.Context, service drill.Service) string {
	service = withoutSecrets(service)
	if service.Watch != nil {
		state, err := watchState(ctx, service)
		if err != nil {
			return "its watch cannot be asked whether the service is healthy: " + err.Error()
		}
		for _, alarm := range state.Alarms {
			if alarm.State == string(alarms.Raised) && !alarm.Disabled {
				return fmt.Sprintf("the service is unhealthy: alarm %s is raised since %s: %s", alarm.Name, alarm.Since.UTC().Format(time.RFC3339), alarm.Reason)
			}
		}
		return ""
	}
	if service.Deploy == nil {
		return "" // the steady state of the drill is all that can be asked for
	}
	live, err := liveEnvironment(ctx, service)
	if err != nil {
		return "nobody knows which environment is answered: " + err.Error()
	}
	for _, environment := range service.Environments {
		if environment.Name != live {
			continue
		}
		for _, host := range environment.Hosts {
			asking, cancel := context.WithTimeout(ctx, inspectMax)
			err := deploy.Healthy(asking, host, service.Deploy.Healthy, service.Endpoint)
			cancel()
			if err != nil {
				return fmt.Sprintf("the service is unhealthy: %s of %s: %s", host.Name, live, err)
			}
		}
	}
	return ""
}

// errorBudgetCheck is the check of a verdict that says what a drill has cost clients.
const errorBudgetCheck = "error budget"

// placesOf says which hosts sample for a drill.
func placesOf(run fleet.DrillRun) string {
	text := ""
	for _, client := range slices.Sorted(maps.Keys(run.Clients)) {
		text += fmt.Sprintf("; client %s is agent %s", client, run.Clients[client])
	}
	return text
}

// recordOfVerdict is what the history of a fleet keeps of a verdict, which has these fields and more.
func recordOfVerdict(judged verdict.Verdict) (record fleet.Record, err error) {
	text, err := json.Marshal(judged)
	if err != nil {
		return record, err
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return record, err
	}
	for i, step := range judged.Steps {
		for _, check := range step.Checks {
			if check.Name == errorBudgetCheck && check.Measured != nil && i < len(record.Steps) {
				record.Steps[i].Unserved = drill.Seconds(check.Measured.Value * float64(time.Second))
			}
		}
	}
	return record, nil
}

// fleetCrew is a crew that reaches hosts through their agents. What it observes it observes from the server.
type fleetCrew struct {
	*crew
	hands *control.Hands

	mu     sync.Mutex // guards clocks
	clocks map[string]history.Clock
}

// Inspect looks at what the host runs, whether it is healthy, and what is in force there.
func (c *fleetCrew) Inspect(ctx context.Context, host drill.Host) history.Inspected {
	ctx, cancel := context.WithTimeout(ctx, inspectMax)
	defer cancel()
	seen := history.Inspected{Host: host.Name}
	directory := ""
	if c.service.Deploy != nil {
		directory = path.Clean(c.service.Deploy.Directory)
	}
	looked, clock, err := c.hands.Look(ctx, host.Name, directory)
	if err != nil {
		seen.Error = err.Error()
		return seen
	}
	c.mu.Lock()
	if _, known := c.clocks[host.Name]; !known {
		c.clocks[host.Name] = clock
	}
	c.mu.Unlock()
	seen.InForce, seen.Release, seen.Revision = looked.InForce, looked.Release, looked.Revision
	if c.service.Deploy == nil {
		seen.Healthy = true
		return seen
	}
	if seen.Locked, err = deploy.ParseReservation(host.Name, *c.service.Deploy, looked.Reserved); err != nil {
		seen.Error = err.Error()
		return seen
	}
	if seen.Locked != nil {
		seen.Locked.Own = seen.Locked.Owner == owner()
	}
	if err := deploy.Healthy(ctx, host, c.service.Deploy.Healthy, c.service.Endpoint); err != nil {
		seen.Detail = err.Error()
		return seen
	}
	seen.Healthy = true
	return seen
}

// Attack has the host's agent carry out the order, and returns when it has ended there.
func (c *fleetCrew) Attack(ctx context.Context, host drill.Host, order drill.Order, guid string, emit func(history.Event)) error {
	clock, err := c.clock(ctx, host.Name)
	if err != nil {
		return err
	}
	emit(history.New(time.Now(), host.Name, &clock))
	c.quieten(ctx, host, order, emit)
	end, err := c.hands.Attack(ctx, host.Name, order, guid, func(event history.Event) {
		if fact, is := event.Fact.(*history.AttackReverted); is && ctx.Err() != nil {
			stopped := *fact
			stopped.Why = context.Cause(ctx).Error() // the host knows only that it was told to
			event.Fact = &stopped
		}
		emit(history.Shift(event, -clock.Offset.Duration()))
	})
	switch {
	case err != nil:
		return err
	case order.OneWay, end.Code == exitPassed, end.Code == exitInconclusive, ctx.Err() != nil && end.Code > 128:
		return nil // what it did stands in its events; above 128 it ended because we asked for it, and reverted
	}
	return &drill.Error{Op: "attack " + order.Attack, Host: host.Name, Kind: drill.Failed, Err: fmt.Errorf("exit status %d: %s", end.Code, end.Why)}
}

// clock is how far the clock of a host is off, as it was measured before anything was done there: an attack may be on the clock itself.
func (c *fleetCrew) clock(ctx context.Context, host string) (history.Clock, error) {
	c.mu.Lock()
	clock, known := c.clocks[host]
	c.mu.Unlock()
	if known {
		return clock, nil
	}
	_, clock, err := c.hands.Look(ctx, host, "")
	return clock, err
}

var errDrillsAlone = &drill.Error{Op: "drill", Kind: drill.Unsupported, Err: errors.New("the server of a fleet conducts drills alone"), Hint: "firedrill pipeline deploys and promotes"}

// Deploy is refused: a server has no way to publish.
func (c *fleetCrew) Deploy(context.Context, drill.Environment, func(history.Event)) error {
	return errDrillsAlone
}

// Rollback is refused likewise.
func (c *fleetCrew) Rollback(context.Context, drill.Environment, func(history.Event)) error {
	return errDrillsAlone
}

// Promote is refused likewise.
func (c *fleetCrew) Promote(context.Context, string) error { return errDrillsAlone }

// Drain is refused likewise.
func (c *fleetCrew) Drain(context.Context, drill.Environment, func(history.Event)) error {
	return errDrillsAlone
}
