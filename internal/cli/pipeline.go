//go:build !hostpart

package cli

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

// runOptions are the flags that all commands share which carry out a plan.
type runOptions struct {
	file     string
	out      string
	revision string
	dryRun   bool
	json     bool
	first    bool
	sign     string // the file of the private key to sign the run with; "" signs nothing
	seed     int64
	sabotage string // what the demo has broken, of which a part is in what we believe

	command string         // what was started
	resume  string         // goOnLast, or the directory or log of the run to go on with; "" begins anew
	earlier string         // directory or log of the run that is gone on with, once it is found
	service *drill.Service // in place of the file
	trigger string         // who starts it; "" is found out
}

// startedBy says whether a person, a CI server or the schedule starts the run. CI servers say so in their environment.
func (o *runOptions) startedBy() string {
	switch {
	case o.trigger != "":
		return o.trigger
	case os.Getenv("CI") != "" || os.Getenv("JENKINS_URL") != "" || os.Getenv("TF_BUILD") != "":
		return history.TriggerPipeline
	}
	return history.TriggerPerson
}

// goOnLast is runOptions.resume without a run: the newest that was broken off.
const goOnLast = "last"

func (o *runOptions) addFlags(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVarP(&o.file, "file", "f", defaultFile, "service file")
	flags.StringVarP(&o.out, "out", "o", "firedrill-out", "directory for the log and the reports of each run")
	flags.StringVar(&o.revision, "revision", "", "git revision to deploy in place of the file's")
	flags.Int64Var(&o.seed, "seed", 0, "choose the same hosts as a run before, for drills that attack a part of them (default: another)")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print the plan and touch nothing")
	flags.BoolVar(&o.json, "json", false, "print events (or with --dry-run the plan) as JSON lines")
	addSignFlag(command, &o.sign)
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

A drill or a promotion that fails is taken back by itself: the answer moves to the environment that runs what was good before, and the
release that did not prove itself is switched back. Requests that the old environment still serves after a promotion are waited for:
the TTL and at most drain: of the failover name.

Ctrl-C or SIGTERM takes every impact back first and then ends. --resume goes on with the newest run that was broken off, or with RUN (its
directory or log): at the first step that its log does not prove, with the commit that it deployed. What is answered and what the hosts
run is looked at again; when it is not what the log says, nothing starts, and the cure is named.
` + exitStatusHelp,
		Example:           "  firedrill plan\n  firedrill pipeline\n  firedrill pipeline --resume\n  firedrill pipeline --resume firedrill-out/20261123T101502Z-0a1b2c",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFiles(1, "yaml", "yml"),
		RunE: func(command *cobra.Command, args []string) error {
			options.takeFileOrRun(args)
			options.command = commandPipeline
			return carryOut(command.Context(), s, options, nil)
		},
	}
	options.addFlags(command)
	options.addResume(command)
	command.Flags().StringVar(&options.sabotage, "sabotage", "", "what the demo has broken around this run")
	_ = command.Flags().MarkHidden("sabotage") // fails only for a flag that is not defined
	return command
}

// What history.RunStarted.Command says of a run: the pipeline can be gone on with, and a way back is open in a freeze.
const (
	commandPipeline = "pipeline"
	commandRollback = "rollback"
)

func newPlanCommand(s streams) *cobra.Command {
	var options runOptions
	command := &cobra.Command{
		Use:   "plan [FILE]",
		Short: "Print what the pipeline would do, and touch nothing",
		Long: `Prints each step of pipeline: made concrete for what is answered now: hosts, attacks with their arguments, what must be seen. With
--resume it prints what is proven already and where the run would go on. It asks the name servers and nothing else.
` + printExitStatus + `
  3    the name servers do not tell which environment is answered
  4    the run cannot be gone on with`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFiles(1, "yaml", "yml"),
		RunE: func(command *cobra.Command, args []string) error {
			options.takeFileOrRun(args)
			options.command, options.dryRun = commandPipeline, true
			return carryOut(command.Context(), s, options, nil)
		},
	}
	options.addFlags(command)
	_ = command.Flags().MarkHidden("dry-run") // it is always
	_ = command.Flags().MarkHidden("sign")    // there is no run to sign
	options.addResume(command)
	return command
}

func (o *runOptions) addResume(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&o.resume, "resume", "", "go on with the newest run that was broken off, or with --resume=RUN")
	flags.Lookup("resume").NoOptDefVal = goOnLast
	_ = command.MarkFlagDirname("resume")
}

// takeFileOrRun takes the one argument: after --resume it may be a run, which is a directory or a log and never a service file.
func (o *runOptions) takeFileOrRun(args []string) {
	if len(args) == 0 {
		return
	}
	about, err := os.Stat(args[0])
	isRun := strings.HasSuffix(args[0], ".jsonl") || err == nil && about.IsDir()
	if o.resume == goOnLast && isRun {
		o.resume = args[0]
		return
	}
	o.file = args[0]
}

func newRunCommand(s streams) *cobra.Command {
	var options runOptions
	var far fleetOptions
	var request fleet.DrillRequest
	var on string
	command := &cobra.Command{
		Use:   "run DRILL",
		Short: "Run one drill of the service file",
		Long: `Runs one drill: steady state, attack, proof that it bit, expectations, revert, proof of the revert, steady state again.

With --server the server of a fleet conducts it, through the agents on the hosts, and it is followed and judged here; log and reports are kept here
too. The service file that lies here must be the one that is there (firedrill fleet service put); --service takes the one that is there.
` + exitStatusHelp,
		Example:           "  firedrill run lose-host\n  firedrill run lose-host --server control.example.com --service bookstore --dry-run",
		Args:              exactly("DRILL"),
		ValidArgsFunction: fromService(&options, 1, drillNames),
		RunE: func(command *cobra.Command, args []string) error {
			step := "drill " + args[0]
			if on != "" {
				step += " on " + on
			}
			options.command = "run"
			if far.remote() {
				if err := withServer(command, "revision", "sign"); err != nil {
					return err
				}
				request.Drill, request.On, request.Seed, request.DryRun = args[0], on, options.seed, options.dryRun
				return runFar(command.Context(), s, far, options, request)
			}
			if err := withoutServer(command, "service", "yes"); err != nil {
				return err
			}
			return carryOut(command.Context(), s, options, []string{step})
		},
	}
	options.addFlags(command)
	far.addServer(command.Flags())
	command.Flags().StringVar(&request.Service, "service", "", "with --server: the service whose file is there, in place of one that lies here")
	command.Flags().BoolVar(&request.Consent, "yes", false, "with --server: consent, where a host's policy or the kind of attack asks for it")
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
			options.command = "deploy"
			return carryOut(command.Context(), s, options, items)
		},
	}
	options.addFlags(command)
	command.Flags().BoolVar(&options.first, "first", false, "these hosts have no release yet")
	return command
}
