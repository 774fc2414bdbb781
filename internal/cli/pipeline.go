//go:build !hostpart

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// runOptions are the flags that all commands share which carry out a plan.
type runOptions struct {
	file     string
	out      string
	revision string
	dryRun   bool
	json     bool
	first    bool
}

func (o *runOptions) addFlags(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVarP(&o.file, "file", "f", defaultFile, "service file")
	flags.StringVarP(&o.out, "out", "o", "firedrill-out", "directory for the log and the reports of each run")
	flags.StringVar(&o.revision, "revision", "", "git revision to deploy in place of the file's")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print the plan and touch nothing")
	flags.BoolVar(&o.json, "json", false, "print events (or with --dry-run the plan) as JSON lines")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // these fail only for a flag that is not defined
	_ = command.MarkFlagDirname("out")
	_ = command.RegisterFlagCompletionFunc("revision", cobra.NoFileCompletions)
}

const defaultFile = "firedrill.yaml"

func newPipelineCommand(s streams) *cobra.Command {
	var options runOptions
	command := &cobra.Command{
		Use:   "pipeline [FILE]",
		Short: "Run the pipeline of the service file: deploy, drill, promote, drill",
		Long: `Runs the steps of pipeline: in the service file, one after the other, and stops at the first that does not pass. Each run writes
its log, an HTML report, JUnit XML and Markdown into a directory of its own below --out.

Ctrl-C or SIGTERM takes every impact back first and then ends.
` + exitStatusHelp,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFiles(1, "yaml", "yml"),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 1 {
				options.file = args[0]
			}
			return carryOut(command.Context(), s, options, nil)
		},
	}
	options.addFlags(command)
	return command
}

func newRunCommand(s streams) *cobra.Command {
	var options runOptions
	var on string
	command := &cobra.Command{
		Use:   "run DRILL",
		Short: "Run one drill of the service file",
		Long: `Runs one drill: steady state, attack, proof that it bit, expectations, revert, proof of the revert, steady state again.
` + exitStatusHelp,
		Args:              exactly("DRILL"),
		ValidArgsFunction: fromService(&options, 1, drillNames),
		RunE: func(command *cobra.Command, args []string) error {
			step := "drill " + args[0]
			if on != "" {
				step += " on " + on
			}
			return carryOut(command.Context(), s, options, []string{step})
		},
	}
	options.addFlags(command)
	command.Flags().StringVar(&on, "on", "", "idle, active, or an environment, in place of the drill's own")
	_ = command.RegisterFlagCompletionFunc("on", fromService(&options, anyNumber, placeNames)) // fails only for a flag that is not defined
	return command
}

func newDeployCommand(s streams) *cobra.Command {
	var options runOptions
	command := &cobra.Command{
		Use:   "deploy [ENVIRONMENT...]",
		Short: "Publish a release to the idle environment over SSH",
		Long: `Publishes the revision as a new release directory on every host of the environment (default: the one that is not answered),
switches to it in one step, restarts, and asks the health check; when that fails the release before is put back.

The environment that is answered is refused, but for its very first release (--first).
` + exitStatusHelp,
		ValidArgsFunction: fromService(&options, 2, environmentNames),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"idle"}
			}
			var items []string
			for _, environment := range args {
				items = append(items, "deploy "+environment)
			}
			return carryOut(command.Context(), s, options, items)
		},
	}
	options.addFlags(command)
	command.Flags().BoolVar(&options.first, "first", false, "these hosts have no release yet")
	return command
}

// loadService reads a service file.
func loadService(path string) (drill.Service, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return drill.Service{}, &drill.Error{Op: "read the service file", Kind: drill.Invalid, Err: err, Hint: "Name it with --file, or stand in its directory."}
	}
	return drill.ParseService(text, path)
}

// carryOut makes the plan for the items (nil: the file's pipeline) and runs it.
func carryOut(ctx context.Context, s streams, options runOptions, items []string) error {
	service, err := loadService(options.file)
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
	plan, err := drill.Compile(service, drill.Facts{Live: live, Kinds: kinds.Describe(), File: options.file, First: options.first}, items)
	if err != nil {
		return err
	}
	if options.dryRun {
		return printPlan(s, plan, options.json)
	}
	token, err := readToken(service)
	if err != nil {
		return err
	}
	return execute(ctx, s, options, execution{service: service, plan: plan, token: token, caught: caught})
}

type execution struct {
	service drill.Service
	plan    drill.Plan
	token   string
	caught  *caughtSignal
}

