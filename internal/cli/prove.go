//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/conductor"
	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/prove"
	"firedrill/internal/verdict"
)

type proveOptions struct {
	file, drill, on, out, junit string
	cases                       []string
	runs, labs                  int
	list, json, yes, inside     bool
}

func newProveCommand(s streams) *cobra.Command {
	options := proveOptions{runs: 1, labs: 1}
	command := &cobra.Command{
		Use:   "prove [FILE]",
		Short: "Prove that the gate can fail: break things on purpose, and demand that the drill turns red each time",
		Long: `Runs one drill again and again, each time with one thing broken on purpose: an alarm that cannot fire, a record that cannot move, an
attack that does not bite, a client that answers from a cache. Each sabotage is declared with the verdict that the drill must get and the
check that must notice; a drill that passes although something is broken proves nothing. With nothing broken it must pass (the case
control).

Without FILE all of it happens in a lab out of namespaces, to the Bookstore: nothing of this machine is touched. With FILE the drill of your
own service file is run, against your own environment: real attacks, as often as there are cases. There only our own instruments are
broken: alarms and names are held still in the watch (for minutes at most, and let go after each case), expectations are made impossible,
clients, ledger and log lie. --list shows which. You are asked first, unless --yes.

EXIT STATUS
  0    every sabotage was noticed, and the drill passes with nothing broken
  1    a sabotage was not noticed, or the drill does not pass
  2    usage, or the service file is wrong
  3    a case could not be run
  4    you did not agree
  5    impact not reverted: call a human
  70   our own fault
  130  interrupted, impact reverted`,
		Example:           "  firedrill prove\n  firedrill prove --case alarm --case flap\n  firedrill prove firedrill.yaml --drill lose-dependencies --on active",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFiles(1, "yaml", "yml"),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 1 {
				options.file = args[0]
			}
			return runProve(command.Context(), s, options)
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.drill, "drill", "", "drill of FILE that is to notice")
	flags.StringVar(&options.on, "on", "", "idle, active, or an environment, in place of the drill's own")
	flags.StringArrayVar(&options.cases, "case", nil, "only this sabotage; may be repeated")
	flags.IntVar(&options.runs, "runs", 1, "how often each is run")
	flags.IntVar(&options.labs, "labs", 1, "how many labs share the cases, side by side; without FILE. Each needs about half a core")
	flags.StringVarP(&options.out, "out", "o", "firedrill-out", "directory for the log and the reports of each run")
	flags.StringVar(&options.junit, "junit", "", "file for the table as JUnit XML")
	flags.BoolVar(&options.list, "list", false, "list the sabotages and run none")
	flags.BoolVar(&options.yes, "yes", false, "do not ask")
	flags.BoolVar(&options.json, "json", false, "print each result as a JSON line")
	flags.BoolVar(&options.inside, "inside", false, "run one case in the lab that this runs in, with what was planted around it")
	_ = flags.MarkHidden("inside") // fails only for a flag that is not defined
	_ = command.RegisterFlagCompletionFunc("case", cobra.FixedCompletions(caseNames(prove.Cases()), cobra.ShellCompDirectiveNoFileComp))
	_ = command.MarkFlagDirname("out")
	return command
}

func caseNames(cases []prove.Case) []string {
	var names []string
	for _, c := range cases {
		names = append(names, c.Name)
	}
	return names
}

func runProve(ctx context.Context, s streams, options proveOptions) error {
	cases, err := options.chosen()
	if err != nil {
		return err
	}
	if options.list {
		return prove.List(s.out, cases, options.json)
	}
	ctx, caught := catchSignals(ctx)
	defer caught.stop()
	var results []prove.Result
	told := func(result prove.Result) {
		results = append(results, result)
		if options.json {
			_ = printLine(s, result) // a reader that has gone needs no answer; the exit code stays
		} else if !options.inside {
			fmt.Fprintln(s.out, prove.Row(result))
		}
	}
	if options.file == "" {
		err = proveInLab(ctx, s, options, cases, told, caught)
	} else {
		err = proveOwn(ctx, s, options, cases, told, caught)
	}
	if err != nil {
		return err
	}
	if options.junit != "" {
		if err := writeWhole(options.junit, func(w io.Writer) error { return prove.JUnit(w, results) }); err != nil {
			return err
		}
	}
	if !options.json {
		fmt.Fprintln(s.out, prove.Summary(results))
	}
	if code := caught.code(); code != 0 {
		return exitError{code}
	}
	if code := prove.ExitCode(results); code != exitPassed {
		return exitError{code}
	}
	return nil
}

