package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
	"firedrill/internal/history"
)

// drillsDirectory lies in the control plane's own, with a directory for each drill.
const drillsDirectory = "drills"

const (
	// drillRoom is what a drill may take beyond its own times: looking at hosts, reading back the ledger, writing reports.
	drillRoom = 2 * time.Minute
	// attackRoom is what each attack may take beyond its length: to be in force, and to be taken back.
	attackRoom  = time.Minute
	drillMax    = 24 * time.Hour
	logPartMax  = 256 << 10
	versionsMax = 10_000 // of all service files
)

// Conductor conducts drills. The control plane decides who may, and when, and keeps what comes of it.
type Conductor interface {
	// Plan makes the plan of a drill for what is answered now. It asks name servers and touches nothing.
	Plan(ctx context.Context, service drill.Service, request fleet.DrillRequest) (drill.Plan, error)
	// Conduct carries a plan out until it is over, or until ctx ends, which takes all impact back first. What came of it is judged from the log
	// that it writes into the directory of the job.
	Conduct(ctx context.Context, job Job) (End, error)
	// Unfit says why a drill of the service should not begin by itself now; empty: nothing is known against it. It looks, and touches nothing.
	Unfit(ctx context.Context, service drill.Service) string
}

// Job is a drill to be conducted.
type Job struct {
	Drill     fleet.DrillRun
	Service   drill.Service
	Plan      drill.Plan
	Directory string // for log and reports; its parent is there
	Hands     *Hands
}

// End is what became of a drill.
type End struct {
	Record fleet.Record // with the name of the directory
	Head   string       // hash of the last line of its log
}

// DrillsDirectory is where logs and reports of drills lie, a directory each, as firedrill run leaves them.
func (c *Control) DrillsDirectory() string {
	return filepath.Join(c.options.Directory, drillsDirectory)
}

// resultForm is the time with which the name of a drill's directory begins.
const resultForm = "20060102T150405Z"

// LogName is the log in a drill's directory.
const LogName = "run.jsonl"

func serviceKey(name string, version int) string { return fmt.Sprintf("%s/%d", name, version) }