// execute runs a plan, writes log and reports, and returns what the exit code follows from.
func execute(ctx context.Context, s streams, options runOptions, e execution) error {
	unlock, err := lockService(e.service.Name)
	if err != nil {
		return err
	}
	defer unlock()
	run, err := uuid.NewV7()
	if err != nil {
		return err
	}
	started := time.Now()
	directory := filepath.Join(options.out, fmt.Sprintf("%s-%s", started.UTC().Format("20060102T150405Z"), run.String()[len(run.String())-6:]))
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return &drill.Error{Op: "make the directory of the run", Kind: drill.Invalid, Err: err, Hint: "Name another one with --out."}
	}
	logFile, err := os.OpenFile(filepath.Join(directory, logName), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	source, _ := os.Hostname()
	view := newView(s, e.plan, options.json)
	writer := history.NewWriter(logFile)
	links := newLinks()
	log, err := conductor.Run(ctx, conductor.Options{
		Plan:    e.plan,
		Crew:    &crew{service: e.service, plan: e.plan, source: source, token: e.token, links: links, output: view.output()},
		Log:     writer,
		Started: history.RunStarted{Run: run.String(), Tool: version(), Host: source, Kernel: kernel(), Operator: operator()},
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
	judged := verdict.Judge(e.plan, log)
	_, head := writer.Head()
	if reportErr := writeReports(directory, e.plan, log, head, judged); err == nil {
		err = reportErr
	}
	view.verdict(judged, log, directory)
	if err != nil {
		return err
	}
	return exitFor(judged, e.caught)
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
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &drill.Error{Op: "lock " + service, Kind: drill.Invalid, Err: err}
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
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

// caughtSignal remembers which signal asked for the end.
type caughtSignal struct {
	cancel context.CancelFunc
	signal chan os.Signal
	got    chan syscall.Signal
	relay  chan os.Signal // for a program that must hear it too
}

// forward returns the signals as they come in, for a program that runs for us elsewhere.
func (c *caughtSignal) forward() <-chan os.Signal { return c.relay }

// catchSignals returns a context that ends at the first SIGINT, SIGTERM or SIGHUP. More of them change nothing: reverting has its own
// bounds, and an operator in a hurry must not be able to cut it short.
func catchSignals(parent context.Context) (context.Context, *caughtSignal) {
	ctx, cancel := context.WithCancel(parent)
	c := &caughtSignal{cancel: cancel, signal: make(chan os.Signal, 1), got: make(chan syscall.Signal, 1), relay: make(chan os.Signal, 4)}
	signal.Notify(c.signal, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for received := range c.signal {
			if number, ok := received.(syscall.Signal); ok {
				select {
				case c.got <- number:
				default:
				}
			}
			select {
			case c.relay <- received:
			default:
			}
			cancel()
		}
	}()
	return ctx, c
}

func (c *caughtSignal) stop() {
	signal.Stop(c.signal)
	close(c.signal)
	c.cancel()
}

// code is 128 plus the signal's number, or 0 when there was none.
func (c *caughtSignal) code() int {
	select {
	case number := <-c.got:
		c.got <- number
		return 128 + int(number)
	default:
		return 0
	}
}

func printPlan(s streams, plan drill.Plan, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(s.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(plan)
	}
	fmt.Fprintf(s.out, "Plan for %s; %s is answered now. Nothing is touched.\n", plan.Service, plan.Live)
	for i, step := range plan.Steps {
		fmt.Fprintf(s.out, "\n%d. %s\n", i+1, step.Name)
		switch step.Kind {
		case drill.StepDeploy:
			fmt.Fprintf(s.out, "   publish %s of %s to %s, restart, health check\n", plan.Deploy.Source.Revision, plan.Deploy.Source.Git, plan.Deploy.Directory)
		case drill.StepRollback:
			fmt.Fprintf(s.out, "   switch to the release before in %s, restart, health check\n", plan.Deploy.Directory)
		case drill.StepPromote:
			fmt.Fprintf(s.out, "   move the answer from %s to %s, seen on every name server\n", step.Live, step.LiveAfter)
		case drill.StepDrill:
			printDrill(s, step)
		}
	}
	return nil
}

func printDrill(s streams, step drill.Step) {
	fmt.Fprintf(s.out, "   steady state with %s answered, for %s\n", step.Live, step.Drill.SteadyFor.Duration())
	for _, host := range step.Drill.Hosts {
		fmt.Fprintf(s.out, "   on %s (%s): firedrill attack %s %s\n", host.Name, host.Address, step.Drill.Attack.Attack, strings.Join(step.Drill.Attack.Args, " "))
	}
	for _, canary := range step.Drill.Attack.Canaries {
		fmt.Fprintf(s.out, "   proof that it bites: no connection to %s\n", canary)
	}
	for _, expectation := range step.Drill.Expectations {
		fmt.Fprintf(s.out, "   expect %s\n", expectation.Text)
	}
	fmt.Fprintf(s.out, "   afterwards %s is answered, steady again, and there is somewhere to go back to\n", step.LiveAfter)
}

// version is the module version, or the revision that a development build was made from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "devel-" + setting.Value[:min(12, len(setting.Value))]
		}
	}
	return "devel"
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
}

func operator() string {
	if current, err := user.Current(); err == nil {
		return current.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}