// chosen are the cases that were asked for; on a service of the user's own only those that are safe there.
func (o proveOptions) chosen() ([]prove.Case, error) {
	var cases []prove.Case
	for _, c := range prove.Cases() {
		if len(o.cases) == 0 && (o.file == "" || o.inside || c.Own) {
			cases = append(cases, c)
		}
	}
	for _, name := range o.cases {
		c, err := prove.Find(name)
		if err != nil {
			return nil, err
		}
		if o.file != "" && !o.inside && !c.Own {
			return nil, &drill.Error{
				Op: "prove --case " + name, Kind: drill.Refused, Err: errors.New("it breaks more than our own instruments, and is for the lab alone"), Hint: "Run it there: firedrill prove --case " + name,
			}
		}
		cases = append(cases, c)
	}
	if o.runs < 1 {
		return nil, &drill.Error{Op: "prove --runs", Kind: drill.Invalid, Err: fmt.Errorf("%d runs prove nothing", o.runs), Hint: "Name a number from 1."}
	}
	if o.labs < 1 || o.labs > 1 && o.file != "" {
		return nil, &drill.Error{Op: "prove --labs", Kind: drill.Invalid, Err: fmt.Errorf("%d labs", o.labs), Hint: "Name a number from 1; with a service file of your own there is none."}
	}
	if o.file != "" && o.drill == "" && !o.inside && !o.list {
		return nil, &drill.Error{Op: "prove " + o.file, Kind: drill.Invalid, Err: errors.New("which drill is to notice?"), Hint: "Name one with --drill; firedrill plan shows them."}
	}
	return cases, nil
}

// proveOwn runs the cases against the environment of a service file.
func proveOwn(ctx context.Context, s streams, options proveOptions, cases []prove.Case, told func(prove.Result), caught *caughtSignal) error {
	service, err := loadService(options.file)
	if err != nil {
		return err
	}
	if !options.inside {
		if !slices.ContainsFunc(service.Drills, func(d drill.Drill) bool { return d.Name == options.drill }) {
			return &drill.Error{Op: "prove", Kind: drill.Invalid, Err: fmt.Errorf("no drill %q", options.drill), Hint: drill.Suggest(options.drill, drillNames(service))}
		}
		if err := consent(s, options, service, len(cases)*options.runs); err != nil {
			return err
		}
	}
	for _, c := range cases {
		for run := range options.runs {
			if ctx.Err() != nil {
				return nil
			}
			began := time.Now()
			result := proveOne(ctx, options, c, caught)
			result.Run, result.Seconds = run+1, time.Since(began).Seconds()
			told(result)
			if result.Exit == exitNotReverted && !slices.Contains(c.Caught, "reverted on") {
				return nil // call a human, and break nothing more
			}
		}
	}
	return nil
}

func consent(s streams, options proveOptions, service drill.Service, runs int) error {
	if options.yes {
		return nil
	}
	fmt.Fprintf(s.err, "Run drill %s of %s %d times, each a real attack on its hosts, with our own alarms, names, clients and ledger broken on purpose meanwhile? [y/N] ", options.drill, service.Name, runs)
	var answer string
	if _, err := fmt.Fscanln(s.in, &answer); err != nil || !strings.HasPrefix(strings.ToLower(answer), "y") {
		return &drill.Error{Op: "prove", Kind: drill.Refused, Err: errors.New("nobody agreed"), Hint: "Answer y, or give --yes."}
	}
	return nil
}

// proveOne runs the drill once with one thing broken, and judges the log that it left.
func proveOne(ctx context.Context, options proveOptions, c prove.Case, caught *caughtSignal) prove.Result {
	result, err := tryProveOne(ctx, options, c, caught)
	if err != nil {
		return prove.Result{Case: c.Name, Breaks: c.Breaks, Expected: c.Want, Error: err.Error(), Exit: exitInconclusive}
	}
	return result
}

