//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/client"
	"firedrill/internal/history"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
)

const fleetDrillExitStatus = `

EXIT STATUS
  0    passed
  1    failed: the gate
  2    usage: a wrong flag, argument or service file
  3    inconclusive, or the server cannot be reached
  4    refused: your role, or a safeguard
  5    NOT REVERTED: impact may still be in force, act by hand
  70   our own fault
  130  ended early by Ctrl-C; reverted`

func newFleetServiceCommand(s streams, o *fleetOptions) *cobra.Command {
	command := &cobra.Command{Use: "service", Short: "Put service files on the server, whose drills it then conducts", Args: cobra.NoArgs,
		Long: `Puts service files on the server and shows them. The server conducts the drills of a service file through the agents on its hosts (firedrill fleet
drill): each host of the file must have joined under the same name, with --tag service=NAME. Each version is kept, with who put it there.` + fleetExitStatus,
		Example: "  firedrill fleet service put firedrill.yaml\n  firedrill fleet service show bookstore --version 1",
		RunE:    func(command *cobra.Command, _ []string) error { return command.Help() }}
	put := fleetCommand("put FILE", "Put a service file on the server, as a new version", `Puts a service file on the server, as a new version; one that is there already stays as it is.

The server does what the file says on hosts of this service alone, through their agents. It logs in nowhere, runs no program and reads no file
for it: drills that need that (clients over SSH, probes, lines of logs, primaries of databases) are refused there, and run with firedrill run.`, cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return &drill.Error{Op: "read the service file", Kind: drill.Invalid, Err: err}
			}
			if _, err := drill.ParseService(text, args[0]); err != nil {
				return err // with the name of the file as it is here
			}
			var file fleet.ServiceFile
			if err := o.call(ctx, "putservice", fleet.PutService{Text: string(text)}, &file); err != nil {
				return err
			}
			if file.Text = ""; o.json {
				return printJSON(s, file)
			}
			fmt.Fprintf(s.out, "version %d of %s: drills %s; see what one would do: firedrill fleet drill start %s DRILL --dry-run\n", file.Version, file.Name, orDash(strings.Join(file.Drills, ", ")), file.Name)
			return nil
		})
	put.ValidArgsFunction = completeFiles(1, "yaml", "yml")
	list := fleetCommand("list", "List the service files on the server", "Lists the service files on the server, in their newest versions.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var all []fleet.ServiceFile
		if err := o.call(ctx, "services", nil, &all); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, all)
		}
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "SERVICE\tVERSION\tBY\tAT\tHOSTS\tDRILLS")
		for _, file := range all {
			fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\n", file.Name, file.Version, file.By, file.At.Local().Format(time.DateTime), strings.Join(file.Hosts, ", "), orDash(strings.Join(file.Drills, ", ")))
		}
		return table.Flush()
	})
	var asked fleet.ServiceRequest
	show := fleetCommand("show SERVICE", "Print a service file as it is on the server", "Prints a service file as it is on the server.", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		asked.Name = args[0]
		var file fleet.ServiceFile
		if err := o.call(ctx, "service", asked, &file); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, file)
		}
		fmt.Fprint(s.out, file.Text)
		return nil
	})
	show.Flags().IntVar(&asked.Version, "version", 0, "another than the newest")
	command.AddCommand(put, list, show)
	return command
}

func newFleetDrillCommand(s streams, o *fleetOptions) *cobra.Command {
	command := &cobra.Command{Use: "drill", Short: "Have the server conduct a drill of a service, and see its verdict", Args: cobra.NoArgs,
		Long: `Has the server conduct a drill of a service file that was put there (firedrill fleet service put), as firedrill run does on a machine of yours:
steady state, attack, proof that it bit, alarms, answers, revert, proof of the revert, steady state again, verdict. Hosts are reached through
their agents. Log and reports are kept on the server, chained by hashes.` + fleetExitStatus,
		Example: "  firedrill fleet drill start bookstore lose-host --dry-run\n  firedrill fleet drill start bookstore lose-host\n  firedrill fleet drill list",
		RunE:    func(command *cobra.Command, _ []string) error { return command.Help() }}
	command.AddCommand(newFleetDrillStartCommand(s, o), newFleetDrillListCommand(s, o), newFleetDrillFollowCommand(s, o), newFleetDrillStopCommand(s, o))
	return command
}