// Services are the newest versions of the service files, without their texts.
func (c *Control) Services() []fleet.ServiceFile {
	newest := map[string]fleet.ServiceFile{}
	for _, file := range c.services.values() {
		if file.Version > newest[file.Name].Version {
			file.Text = ""
			newest[file.Name] = file
		}
	}
	all := make([]fleet.ServiceFile, 0, len(newest))
	for _, file := range newest {
		all = append(all, file)
	}
	slices.SortFunc(all, func(a, b fleet.ServiceFile) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Service is a version of a service file; 0 is the newest.
func (c *Control) Service(name string, version int) (fleet.ServiceFile, error) {
	for _, file := range c.Services() {
		if file.Name == name {
			if kept, ok := c.services.get(serviceKey(name, cmp.Or(version, file.Version))); ok {
				return kept, nil
			}
			return file, &drill.Error{Op: "service", Kind: drill.Invalid, Err: fmt.Errorf("%s has no version %d; the newest is %d", name, version, file.Version)}
		}
	}
	return fleet.ServiceFile{}, &drill.Error{Op: "service", Kind: drill.Invalid, Err: fmt.Errorf("there is no service file of %q", name), Hint: "put it there: firedrill fleet service put FILE"}
}

// putService takes a service file. What stands in it reaches hosts of this service alone, and never files or programs of the server.
func (c *Control) putService(ctx context.Context, by fleet.Member, r fleet.PutService) (fleet.ServiceFile, error) {
	if len(r.Text) > fleet.ServiceFileMax {
		return fleet.ServiceFile{}, &drill.Error{Op: "service put", Kind: drill.Invalid, Err: fmt.Errorf("%d bytes are more than %d", len(r.Text), fleet.ServiceFileMax)}
	}
	service, err := drill.ParseService([]byte(r.Text), "service file")
	if err == nil {
		if err = fleet.CheckName("a service", service.Name); err != nil {
			err = &drill.Error{Op: "service put", Kind: drill.Invalid, Err: err}
		}
	}
	if err != nil {
		return fleet.ServiceFile{}, err
	}
	if err := withinBounds(by, []string{service.Name}, ""); err != nil {
		return fleet.ServiceFile{}, err
	}
	file := fleet.ServiceFile{Name: service.Name, Version: 1, By: by.Name, At: time.Now(), Text: r.Text, Drills: []string{}}
	for _, one := range service.Drills {
		file.Drills = append(file.Drills, one.Name)
	}
	for _, environment := range service.Environments {
		for _, host := range environment.Hosts {
			file.Hosts = append(file.Hosts, host.Name)
		}
	}
	c.ordering.Lock()
	defer c.ordering.Unlock()
	if len(c.services.values()) >= versionsMax {
		return file, &drill.Error{Op: "service put", Kind: drill.Refused, Err: fmt.Errorf("there are %d versions of service files", versionsMax)}
	}
	if last, err := c.Service(file.Name, 0); err == nil {
		if last.Text == file.Text {
			return last, nil
		}
		file.Version = last.Version + 1
	}
	if err := c.services.put(ctx, serviceKey(file.Name, file.Version), file); err != nil {
		return file, err
	}
	c.record("%s puts version %d of the service file of %s: %d drills, %d hosts", by.Name, file.Version, file.Name, len(file.Drills), len(file.Hosts))
	file.Text = ""
	return file, nil
}

const overSSH = "run it from a machine that may log in: firedrill run"

func notConducted(cure, format string, args ...any) error {
	return &drill.Error{Op: "drill", Kind: drill.Unsupported, Err: fmt.Errorf(format, args...), Hint: cure}
}

// conductable refuses what a server does not do for a service file that was put there: log in elsewhere, run programs, read files.
func conductable(service drill.Service) error {
	for _, client := range service.Clients {
		if len(client.Via) > 0 {
			return notConducted(overSSH, "client %s is reached by a program, and the server runs none for a service file", client.Name)
		}
		if client.SSH != nil {
			return notConducted("leave ssh: out, and the server samples from where it is; or "+overSSH, "client %s samples over SSH, and the server logs in nowhere", client.Name)
		}
	}
	for _, failover := range service.Failover {
		if w := failover.Witness; w != nil && slices.ContainsFunc(service.Clients, func(client drill.Client) bool { return client.Name == w.From && client.Agent != "" }) {
			return notConducted("leave witness.from out, and the server asks from where it is", "client %s is an agent, which samples and asks nothing else", w.From)
		}
	}
	for _, own := range service.Probes {
		return notConducted(overSSH, "probe %s is a program, and the server runs none for a service file", own.Name)
	}
	if service.Deploy != nil && (service.Deploy.InPlace() || !path.IsAbs(service.Deploy.Directory)) {
		return notConducted(overSSH, "what runs in deploy.directory %s is looked at over SSH, unless it is an absolute path with the layout releases, and the server logs in nowhere", service.Deploy.Directory)
	}
	return nil
}

// conductablePlan refuses the same of a drill.
func conductablePlan(plan drill.Plan) error {
	for _, step := range plan.Steps {
		if step.Drill == nil {
			return notConducted("name a drill", "%s is no drill", step.Name)
		}
		if step.Drill.Database != "" {
			return notConducted(overSSH, "the drill attacks the primary of a database, for which its password would be needed here")
		}
		var files []string
		for _, e := range step.Drill.Expectations {
			files = append(files, e.File)
		}
		for _, stop := range step.Drill.StopWhen {
			files = append(files, stop.File)
		}
		for _, file := range files {
			if file != "" {
				return notConducted(overSSH, "%s is read over SSH, and the server logs in nowhere", file)
			}
		}
		for _, order := range step.Drill.Orders() {
			if err := fleet.CheckArgs(order.Attack, order.Args); err != nil {
				return &drill.Error{Op: "drill", Kind: drill.Invalid, Err: err}
			}
		}
	}
	return nil
}

// occasion is what a drill is begun for.
type occasion struct {
	id      string // of the drill
	trigger string
	entry   string    // of the schedule; empty: none
	moment  time.Time // at which it was due there
}

// Drill starts a drill of a service for a person and returns when it is under way; what becomes of it is followed from then on.
func (c *Control) Drill(ctx context.Context, by fleet.Member, request fleet.DrillRequest) (fleet.DrillRun, error) {
	return c.begun(ctx, by, request, occasion{id: uuid.Must(uuid.NewV7()).String(), trigger: history.TriggerPerson})
}

func (c *Control) begun(ctx context.Context, by fleet.Member, request fleet.DrillRequest, on occasion) (fleet.DrillRun, error) {
	if c.options.Conductor == nil {
		return fleet.DrillRun{}, &drill.Error{Op: "drill", Kind: drill.Unsupported, Err: errors.New("this server conducts no drills")}
	}
	if lever := c.lever(); lever.Engaged {
		return fleet.DrillRun{}, leverEngaged(lever)
	}
	file, err := c.Service(request.Service, 0)
	if err != nil {
		return fleet.DrillRun{}, err
	}
	if err := withinBounds(by, []string{file.Name}, ""); err != nil {
		return fleet.DrillRun{}, err
	}
	service, err := drill.ParseService([]byte(file.Text), file.Name)
	if err != nil {
		return fleet.DrillRun{}, err
	}
	if err := conductable(service); err != nil {
		return fleet.DrillRun{}, err
	}
	plan, err := c.options.Conductor.Plan(ctx, service, request)
	if err == nil {
		err = conductablePlan(plan)
	}
	if err != nil {
		return fleet.DrillRun{}, err
	}
	run := drillRunOf(by, request, file, plan, on, c.options.Name, time.Now())
	for _, kind := range run.Kinds {
		if err := withinBounds(by, nil, kind); err != nil {
			return fleet.DrillRun{}, err
		}
	}
	if run, err = c.admitDrill(ctx, run, service); err != nil {
		return fleet.DrillRun{}, err
	}
	if request.DryRun {
		run.ID, run.Result = "", ""
		run.Plan = encode(plan)
		return run, nil
	}
	// It goes on when the one who asked has gone, and ends before its permit does.
	conducting, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c.mu.Lock()
	winding := c.winding
	if !winding {
		c.conducting[run.ID] = cancel
		c.due.Add(1)
	}
	c.mu.Unlock()
	if winding { // it is found at the next start, and was never begun
		cancel(nil)
		return run, &drill.Error{Op: "drill", Kind: drill.Refused, Err: errors.New("the server is being stopped")}
	}
	if lever := c.lever(); lever.Engaged { // a halt in between has ended only what it knew of
		cancel(errors.New("the lever was engaged"))
	}
	go func() {
		defer c.due.Done()
		over := time.AfterFunc(time.Until(run.Until), func() { cancel(errors.New("it took longer than its permit")) })
		defer over.Stop()
		c.conduct(conducting, run, service, plan)
		cancel(nil)
	}()
	return run, nil
}

// drillRunOf is a drill as it is about to begin.
func drillRunOf(by fleet.Member, request fleet.DrillRequest, file fleet.ServiceFile, plan drill.Plan, on occasion, server string, now time.Time) fleet.DrillRun {
	run := fleet.DrillRun{ID: on.id, Request: request, Version: file.Version, By: by.Name, Trigger: on.trigger, Entry: on.entry, Moment: on.moment, Started: now, State: fleet.DrillRunning, Server: server}
	run.Result = fmt.Sprintf("%s-%s", now.UTC().Format(resultForm), run.ID[len(run.ID)-6:])
	most := drillRoom
	for _, step := range plan.Steps {
		planned := step.Drill
		most += 2*planned.SteadyWithin.Duration() + 2*planned.SteadyFor.Duration()
		for _, host := range planned.Hosts {
			run.Hosts = append(run.Hosts, host.Name)
		}
		for _, order := range planned.Orders() {
			run.Kinds = append(run.Kinds, order.Attack)
			most += order.Delay.Duration() + order.Length.Duration() + attackRoom
		}
		for _, e := range planned.Expectations {
			most += e.Within.Duration()
		}
	}
	slices.Sort(run.Kinds)
	run.Kinds = slices.Compact(run.Kinds)
	run.Until = now.Add(min(most, drillMax))
	return run
}

// admitDrill calls the roll, holds the hosts that the drill attacks against the limits, and takes the permit of its service. With a dry run it
// takes nothing. Hosts of other services are refused, whatever the file says. The drill that it returns names the hosts that sample for it.
func (c *Control) admitDrill(ctx context.Context, run fleet.DrillRun, service drill.Service) (fleet.DrillRun, error) {
	c.ordering.Lock()
	defer c.ordering.Unlock()
	if !c.lead.leads() {
		return run, c.lead.lost(c.lead.leader())
	}
	for _, environment := range service.Environments {
		for _, host := range environment.Hosts {
			if _, err := c.agentOf(host.Name, service.Name); err != nil {
				return run, err
			}
		}
	}
	all := c.candidates(c.callTheRoll(ctx))
	var chosen []fleet.Candidate
	for _, kind := range run.Kinds {
		var err error
		if chosen, err = fleet.Choose(all, fleet.Selector{Names: run.Hosts}, kind, c.options.Limits); err != nil {
			return run, err
		}
	}
	clients, err := chooseClients(service, all, run.Hosts)
	if err != nil {
		return run, err
	}
	run.Clients, run.Groups = clients, c.groupsOf([]string{service.Name}, all)
	if err := c.options.Limits.Admit(all, chosen); err != nil || run.Request.DryRun {
		return run, err
	}
	wanted := permits.Permit{Run: run.ID, By: run.By, Until: run.Until.Add(c.options.Margin)}
	if err := c.takePermits(ctx, permits.Names([]string{service.Name}, run.Groups), wanted, run.Started); err != nil {
		return run, err
	}
	if err := c.drills.put(ctx, run.ID, run); err != nil {
		return run, errors.Join(err, c.yield(ctx, run.ID, []string{service.Name}, run.Groups))
	}
	// It is on the disk: who leads after this moment knows of it, and ends it. Who led before is not to conduct it.
	if err := c.lead.confirm(ctx); err != nil && !c.options.Unfenced && !c.options.Stubborn {
		broken := c.breakOff(context.WithoutCancel(ctx), func(other fleet.DrillRun) bool { return other.ID == run.ID })
		return run, unled{errors.Join(err, broken)}
	}
	c.record("%s starts drill %s of %s, version %d of its file: drill %s, attacks on %s with %s", run.By, run.Request.Drill, service.Name, run.Version, run.ID, strings.Join(run.Hosts, ", "), strings.Join(run.Kinds, ", "))
	return run, nil
}

// conduct sees a drill through, and keeps what came of it.
func (c *Control) conduct(ctx context.Context, run fleet.DrillRun, service drill.Service, plan drill.Plan) {
	directory := filepath.Join(c.DrillsDirectory(), run.Result)
	term, _ := c.lead.holds()
	err := os.MkdirAll(c.DrillsDirectory(), 0o700)
	var end End
	if err == nil {
		end, err = c.options.Conductor.Conduct(ctx, Job{Drill: run, Service: service, Plan: plan, Directory: directory, Hands: &Hands{control: c, drill: run, own: ownAddresses(service)}})
	}
	if err != nil {
		c.log.WarnContext(ctx, "a drill is not whole", "drill", run.ID, "error", err)
	}
	c.mu.Lock()
	delete(c.conducting, run.ID)
	c.mu.Unlock()
	keeping, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeMax)
	defer cancel()
	// What came to nothing because this server leads no more is the next one's: to take back, to judge by what hosts say, and to begin once more.
	now, leads := c.lead.holds()
	deposed := (!leads || now != term) && !c.options.Forsaking
	run = c.changeDrill(keeping, run.ID, func(r *fleet.DrillRun) {
		r.State, r.Ended, r.Outcome, r.Reason, r.Left, r.Head = fleet.DrillEnded, time.Now(), end.Record.Outcome, end.Record.Reason, end.Record.NotReverted, end.Head
		if cause := context.Cause(ctx); cause != nil {
			r.Stopped = cause.Error()
		}
		if err != nil {
			r.Outcome, r.Reason = string(history.Inconclusive), strings.TrimSpace(err.Error()+" "+drill.HintOf(err))
		}
		if deposed && r.Outcome == string(history.Inconclusive) {
			r.State, r.Ended = fleet.DrillBroken, time.Time{}
		}
	})
	if run.State == fleet.DrillBroken {
		c.record("drill %s of %s is left to the server that leads now", run.ID, service.Name)
		return
	}
	c.record("drill %s of %s has ended: %s: %s; its log ends with %s", run.ID, service.Name, run.Outcome, run.Reason, run.Head)
	if end.Record.ID != "" {
		if err := c.KeepRecord(keeping, end.Record); err != nil {
			c.log.WarnContext(ctx, "a verdict cannot be kept", "drill", run.ID, "error", err)
		}
	}
	if run.Left {
		return // nobody attacks the service before its permit ends, or a person has looked
	}
	if err := c.yield(keeping, run.ID, []string{service.Name}, run.Groups); err != nil {
		c.log.WarnContext(ctx, "a permit cannot be given back yet", "drill", run.ID, "error", err)
	}
}

// changeDrill changes a drill and keeps it. One that another server has ended meanwhile stays as that wrote it.
func (c *Control) changeDrill(ctx context.Context, id string, with func(*fleet.DrillRun)) fleet.DrillRun {
	run, err := c.drills.change(ctx, id, func(run fleet.DrillRun, _ bool) (fleet.DrillRun, error) {
		if !run.Done() {
			with(&run)
			run.Untold = run.Done() && c.options.Tell != nil
		}
		return run, nil
	})
	if err != nil {
		c.log.ErrorContext(ctx, "a drill cannot be kept", "drill", id, "error", err)
	}
	return run
}

// drillChanged takes note of a drill as it is kept now, whichever server wrote it.
func (c *Control) drillChanged(id string, run fleet.DrillRun) {
	c.drillNames.insert(id)
	c.mu.Lock()
	if run.Done() {
		delete(c.openDrills, id)
		if run.Untold {
			c.untoldDrills[id] = true
		} else {
			delete(c.untoldDrills, id)
		}
	} else {
		c.openDrills[id] = true
	}
	c.mu.Unlock()
	if run.Untold {
		c.wakeNews()
	}
	c.changed("drill", run)
}

// leverChanged ends drills when the lever was engaged, whichever server did it.
func (c *Control) leverChanged(_ string, lever fleet.Lever) {
	if lever.Engaged {
		c.endDrills("halt by " + lever.By)
	}
	if lever.Untold {
		c.wakeNews()
	}
	c.changed("lever", lever)
}

// endDrills ends all drills that are under way: each takes its impact back first.
func (c *Control) endDrills(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cancel := range c.conducting {
		cancel(errors.New(why))
	}
}

// StopDrill ends a drill: its impact is taken back, and it is judged by what was seen until then.
func (c *Control) StopDrill(_ context.Context, by fleet.Member, id string) (fleet.DrillRun, error) {
	run, err := c.FindDrill(id)
	if err != nil || run.Done() {
		return run, err
	}
	c.mu.Lock()
	cancel := c.conducting[run.ID]
	c.mu.Unlock()
	if cancel == nil {
		return run, nil
	}
	cancel(errors.New("stopped by " + by.Name))
	c.record("%s stops drill %s", by.Name, run.ID)
	return run, nil
}

// breakOff marks drills that nobody conducts any more: those of a server that has started anew, or does not lead any more. Their hosts take the impact
// back by themselves.
func (c *Control) breakOff(ctx context.Context, which func(fleet.DrillRun) bool) error {
	for _, run := range c.GoingDrills() {
		if run.State != fleet.DrillRunning || !which(run) {
			continue
		}
		if _, err := c.drills.change(ctx, run.ID, func(run fleet.DrillRun, _ bool) (fleet.DrillRun, error) {
			if run.State == fleet.DrillRunning {
				run.State = fleet.DrillBroken
			}
			return run, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// conducts reports whether a drill is under way here.
func (c *Control) conducts(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conducting[id] != nil
}

// followDrills ends drills that were broken off: nobody watches what they have in force, so it is taken back at once, and once their hosts have given
// account or are past their deadlines the drill is judged, the permit given back, and the schedule asked.
func (c *Control) followDrills(ctx context.Context) {
	for _, run := range c.GoingDrills() {
		if run.State == fleet.DrillRunning && !c.conducts(run.ID) && time.Since(run.Started) > youth {
			// It was written by a leader before, and came late.
			if err := c.breakOff(ctx, func(other fleet.DrillRun) bool { return other.ID == run.ID }); err != nil {
				c.log.WarnContext(ctx, "a drill that nobody conducts is not marked yet", "drill", run.ID, "error", err)
			}
			continue
		}
		if run.State != fleet.DrillBroken {
			continue
		}
		open := false
		for _, attack := range c.runs.going() {
			if attack.Drill != run.ID {
				continue
			}
			open = true
			if attack.Stopped == "" && attack.State == fleet.RunRunning && !c.options.Abandoning {
				c.record("run %s of drill %s is taken back: the server that conducted it has ended", attack.ID, run.ID)
				c.tellStopped(c.change(attack.ID, func(r *fleet.Run) { r.Stopped = "the end of the server that conducted its drill" }))
			}
		}
		if open {
			continue
		}
		keeping, cancel := context.WithTimeout(ctx, storeMax)
		c.endBroken(keeping, run)
		cancel()
		c.beginAgain(ctx, run, c.options.Clock())
	}
}

// endBroken writes down what became of a drill that was broken off, and gives its permit back.
func (c *Control) endBroken(ctx context.Context, run fleet.DrillRun) {
	var unsure []string
	attacked := false
	for _, attack := range c.runs.newest("", runsShown, func(r fleet.Run) bool { return r.Drill == run.ID }) {
		for _, host := range attack.Hosts {
			attacked = attacked || host.Lines > 0
		}
		unsure = append(unsure, attack.NotReverted()...)
	}
	reason := "server " + run.Server + " ended in the middle of it"
	switch {
	case len(unsure) > 0:
		reason += "; not reverted: " + strings.Join(unsure, ", ")
	case attacked:
		reason += "; its hosts took the impact back"
	default:
		reason += ", before anything was attacked"
	}
	run = c.changeDrill(ctx, run.ID, func(r *fleet.DrillRun) {
		r.State, r.Ended, r.Outcome, r.Reason, r.Left = fleet.DrillEnded, time.Now(), string(history.Inconclusive), reason, len(unsure) > 0
	})
	c.record("drill %s of %s was broken off: %s", run.ID, run.Request.Service, run.Reason)
	if err := c.KeepRecord(ctx, fleet.Record{ID: run.Result, Service: run.Request.Service, Outcome: run.Outcome, Reason: run.Reason, NotReverted: run.Left, Started: run.Started, Finished: run.Ended}); err != nil {
		c.log.WarnContext(ctx, "a verdict cannot be kept", "drill", run.ID, "error", err)
	}
	if run.Left {
		return // nobody attacks the service before its permit ends, or a person has looked
	}
	if err := c.yield(ctx, run.ID, []string{run.Request.Service}, run.Groups); err != nil {
		c.log.WarnContext(ctx, "a permit cannot be given back yet", "drill", run.ID, "error", err)
	}
}

// GoingDrills are the drills that are not over, the oldest first.
func (c *Control) GoingDrills() []fleet.DrillRun {
	c.mu.Lock()
	ids := slices.Collect(maps.Keys(c.openDrills))
	c.mu.Unlock()
	going := make([]fleet.DrillRun, 0, len(ids))
	for _, id := range ids {
		if run, ok := c.drills.get(id); ok && !run.Done() {
			going = append(going, run)
		}
	}
	slices.SortFunc(going, func(a, b fleet.DrillRun) int { return strings.Compare(a.ID, b.ID) })
	return going
}

// Drills are the newest drills that fit, the newest first.
func (c *Control) Drills(count int, fits func(fleet.DrillRun) bool) []fleet.DrillRun {
	return newest(&c.drillNames, c.drills.get, "", count, fits)
}

// LookDrills returns drills that fit, the newest first, from the one before a name on (empty: from the newest), and how many there are in all. It looks
// at twenty thousand at most: rest is the name from before which to look further; empty: it has seen all, or found as many as were asked for.
func (c *Control) LookDrills(before string, count int, fits func(fleet.DrillRun) bool) (drills []fleet.DrillRun, all int, rest string) {
	drills, rest = look(&c.drillNames, c.drills.get, before, count, lookedAtPage, fits)
	return drills, c.drillNames.count(), rest
}

func (c *Control) drillsOf(r fleet.DrillsRequest) []fleet.DrillRun {
	if r.Service == "" {
		return newest(&c.drillNames, c.drills.get, r.Before, runsShown, nil)
	}
	return newest(&c.drillNames, c.drills.get, r.Before, runsShown, func(run fleet.DrillRun) bool { return run.Request.Service == r.Service })
}

// FindDrill returns the drill of a name, or of the last characters of one.
func (c *Control) FindDrill(id string) (fleet.DrillRun, error) {
	if run, ok := c.drills.get(id); ok {
		return run, nil
	}
	found := []fleet.DrillRun{}
	if len(id) >= runNameMin {
		for _, name := range c.drillNames.ending(id) {
			if run, ok := c.drills.get(name); ok {
				found = append(found, run)
			}
		}
	}
	if len(found) != 1 {
		return fleet.DrillRun{}, &drill.Error{Op: "drill", Kind: drill.Invalid, Err: fmt.Errorf("%s called %q", countOf(len(found), "drill"), id), Hint: "see: firedrill fleet drill list"}
	}
	return found[0], nil
}

// DrillLog reads a part of the log of a drill, also while it is being written.
func (c *Control) DrillLog(r fleet.LogRequest) (fleet.LogPart, error) {
	run, err := c.FindDrill(r.ID)
	if err != nil {
		return fleet.LogPart{}, err
	}
	part := fleet.LogPart{Next: r.From, Done: run.Done()}
	file, err := os.Open(filepath.Join(c.DrillsDirectory(), run.Result, LogName))
	if errors.Is(err, os.ErrNotExist) {
		return part, nil // not begun, or its directory was cleared away
	}
	if err != nil {
		return part, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, max(r.From, 0), logPartMax))
	if err != nil {
		return part, err
	}
	if len(text) == logPartMax {
		part.Done = false
	}
	part.Text = string(text[:strings.LastIndexByte(string(text), '\n')+1]) // a line that is being written is no line yet
	part.Next = max(r.From, 0) + int64(len(part.Text))
	return part, nil
}
