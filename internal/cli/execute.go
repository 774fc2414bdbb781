//go:build !hostpart

package cli

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/attest"
	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/prove"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
)

// loadService reads a service file.
func loadService(path string) (drill.Service, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return drill.Service{}, &drill.Error{Op: "read the service file", Kind: drill.Invalid, Err: err, Hint: "Name it with --file, or stand in its directory."}
	}
	return drill.ParseService(text, path)
}

// besideFile is a path of the service file: it counts from where that file lies.
func besideFile(file, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// load returns the service that was given, or reads its file.
func (o *runOptions) load() (drill.Service, error) {
	if o.service != nil {
		return *o.service, nil
	}
	service, err := loadService(o.file)
	if err != nil || o.sabotage == "" {
		return service, err
	}
	c, err := prove.Find(o.sabotage)
	if err == nil && c.Service != nil {
		c.Service(&service)
	}
	return service, err
}

// carryOut makes the plan for the items (nil: the file's pipeline) and runs it.
func carryOut(ctx context.Context, s streams, options runOptions, items []string) error {
	service, err := options.load()
	if err != nil {
		return err
	}
	if options.revision != "" && service.Deploy != nil {
		service.Deploy.Source.Revision = options.revision
	}
	if items == nil {
		items = service.Pipeline
	}
	ctx, caught := catchSignals(ctx)
	defer caught.stop()
	live, err := liveEnvironment(ctx, service)
	if err != nil {
		return err
	}
	plan, err := options.plan(ctx, &service, live, items)
	if err != nil {
		return err
	}
	if options.dryRun {
		if note := abortedNote(options, service.Name); note != "" {
			fmt.Fprintf(s.err, "firedrill: %s\n", note)
		}
		return printPlan(s, plan, options.json)
	}
	token, err := readToken(service)
	if err != nil {
		return err
	}
	key, err := loadSigner(s, options.sign)
	if err != nil {
		return err
	}
	return execute(ctx, s, options, execution{service: service, plan: plan, token: token, key: key, caught: caught})
}

// plan makes the plan for the items, or goes on with a run that was broken off; then service deploys what that run deployed.
func (o *runOptions) plan(ctx context.Context, service *drill.Service, live string, items []string) (drill.Plan, error) {
	for o.seed == 0 {
		o.seed = int64(rand.Uint32()) // short enough to be read out
	}
	leading, err := primaries(ctx, *service, o.file)
	if err != nil {
		return drill.Plan{}, err
	}
	facts := drill.Facts{Live: live, Primaries: leading, Kinds: kinds.Describe(), File: o.file, First: o.first, Seed: o.seed, Back: o.command == commandRollback}
	if o.resume == "" {
		return drill.Compile(*service, facts, items)
	}
	plan, err := o.goOn(*service, facts, items)
	if err == nil && plan.Deploy != nil && service.Deploy != nil {
		service.Deploy = plan.Deploy
	}
	return plan, err
}

type execution struct {
	service drill.Service
	plan    drill.Plan
	token   string
	key     *attest.PrivateKey // signs the run; nil signs nothing
	caught  *caughtSignal

	// For prove; all may be nil.
	opening []history.Fact                                 // written at the begin of the log
	wrap    func(conductor.Crew, *links) conductor.Crew    // what the run is carried out by, in place of the crew
	done    func(directory string, judged verdict.Verdict) // told at the end

	// For a fleet's server; the zero values stand for a run of our own.
	run       string // its name, a UUID
	directory string // of the run, in place of one below --out
	operator  string // who started it
	sealed    func(head string)
}

// execute runs a plan, writes log and reports, and returns what the exit code follows from.
func execute(ctx context.Context, s streams, options runOptions, e execution) error {
	if e.directory == "" { // a fleet's server names one
		for _, client := range e.plan.Clients {
			if client.Agent != "" {
				return agentAlone(client)
			}
		}
	}
	unlock, err := lockService(e.service.Name)
	if err != nil {
		return err
	}
	defer unlock()
	opening := e.opening
	if note := abortedNote(options, e.service.Name); note != "" {
		fmt.Fprintf(s.err, "firedrill: %s\n", note)
		opening = append(opening, &history.Note{Text: note})
	}
	run := cmp.Or(e.run, uuid.Must(uuid.NewV7()).String())
	directory := cmp.Or(e.directory, filepath.Join(options.out, fmt.Sprintf("%s-%s", time.Now().UTC().Format("20060102T150405Z"), run[len(run)-6:])))
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return &drill.Error{Op: "make the directory of the run", Kind: drill.Invalid, Err: err, Hint: "Name another one with --out."}
	}
	logFile, err := os.OpenFile(filepath.Join(directory, logName), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	earlier, err := options.keepEarlier(directory, e.plan)
	if err != nil {
		return err
	}
	source, _ := os.Hostname()
	view := newView(s, e.plan, options.json)
	writer := history.NewWriter(logFile)
	links := newLinks()
	var hands conductor.Crew = &crew{service: e.service, file: options.file, plan: e.plan, source: source, token: e.token, links: links, output: view.output()}
	if e.wrap != nil {
		hands = e.wrap(hands, links)
	}
	log, err := conductor.Run(ctx, conductor.Options{
		Plan:    e.plan,
		Crew:    hands,
		Log:     writer,
		Started: history.RunStarted{Run: run, Tool: version(), Host: source, Kernel: kernel(), Operator: cmp.Or(e.operator, operator()), Command: options.command, Trigger: options.startedBy()},
		Opening: opening,
		Source:  source,
		GUID:    func(int, string) string { return uuid.Must(uuid.NewV7()).String() },
		Judge: func(plan drill.Plan, log []history.Event, step int) (history.Outcome, string) {
			judged := verdict.JudgeStep(plan, log, step)
			return judged.Outcome, judged.Reason
		},
		Decided: verdict.Decided,
		Seen:    view.seen,
	})
	links.close()
	view.close()
	if syncErr := logFile.Sync(); err == nil {
		err = syncErr
	}
	if err != nil {
		err = &drill.Error{Op: "write the log of the run", Kind: drill.Unproven, Err: err, Hint: "The impact was taken back; without its log the run proves nothing."}
	}
	judged := verdict.Judge(e.plan, log, earlier...)
	_, head := writer.Head()
	if e.sealed != nil {
		e.sealed(head)
	}
	shown := report.Input{Plan: e.plan, Log: log, Verdict: judged, LogName: logName, Head: head}
	reportErr := writeReports(directory, shown)
	if reportErr == nil && err == nil { // a log that could not be written whole is not signed for
		reportErr = attestRun(directory, int64(len(log)), head, judged, e.key)
	}
	err = cmp.Or(err, reportErr)
	view.verdict(judged, log, directory)
	if e.done != nil {
		e.done(directory, judged)
	}
	sendTrace(ctx, s.err, directory, shown)
	if err != nil {
		return err
	}
	return exitFor(judged, e.caught)
}

// agentAlone refuses a client that only the server of a fleet reaches.
func agentAlone(client drill.Client) error {
	return &drill.Error{Op: "sample as client " + client.Name, Kind: drill.Unsupported, Err: fmt.Errorf("it is agent %s of a fleet, which its server alone reaches", client.Agent), Hint: "firedrill fleet service put FILE, then firedrill fleet drill start; or give the client ssh: or via:"}
}

// exitFor gives the exit code of a judged run. Impact that may remain outranks everything, also an interrupt.
func exitFor(judged verdict.Verdict, caught *caughtSignal) error {
	if judged.NotReverted {
		return exitError{exitNotReverted}
	}
	if code := caught.code(); code != 0 {
		return exitError{code}
	}
	if code := judged.ExitCode(); code != exitPassed {
		return exitError{code}
	}
	return nil
}

// lockService keeps a second run of the same service away from this host while one runs. The kernel lets go of the lock when we die.
func lockService(service string) (unlock func(), err error) {
	directory := cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), os.TempDir())
	path := filepath.Join(directory, fmt.Sprintf("firedrill-%d-%s.lock", os.Getuid(), service))
	file, err := hold(path)
	if file == nil {
		return nil, &drill.Error{Op: "lock " + service, Kind: drill.Invalid, Err: err}
	}
	if err != nil {
		holder, _ := os.ReadFile(path)
		_ = file.Close()
		return nil, &drill.Error{
			Op: "lock " + service, Kind: drill.Refused, Err: fmt.Errorf("another run is under way: %s", strings.TrimSpace(string(holder))),
			Hint: "Wait for its end; one service is drilled or deployed by one run at a time.",
		}
	}
	_ = file.Truncate(0)
	_, _ = fmt.Fprintf(file, "process %d of %s since %s\n", os.Getpid(), operator(), time.Now().UTC().Format(time.RFC3339))
	return func() {
		_ = os.Remove(path) // while it is still locked, so that no one else holds what is removed
		_ = file.Close()
	}, nil
}