func tryProveOne(ctx context.Context, options proveOptions, c prove.Case, caught *caughtSignal) (prove.Result, error) {
	var none prove.Result
	service, err := loadService(options.file) // anew: the case before may have changed it
	if err != nil {
		return none, err
	}
	item := "drill " + options.drill
	on := options.on
	if options.inside {
		item, on = "drill "+prove.AddLabDrill(&service), "active"
		if c.On != "" {
			on = c.On
		}
	}
	if on != "" {
		item += " on " + on
	}
	if c.Service != nil {
		c.Service(&service)
	}
	live, err := liveEnvironment(ctx, service)
	if err != nil {
		return none, err
	}
	run := runOptions{file: options.file, out: filepath.Join(options.out, c.Name), command: "prove"}
	plan, err := run.plan(ctx, &service, live, []string{item})
	if err != nil {
		return none, err
	}
	if why := c.Applies(plan); why != "" {
		return prove.Result{Case: c.Name, Breaks: c.Breaks, Expected: c.Want, Skipped: why}, nil
	}
	token, err := readToken(service)
	if err != nil {
		return none, err
	}
	h := &proveHands{service: service, plan: plan, token: token}
	defer h.letGo(ctx)
	directory := ""
	var judged verdict.Verdict
	quiet := streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	err = execute(ctx, quiet, run, execution{
		service: service, plan: plan, token: token, caught: caught,
		opening: []history.Fact{&history.Note{Text: "prove: broken on purpose: " + c.Name + ": " + c.Breaks}},
		wrap: func(inner conductor.Crew, links *links) conductor.Crew {
			h.links = links
			tamper := &prove.Tamper{Crew: inner, Plan: plan, Hands: h.hands()}
			if c.Tamper != nil {
				c.Tamper(tamper)
			}
			return tamper
		},
		done: func(where string, v verdict.Verdict) { directory, judged = where, v },
	})
	var code exitError
	if err != nil && !errors.As(err, &code) {
		return none, err
	}
	return judgeProof(c, judged, filepath.Join(directory, logName))
}

// judgeProof judges what stands in the log, as an auditor would.
func judgeProof(c prove.Case, judged verdict.Verdict, name string) (prove.Result, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return prove.Result{}, err
	}
	if c.Log != nil {
		text = c.Log(text)
	}
	log, err := readLog(streams{in: bytes.NewReader(text), err: io.Discard}, "-")
	var plan drill.Plan
	if err == nil {
		plan, err = planOf(log, "the log of the run")
	}
	if err != nil {
		result := c.Altered(err)
		result.Log = name
		return result, nil
	}
	again := verdict.Judge(plan, log)
	if again.Outcome != judged.Outcome {
		return prove.Result{}, fmt.Errorf("the log was judged %s when it was whole, and is judged %s from the file", judged.Outcome, again.Outcome)
	}
	result := c.Hold(again)
	result.Log = name
	return result, nil
}

// proveHands does for sabotages what they may do, and takes back what they hold.
type proveHands struct {
	service drill.Service
	plan    drill.Plan
	token   string
	links   *links
	held    bool
}

func (h *proveHands) hands() prove.Hands {
	return prove.Hands{
		Hold: func(ctx context.Context, alarms, names []string, length time.Duration) error {
			h.held = true
			return h.hold(ctx, alarms, names, length)
		},
		Switch: func(ctx context.Context, to string) error {
			return orderWatch(ctx, *h.service.Watch, h.token, "switch", "/v1/names/"+h.plan.Failover[0].Name+"/switch", map[string]any{"to": to, "reason": "prove", "force": true})
		},
		Run: func(ctx context.Context, host drill.Host, script string) error {
			k, err := h.links.get(ctx, host, nil)
			if err != nil {
				return err
			}
			exit, err := k.client.Run(ctx, remote.Command{Line: script})
			if err == nil && exit.Code != 0 {
				err = fmt.Errorf("%s: exit status %d", host.Name, exit.Code)
			}
			return err
		},
	}
}

func (h *proveHands) hold(ctx context.Context, alarms, names []string, length time.Duration) error {
	if h.service.Watch == nil {
		return &drill.Error{Op: "hold", Kind: drill.Invalid, Err: errors.New("the service file names no watch"), Hint: "Add watch: {url: ...} to the service file."}
	}
	return orderWatch(ctx, *h.service.Watch, h.token, "hold", "/v1/hold", map[string]any{"alarms": alarms, "names": names, "seconds": length.Seconds(), "reason": "prove"})
}

// letGo ends what is held, also after an interrupt. If the watch cannot be reached, it ends by itself.
func (h *proveHands) letGo(ctx context.Context) {
	if h.held {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), watchAnswerMax)
		defer cancel()
		_ = h.hold(ctx, nil, nil, 0)
	}
}