func newFleetDrillStartCommand(s streams, o *fleetOptions) *cobra.Command {
	var request fleet.DrillRequest
	var detach bool
	var out string
	command := &cobra.Command{Use: "start SERVICE DRILL", Short: "Start a drill, and follow it to its verdict", Args: exactly("SERVICE", "DRILL"),
		Long: `Starts a drill of a service and follows it. The verdict is judged here, from the log that the server wrote; where it differs from the server's, that
is said and nothing is passed.

Not started is: a drill of a service that another run or drill attacks; one on hosts that did not join as hosts of the service; one beyond the limits
of the server or the bounds of who asks; anything while the lever is engaged.

Ctrl-C ends the drill, and waits until its impact is taken back.` + fleetDrillExitStatus,
		Example: "  firedrill fleet drill start bookstore lose-host --on idle",
		RunE: func(command *cobra.Command, args []string) error {
			request.Service, request.Drill = args[0], args[1]
			return startFleetDrill(command.Context(), s, *o, request, detach, out)
		}}
	flags := command.Flags()
	flags.StringVar(&request.On, "on", "", "idle, active, or an environment, in place of the drill's own")
	flags.Int64Var(&request.Seed, "seed", 0, "choose the same hosts as a drill before (default: another)")
	flags.BoolVar(&request.Consent, "yes", false, "consent, where a host's policy or the kind of attack asks for it")
	flags.BoolVar(&request.DryRun, "dry-run", false, "print the plan, and stop there")
	flags.BoolVar(&detach, "detach", false, "return once it has begun")
	flags.StringVarP(&out, "out", "o", "", "directory for log and reports of this drill (default: they stay on the server)")
	_ = command.MarkFlagDirname("out") // fails only for a flag that is not defined
	return command
}

func startFleetDrill(ctx context.Context, s streams, o fleetOptions, request fleet.DrillRequest, detach bool, out string) error {
	c, _, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, caught := catchSignals(ctx)
	defer caught.stop()
	var run fleet.DrillRun
	if err := askIn(c, "drill", request, &run); err != nil {
		return err
	}
	switch {
	case request.DryRun:
		plan, err := run.Planned()
		if err != nil {
			return err
		}
		if err := printPlan(s, plan, o.json); err != nil || o.json {
			return err
		}
		for _, client := range slices.Sorted(maps.Keys(run.Clients)) {
			fmt.Fprintf(s.out, "   client %s is agent %s\n", client, run.Clients[client])
		}
		return nil
	case detach && o.json:
		return printJSON(s, run)
	case detach:
		fmt.Fprintf(s.out, "drill %s attacks %s; follow it: firedrill fleet drill follow %s\n", run.ID, strings.Join(run.Hosts, ", "), run.ID)
		return nil
	}
	return followFleetDrill(ctx, s, o, c, run, caught, out)
}

func newFleetDrillListCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("list", "List the drills, the newest first", "Lists the newest 200 drills, the newest first.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var all []fleet.DrillRun
		if err := o.call(ctx, "drills", nil, &all); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, all)
		}
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "DRILL\tSTART\tBY\tSERVICE\tWHAT\tOUTCOME")
		for _, run := range all {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", run.ID, run.Started.Local().Format(time.DateTime), run.By, run.Request.Service, run.Request.Item(), drillOutcomeText(run))
		}
		return table.Flush()
	})
}

func drillOutcomeText(run fleet.DrillRun) string {
	switch {
	case !run.Done():
		return run.State
	case run.Left:
		return "NOT REVERTED: " + run.Reason
	}
	return strings.TrimSuffix(run.Outcome+": "+run.Reason, ": ")
}

func newFleetDrillFollowCommand(s streams, o *fleetOptions) *cobra.Command {
	out := ""
	command := &cobra.Command{Use: "follow DRILL", Short: "Show a drill from its begin on, to its verdict", Args: exactly("DRILL"),
		Long: `Shows a drill from its begin on, and follows it to its end; one that is over is shown whole and judged again from its log. The last six characters of
its name are enough. Ctrl-C ends only the showing.` + fleetDrillExitStatus,
		RunE: func(command *cobra.Command, args []string) error {
			c, _, err := o.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			var run fleet.DrillRun
			if err := askIn(c, "drillrun", args[0], &run); err != nil {
				return err
			}
			return followFleetDrill(command.Context(), s, *o, c, run, nil, out)
		}}
	command.Flags().StringVarP(&out, "out", "o", "", "directory for log and reports of this drill (default: they stay on the server)")
	_ = command.MarkFlagDirname("out") // fails only for a flag that is not defined
	return command
}

func newFleetDrillStopCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("stop DRILL", "End a drill: its impact is taken back", "Ends a drill: its impact is taken back, and it is judged by what was seen until then. To end everything: firedrill halt --all.", cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error {
			var run fleet.DrillRun
			if err := o.call(ctx, "stopdrill", args[0], &run); err != nil {
				return err
			}
			if o.json {
				return printJSON(s, run)
			}
			fmt.Fprintf(s.out, "drill %s is told to end; see: firedrill fleet drill follow %s\n", run.ID, run.ID)
			return nil
		})
}

// followFleetDrill shows the log of a drill while it is written, and judges it at its end. When ctx ends and caught is given, the drill is stopped
// and followed to its end all the same.
func followFleetDrill(ctx context.Context, s streams, o fleetOptions, c *client.Client, run fleet.DrillRun, caught *caughtSignal, out string) error {
	var whole bytes.Buffer
	var shown *view
	tick := time.NewTicker(fleetLookAt)
	defer tick.Stop()
	stopped := false
	for part := (fleet.LogPart{}); !part.Done || part.Text != ""; {
		if err := askIn(c, "drilllog", fleet.LogRequest{ID: run.ID, From: part.Next}, &part); err != nil {
			return err
		}
		whole.WriteString(part.Text)
		if err := readEvents(strings.NewReader(part.Text), func(event history.Event) {
			if started, is := event.Fact.(*history.RunStarted); is && shown == nil {
				shown = newView(s, started.Plan, o.json)
			}
			if shown != nil {
				shown.seen(event)
			}
		}); err != nil {
			return err
		}
		if part.Text != "" {
			continue
		}
		interrupted := ctx.Done()
		if stopped {
			interrupted = nil
		}
		select {
		case <-interrupted:
			if caught == nil {
				if shown != nil {
					shown.close()
				}
				return ctx.Err()
			}
			stopped = true
			fmt.Fprintln(s.err, "firedrill: stopping the drill")
			if err := askIn(c, "stopdrill", run.ID, nil); err != nil {
				return err
			}
		case <-tick.C:
		}
	}
	if shown != nil {
		shown.close()
	}
	if err := askIn(c, "drillrun", run.ID, &run); err != nil {
		return err
	}
	return concludeFleetDrill(s, o, run, whole.Bytes(), shown, caught, out)
}

// concludeFleetDrill judges the log of a drill that is over. What the server says counts only where the log says the same.
func concludeFleetDrill(s streams, o fleetOptions, run fleet.DrillRun, text []byte, shown *view, caught *caughtSignal, out string) error {
	if len(text) == 0 {
		return &drill.Error{Op: "drill " + run.ID, Kind: drill.Unproven, Err: errors.New("it has no log: " + drillOutcomeText(run))}
	}
	log, head, err := history.ReadHead(bytes.NewReader(text))
	if err := readable(s, err, len(log) > 0); err != nil {
		return err
	}
	plan, err := planOf(log, "the log of drill "+run.ID)
	if err != nil {
		return err
	}
	judged := verdict.Judge(plan, log)
	directory := "on the server, results/" + run.Result
	if out != "" {
		directory = filepath.Join(out, run.Result)
		if err := keepFleetDrill(directory, text, plan, log, head, judged); err != nil {
			return err
		}
	}
	shown.verdict(judged, log, directory)
	if run.Outcome != string(judged.Outcome) || run.Head != "" && run.Head != head {
		return &drill.Error{Op: "drill " + run.ID, Kind: drill.Unproven, Err: fmt.Errorf("its log says %s and ends with %s, and the server says %s and %s", judged.Outcome, head, run.Outcome, run.Head),
			Hint: "Look at the log on the server itself: it may have been altered, or the server is of another version."}
	}
	if caught == nil {
		caught = &caughtSignal{}
	}
	return exitFor(judged, caught)
}

func keepFleetDrill(directory string, text []byte, plan drill.Plan, log []history.Event, head string, judged verdict.Verdict) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return &drill.Error{Op: "make the directory of the drill", Kind: drill.Invalid, Err: err, Hint: "Name another one with --out."}
	}
	err := writeWhole(filepath.Join(directory, logName), func(w io.Writer) error { _, err := w.Write(text); return err })
	return errors.Join(err, writeReports(directory, report.Input{Plan: plan, Log: log, Verdict: judged, LogName: logName, Head: head}))
}
