//go:build !hostpart

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/control"
	"firedrill/internal/history"
)

const (
	fleetCallMax     = 90 * time.Second
	fleetLookAt      = 500 * time.Millisecond
	fleetStopMax     = time.Minute
	fleetAskMax      = 5 * time.Second // a server that goes down takes a question with it
	fleetTakeoverMax = time.Minute
	envFleet         = "FIREDRILL_FLEET"
	envToken         = "FIREDRILL_TOKEN"
	serverStateOf    = "/var/lib/firedrill-server"
)

const fleetExitStatus = `

EXIT STATUS
  0    done
  2    usage: a wrong flag, argument or file
  3    the server cannot be reached
  4    refused: your role, or a safeguard
  70   our own fault`

// fleetOptions are what all commands of the fleet share.
type fleetOptions struct {
	server      string // in place of the address of the credentials; https: with a token in place of them
	credentials string
	json        bool
}

// connect logs in to the server.
func (o fleetOptions) connect() (*client.Client, fleet.Credentials, error) {
	if strings.Contains(o.server, "://") && !strings.HasPrefix(o.server, "tls://") {
		c, err := client.OverHTTPS(o.server, os.Getenv(envToken))
		return c, fleet.Credentials{}, err
	}
	credentials, err := client.Load(o.path())
	if err != nil {
		return nil, credentials, err
	}
	asked := credentials
	if o.server != "" {
		if asked.Address, err = fleet.Addresses(o.server); err != nil {
			return nil, credentials, err
		}
	}
	c, err := client.Connect(asked)
	if err != nil {
		return nil, credentials, err
	}
	_ = remember(o.path(), credentials, c) // else it is learnt again
	return c, c.Credentials(), nil
}

// addServer lets a command act through the server of a fleet.
func (o *fleetOptions) addServer(flags *pflag.FlagSet) {
	flags.StringVar(&o.server, serverFlag, "", serverUsage)
	flags.StringVar(&o.credentials, "fleet", "", credentialsUsage)
}

// path is where the credentials are: as named, or the first place that has them.
func (o fleetOptions) path() string {
	if named := cmp.Or(o.credentials, os.Getenv(envFleet)); named != "" {
		return named
	}
	own := filepath.Join(serverStateOf, fleetDirectory, control.AdminFile)
	config, err := os.UserConfigDir()
	if err != nil {
		return own
	}
	mine := filepath.Join(config, "firedrill", "fleet.json")
	if _, err := os.Stat(mine); err != nil {
		if _, err := os.Stat(own); err == nil {
			return own
		}
	}
	return mine
}

// call asks for one thing.
func (o fleetOptions) call(ctx context.Context, call string, asked, result any) error {
	c, _, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, fleetCallMax)
	defer cancel()
	return c.Call(ctx, call, asked, result)
}

func newFleetCommand(s streams) *cobra.Command {
	var o fleetOptions
	command := &cobra.Command{
		Use:   "fleet",
		Short: "See and attack the hosts of a fleet, through its server",
		Long: `See and attack the hosts of a fleet, through the server that leads it (firedrill server --fleet-listen) and the agents on the hosts (firedrill
agent). docs/fleet.md tells how to set it up, and who can do what.` + fleetExitStatus,
		Example: `  firedrill fleet token
  firedrill fleet hosts
  firedrill fleet attack --tag service=bookstore --count 1 blackhole -l 60 -h db.example.com
  firedrill halt --all`,
	}
	o.addServer(command.PersistentFlags())
	command.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	command.AddCommand(newFleetStatusCommand(s, &o), newFleetHostsCommand(s, &o), newFleetServersCommand(s, &o), newFleetAttackCommand(s, &o), newFleetServiceCommand(s, &o), newFleetDrillCommand(s, &o), newFleetScheduleCommand(s, &o), newFleetRunsCommand(s, &o), newFleetRunCommand(s, &o), newFleetJournalCommand(s, &o), newFleetStopCommand(s, &o),
		newFleetHaltCommand(s, &o), newFleetLeverCommand(s, &o), newFleetReleaseCommand(s, &o), newFleetTokenCommand(s, &o), newFleetAPITokenCommand(s, &o), newFleetMembersCommand(s, &o), newFleetAddCommand(s, &o), newFleetRevokeCommand(s, &o), newFleetPruneCommand(s, &o), newFleetCadenceCommand(s, &o), newFleetKeysCommand(s, &o), newFleetAuditCommand(s, &o))
	return command
}

// fleetCommand makes a command of one call that shows what comes back.
func fleetCommand(use, short, long string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long + fleetExitStatus, Args: args, RunE: func(command *cobra.Command, args []string) error { return run(command.Context(), args) }}
}

func newFleetHostsCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("hosts", "List the hosts: whether they are there, what they are, what is in force on them",
		"Lists the hosts: whether they are there, what they are, and what is in force on them, by order or not.", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			var hosts []fleet.HostView
			if err := o.call(ctx, "hosts", nil, &hosts); err != nil {
				return err
			}
			if o.json {
				return printJSON(s, hosts)
			}
			table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "HOST\tTHERE\tZONE\tTAGS\tKERNEL\tVERSION\tATTACKS\tIN FORCE")
			for _, h := range hosts {
				facts := fleet.Facts{}
				if h.Facts != nil {
					facts = *h.Facts
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", h.Name, there(h, time.Now()), orDash(h.Zone), orDash(tagText(h.Tags)), orDash(facts.Kernel), orDash(facts.Version), len(facts.Kinds), inForceText(h))
			}
			if err := table.Flush(); err != nil {
				return err
			}
			if len(hosts) == 0 {
				fmt.Fprintln(s.out, "no host has joined yet; make a token: firedrill fleet token")
			}
			return nil
		})
}

func newFleetServersCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("servers", "List the servers that lead the fleet together, and which of them leads now",
		"Lists the servers that lead the fleet together: where each is reached, since when it runs, and which of them leads now. The others answer too, and take\nover when it goes down.", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			var servers []fleet.Server
			if err := o.call(ctx, "servers", nil, &servers); err != nil {
				return err
			}
			if o.json {
				return printJSON(s, servers)
			}
			table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "SERVER\tADDRESS\tSTARTED\tLEADS")
			for _, one := range servers {
				leads := "-"
				if one.Leads {
					leads = "yes"
				}
				started := "-"
				if !one.Since.IsZero() {
					started = one.Since.Local().Format(time.RFC3339)
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", one.Name, one.Address, started, leads)
			}
			if err := table.Flush(); err != nil {
				return err
			}
			for _, one := range servers {
				if one.Problem != "" {
					fmt.Fprintf(s.out, "%s: %s\n", one.Name, one.Problem)
				}
			}
			return nil
		})
}

func there(h fleet.HostView, now time.Time) string {
	switch {
	case h.Heard.IsZero():
		return "not since the server started"
	case !h.Online:
		return "gone for " + now.Sub(h.Heard).Round(time.Second).String()
	case max(h.Skew, -h.Skew) > fleet.SkewMax.Seconds():
		return fmt.Sprintf("clock differs by %.0fs", h.Skew)
	}
	return "yes"
}

func inForceText(h fleet.HostView) string {
	var all []string
	for _, r := range h.Running {
		text := r.Kind
		if r.Order == "" {
			text += " (by hand)"
		}
		all = append(all, text)
	}
	return orDash(strings.Join(all, ", "))
}

func tagText(tags map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		all = append(all, key+"="+tags[key])
	}
	return strings.Join(all, ",")
}

func orDash(text string) string { return cmp.Or(text, "-") }

func newFleetAttackCommand(s streams, o *fleetOptions) *cobra.Command {
	var request fleet.AttackRequest
	var tags []string
	var most string
	var detach bool
	command := &cobra.Command{
		Use:   "attack [flags] KIND [flags of the attack]",
		Short: "Attack some hosts of the fleet at the same time, and see it to its end",
		Long: `Attacks hosts of the fleet: those with a name, a tag or in a zone, or some of them by percentage or count, at random; the seed is printed, and
given again it chooses the same. All of them begin at the same time, or none does. What follows KIND is what follows it in firedrill attack.

Not attacked is: what a host's own policy forbids; more hosts of a service, environment or zone at once than the server allows; the last healthy
host of a service; a service that another run attacks; anything while the lever is engaged.

Ctrl-C ends it on all hosts, and waits until it is reverted.

EXIT STATUS
  0    it bit on every host, and it is gone
  2    usage: a wrong flag or argument
  3    on some host nothing shows that it bit, a host was lost, or the server cannot be reached
  4    refused: your role, a safeguard, or a host
  5    NOT REVERTED: impact may still be in force, act by hand
  70   our own fault
  130  ended early by Ctrl-C; reverted`,
		Example: `  firedrill fleet attack --tag service=bookstore --percent 50 --dry-run blackhole -l 60 -h db.example.com
  firedrill fleet attack --host web1,web2 cpu -l 30`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			var err error
			if request.Selector.Tags, err = parseTags(tags); err != nil {
				return err
			}
			if most != "" {
				if request.Most, err = drill.ParseSeconds(most); err != nil {
					return &drill.Error{Op: "--most", Kind: drill.Invalid, Err: err}
				}
			}
			for request.Selector.Seed == 0 {
				request.Selector.Seed = uint64(rand.Uint32()) //nolint:gosec // short enough to be read out; a choice, not a secret
			}
			request.Kind, request.Args = args[0], args[1:]
			return runFleetAttack(command.Context(), s, *o, request, detach)
		},
	}
	flags := command.Flags()
	flags.SetInterspersed(false)
	flags.StringSliceVar(&request.Selector.Names, "host", nil, "hosts by name")
	flags.StringArrayVar(&tags, "tag", nil, "hosts with key=value; repeat for more, which must hold all")
	flags.StringSliceVar(&request.Selector.Zones, "zone", nil, "hosts in any of these zones")
	flags.BoolVar(&request.Selector.All, "all", false, "every host")
	flags.Float64Var(&request.Selector.Percent, "percent", 0, "only so many of those, at random; rounded down, and one at least")
	flags.IntVar(&request.Selector.Count, "count", 0, "only so many of those, at random")
	flags.Uint64Var(&request.Selector.Seed, "seed", 0, "of the random choice (default: a new one, which is printed)")
	flags.StringVar(&most, "most", "", "no host goes on for longer than this, whatever the attack says (default: five minutes beyond its length; an hour where it has none)")
	flags.BoolVar(&request.Consent, "yes", false, "consent, where a host's policy or the kind of attack asks for it")
	flags.BoolVar(&request.DryRun, "dry-run", false, "print which hosts would be attacked, or why the server would refuse, and stop there")
	flags.BoolVar(&detach, "detach", false, "return once it has begun")
	return command
}

func runFleetAttack(ctx context.Context, s streams, o fleetOptions, request fleet.AttackRequest, detach bool) error {
	c, _, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, caught := catchSignals(ctx)
	defer caught.stop()
	calling, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetCallMax)
	defer cancel()
	if !o.json {
		fmt.Fprintf(s.err, "seed %d\n", request.Selector.Seed)
	}
	var run fleet.Run
	err = c.Call(calling, "attack", request, &run)
	if o.json && run.ID != "" && (err != nil || detach || request.DryRun) {
		err = errors.Join(err, printJSON(s, run))
	}
	if err != nil {
		if !o.json {
			printRunHosts(s, run)
		}
		return err
	}
	if request.DryRun {
		if !o.json {
			printPlannedRun(s, run)
		}
		return nil
	}
	if detach {
		if !o.json {
			printRun(s, run)
		}
		return nil
	}
	if !o.json {
		fmt.Fprintf(s.out, "run %s: %s on %d hosts begins at %s, %s\n", run.ID, run.Kind, len(run.Hosts), run.Start.Local().Format("15:04:05.000"), endOfRun(run))
	}
	return followRun(ctx, s, o, c, run, caught)
}

// followRun shows what becomes of a run until it is over. When ctx ends it is stopped, and followed to its end all the same.
func followRun(ctx context.Context, s streams, o fleetOptions, c *client.Client, run fleet.Run, caught *caughtSignal) error {
	told := map[string]string{}
	stopped := false
	takeovers := 0
	tick := time.NewTicker(fleetLookAt)
	defer tick.Stop()
	var late <-chan time.Time
	for !run.Done() {
		interrupted := ctx.Done()
		if stopped {
			interrupted = nil
		}
		select {
		case <-interrupted:
			stopped = true
			late = time.After(fleetStopMax)
			fmt.Fprintln(s.err, "firedrill: stopping the run on all hosts")
			if err := askSoon(c, "stop", run.ID, nil); err != nil {
				return err
			}
		case <-late:
			return &drill.Error{Op: "fleet attack", Kind: drill.NotReverted, Err: errors.New("not every host has said that it reverted"), Hint: "see: firedrill fleet run " + run.ID}
		case <-tick.C:
		}
		if err := askSoon(c, "run", run.ID, &run); err != nil {
			return err
		}
		for _, t := range run.Takeovers[min(takeovers, len(run.Takeovers)):] {
			if !o.json {
				fmt.Fprintf(s.out, "%s  %s\n", time.Now().Format(time.TimeOnly), takeoverText(t))
			}
		}
		takeovers = len(run.Takeovers)
		for _, h := range run.Hosts {
			if text := hostText(h); told[h.Key] != text && !o.json {
				fmt.Fprintf(s.out, "%s  %s: %s\n", time.Now().Format(time.TimeOnly), h.Name, text)
			}
			told[h.Key] = hostText(h)
		}
	}
	if o.json {
		if err := printJSON(s, run); err != nil {
			return err
		}
	}
	return runOutcome(run, caught)
}

// askIn is a short call, which an interrupt does not end.
func askIn(c *client.Client, call string, asked, result any) error {
	return askFor(c, fleetCallMax, call, asked, result)
}

func askFor(c *client.Client, most time.Duration, call string, asked, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	return c.Call(ctx, call, asked, result)
}

// askSoon is askIn for a run that goes on: of several servers another one takes over within seconds.
func askSoon(c *client.Client, call string, asked, result any) error {
	for began := time.Now(); ; {
		err := askFor(c, fleetAskMax, call, asked, result)
		if err == nil || drill.KindOf(err) != drill.Unreachable || time.Since(began) > fleetTakeoverMax || !c.Several() {
			return err
		}
		<-time.After(fleetLookAt)
	}
}

func takeoverText(t fleet.Takeover) string {
	return fmt.Sprintf("%s took over from %s at %s: %s", t.By, t.From, t.At.Local().Format(time.TimeOnly), t.What)
}

// runOutcome is what the exit code of a run follows from.
func runOutcome(run fleet.Run, caught *caughtSignal) error {
	var left, unproven []string
	for _, h := range run.Hosts {
		switch {
		case h.State == fleet.HostLost, h.State == fleet.HostEnded && h.Reverted && (!h.Bit || h.Code != exitPassed):
			unproven = append(unproven, h.Name+": "+hostText(h))
		case h.State == fleet.HostEnded && !h.Reverted:
			left = append(left, h.Name+": "+hostText(h))
		}
	}
	hint := "what the hosts wrote down: firedrill fleet journal " + run.ID + " HOST"
	switch code := caught.code(); {
	case len(left) > 0:
		return &drill.Error{Op: "fleet attack", Kind: drill.NotReverted, Err: errors.New(strings.Join(left, "; ")), Hint: hint}
	case code != 0:
		return exitError{code}
	case len(unproven) > 0:
		return &drill.Error{Op: "fleet attack", Kind: drill.Unproven, Err: errors.New(strings.Join(unproven, "; ")), Hint: hint}
	}
	return nil
}

func hostText(h fleet.RunHost) string {
	if h.State != fleet.HostEnded || h.Chain == "" {
		return strings.TrimSuffix(h.State+": "+h.Reason, ": ")
	}
	bit, reverted := "nothing shows that it bit", "NOT REVERTED"
	if h.Bit {
		bit = "it bit"
	}
	if h.Reverted {
		reverted = "reverted"
	}
	text := fmt.Sprintf("ended: %s; %s, %s", h.Reason, bit, reverted)
	if h.Chain != "whole" {
		text += "; its journal is not whole: " + h.Chain
	}
	return text
}

func printRun(s streams, run fleet.Run) {
	fmt.Fprintf(s.out, "run %s by %s: %s %s, %s %s\n", run.ID, run.By, run.Kind, strings.Join(run.Args, " "), run.State, run.Reason)
	fmt.Fprintf(s.out, "start %s, deadline %s, services %s, seed %d\n", run.Start.Local().Format(time.RFC3339), run.Deadline.Local().Format(time.RFC3339), strings.Join(run.Services, ", "), run.Seed)
	for _, t := range run.Takeovers {
		fmt.Fprintln(s.out, "  "+takeoverText(t))
	}
	printRunHosts(s, run)
}

// printPlannedRun shows what a dry run has chosen. Whether the hosts would take it only they can say.
func printPlannedRun(s streams, run fleet.Run) {
	names := make([]string, len(run.Hosts))
	for i, h := range run.Hosts {
		names[i] = h.Name
	}
	fmt.Fprintf(s.out, "dry run: %s would be ordered on %d hosts: %s\n", strings.Join(append([]string{run.Kind}, run.Args...), " "), len(names), strings.Join(names, ", "))
	fmt.Fprintf(s.out, "services %s, seed %d; lever, limits and permits would allow it. Nothing was ordered: the hosts' own policies are heard when it is\n", strings.Join(run.Services, ", "), run.Seed)
}

func printRunHosts(s streams, run fleet.Run) {
	for _, h := range run.Hosts {
		fmt.Fprintf(s.out, "  %s: %s\n", h.Name, hostText(h))
	}
}

func newFleetRunsCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("runs", "List the runs, the newest first", "Lists the newest 200 runs, the newest first.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var runs []fleet.Run
		if err := o.call(ctx, "runs", nil, &runs); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, runs)
		}
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "RUN\tSTART\tBY\tATTACK\tHOSTS\tSTATE")
		for _, run := range runs {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", run.ID, run.Start.Local().Format(time.DateTime), run.By, run.Kind, len(run.Hosts), strings.TrimSuffix(run.State+": "+run.Reason, ": "))
		}
		return table.Flush()
	})
}

func newFleetRunCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("run RUN", "Show a run, host by host", "Shows a run, host by host. The last six characters of its name are enough.", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		var run fleet.Run
		if err := o.call(ctx, "run", args[0], &run); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, run)
		}
		printRun(s, run)
		return nil
	})
}

func newFleetJournalCommand(s streams, o *fleetOptions) *cobra.Command {
	command := fleetCommand("journal RUN HOST", "Print what a host wrote down about its part in a run",
		"Prints what a host wrote down about its part in a run, with the seconds since its first line, by the host's clock. With --json: the events themselves, one a line, chained by hashes as the host chained them.", cobra.ExactArgs(2),
		func(ctx context.Context, args []string) error {
			var text string
			if err := o.call(ctx, "journal", args, &text); err != nil {
				return err
			}
			if o.json {
				fmt.Fprint(s.out, text)
				return nil
			}
			return printJournal(s, args[0], args[1], text)
		})
	command.Long = strings.Replace(command.Long, "0    done\n", "0    done\n  1    what is kept is not what the host wrote, or not whole\n", 1)
	return command
}

// printJournal shows a host's journal as a run is shown.
func printJournal(s streams, run, host, text string) error {
	events, err := history.Read(strings.NewReader(text))
	if len(events) > 0 {
		fmt.Fprintf(s.out, "run %s on %s, from %s\n", run, host, events[0].At.Local().Format(time.DateTime))
		showAgain(s, events)
	}
	if err != nil {
		return &drill.Error{Op: "fleet journal", Host: host, Kind: drill.Failed, Err: err, Hint: "the lines as they are: firedrill fleet journal --json " + run + " " + host}
	}
	return nil
}

func newFleetStopCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("stop RUN", "End one run on all of its hosts", "Ends one run on all of its hosts. To end everything: firedrill halt --all.", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		var run fleet.Run
		if err := o.call(ctx, "stop", args[0], &run); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, run)
		}
		fmt.Fprintf(s.out, "the hosts of run %s are told to end it; see: firedrill fleet run %s\n", run.ID, run.ID)
		return nil
	})
}

func newFleetHaltCommand(s streams, o *fleetOptions) *cobra.Command {
	var far farFleet
	command := fleetCommand("halt", "The same as firedrill halt --all", "Ends everything on every host and engages the lever. The same as firedrill halt --all.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		far.server, far.credentials, far.json = o.server, o.credentials, o.json
		return haltFleet(ctx, s, far)
	})
	command.Flags().StringVar(&far.reason, "reason", "", "why, for those who wonder")
	return command
}

// haltedShown is how many hosts are named that are as they were; all that are not, or may not be, are named below them.
const haltedShown = 20

// haltedText is what became of a halt on the hosts that are as they were.
func haltedText(report fleet.HaltReport) string {
	shown, more := report.Halted, ""
	if len(shown) == 0 {
		return fmt.Sprintf("attacks ended: %d; no host is there that says that nothing is in force", report.Ended)
	}
	if len(shown) > haltedShown {
		shown, more = shown[:haltedShown], fmt.Sprintf(" and %d more", len(shown)-haltedShown)
	}
	return fmt.Sprintf("attacks ended: %d; nothing is in force on %s%s", report.Ended, strings.Join(shown, ", "), more)
}

// haltFleet ends everything on every host.
func haltFleet(ctx context.Context, s streams, far farFleet) error {
	o := far.options()
	var report fleet.HaltReport
	err := o.call(ctx, "halt", fleet.HaltRequest{Reason: far.reason}, &report)
	if report.Lever.Epoch == 0 && err != nil {
		return err
	}
	if o.json {
		err = errors.Join(err, printJSON(s, report))
	} else {
		fmt.Fprintln(s.out, haltedText(report))
		for _, name := range report.Absent {
			fmt.Fprintf(s.out, "%s is not there; without the server it has ended by itself\n", name)
		}
		fmt.Fprintln(s.out, "the lever is engaged: nothing begins until firedrill fleet release")
	}
	if len(report.Left) > 0 {
		var left []string
		for _, name := range slices.Sorted(maps.Keys(report.Left)) {
			left = append(left, name+": "+strings.TrimSpace(report.Left[name]))
		}
		err = errors.Join(&drill.Error{Op: "halt --all", Kind: drill.NotReverted, Err: errors.New(strings.Join(left, "; ")), Hint: "on each of them, as root: firedrill halt"}, err)
	}
	return err
}

func newFleetLeverCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("lever", "Show whether the lever is engaged, and by whom", "Shows whether the lever is engaged, which blocks all new runs, and by whom.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var lever fleet.Lever
		if err := o.call(ctx, "lever", nil, &lever); err != nil {
			return err
		}
		return printLever(s, *o, lever)
	})
}

func newFleetReleaseCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("release", "Release the lever: runs may begin again", "Releases the lever, so that runs may begin again. Your name is written down.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var lever fleet.Lever
		if err := o.call(ctx, "release", nil, &lever); err != nil {
			return err
		}
		return printLever(s, *o, lever)
	})
}

func printLever(s streams, o fleetOptions, lever fleet.Lever) error {
	switch {
	case o.json:
		return printJSON(s, lever)
	case lever.Engaged:
		fmt.Fprintf(s.out, "engaged by %s at %s: %s\n", lever.By, lever.At.Local().Format(time.RFC3339), orDash(lever.Reason))
	case lever.Released != "":
		fmt.Fprintf(s.out, "released by %s at %s: runs may begin\n", lever.Released, lever.ReleasedAt.Local().Format(time.RFC3339))
	default:
		fmt.Fprintln(s.out, "released: runs may begin")
	}
	return nil
}

// joinToken is what a host joins with.
type joinToken struct {
	Address string `json:"address"`
	Token   string `json:"token"`
}

// apiToken is what a program speaks to the HTTPS API with.
type apiToken struct {
	Token string `json:"token"`
}

func newFleetTokenCommand(s streams, o *fleetOptions) *cobra.Command {
	var request fleet.TokenRequest
	valid := "1h"
	command := fleetCommand("token", "Make a token with which hosts join", "Makes a token with which hosts join, and prints the command for them. It is shown once.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		seconds, err := drill.ParseSeconds(valid)
		if err != nil {
			return &drill.Error{Op: "--valid", Kind: drill.Invalid, Err: err}
		}
		request.Valid = seconds
		c, credentials, err := o.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		var token string
		if err := askIn(c, "token", request, &token); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, joinToken{Address: credentials.Address, Token: token})
		}
		fmt.Fprintf(s.out, "firedrill agent join %s %s\n", credentials.Address, token)
		return nil
	})
	command.Flags().IntVar(&request.Uses, "uses", 1, "how many hosts may join with it")
	command.Flags().StringVar(&valid, "valid", valid, "for how long, 7d at most")
	return command
}

func newFleetAPITokenCommand(s streams, o *fleetOptions) *cobra.Command {
	var request fleet.APITokenRequest
	valid := "90d"
	command := fleetCommand("api-token NAME", "Make a token with which a program speaks to the HTTPS API", `Makes a token with which a program speaks to the HTTPS API (firedrill server --fleet-http), for what --may names and nothing else. It is shown
once. What there is to be asked is described at /v1/openapi.json. firedrill fleet revoke NAME puts it out.`, cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		seconds, err := drill.ParseSeconds(valid)
		if err != nil {
			return &drill.Error{Op: "--valid", Kind: drill.Invalid, Err: err}
		}
		request.Name, request.Valid = args[0], seconds
		var token string
		if err := o.call(ctx, "apitoken", request, &token); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, apiToken{Token: token})
		}
		fmt.Fprintln(s.out, token)
		return nil
	})
	command.Flags().StringSliceVar(&request.Scopes, "may", nil, "one or more of: "+strings.Join(control.Scopes(), ", "))
	command.Flags().StringVar(&valid, "valid", valid, "for how long, 366d at most")
	return command
}

func newFleetMembersCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("members", "List who may speak to the server: hosts and people", "Lists who may speak to the server, hosts and people, and who was put out.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var members []fleet.Member
		if err := o.call(ctx, "members", nil, &members); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, members)
		}
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tROLE\tSINCE\tBY\tPUT OUT\tKEY")
		for _, m := range members {
			out := "-"
			if m.Revoked != nil {
				out = m.Revoked.Local().Format(time.DateTime)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Role, m.Since.Local().Format(time.DateTime), m.By, out, m.Key)
		}
		return table.Flush()
	})
}

func newFleetAddCommand(s streams, o *fleetOptions) *cobra.Command {
	role, out := fleet.RoleOperator, ""
	var services, attacks []string
	command := fleetCommand("add NAME", "Let a person in, and write credentials for them", `Makes a key for a person or a program of theirs, lets it in, and writes its credentials into a file for them alone. The server keeps the public
half of the key.

  viewer    sees everything, and may halt: stopping is easier than starting, on purpose
  operator  may also attack, and release the lever
  admin     may also let in and put out`, cobra.ExactArgs(1), func(_ context.Context, args []string) error {
		c, credentials, err := o.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		path := cmp.Or(out, args[0]+".fleet.json")
		if _, err := os.Stat(path); err == nil {
			return &drill.Error{Op: "fleet add", Kind: drill.Invalid, Err: fmt.Errorf("%s is there already", path), Hint: "name another file with --out"}
		}
		seed, key, err := client.NewKey()
		if err != nil {
			return err
		}
		var added fleet.Member
		if err := askIn(c, "add", fleet.Member{Key: key, Name: args[0], Role: role, Services: services, Kinds: attacks}, &added); err != nil {
			return err
		}
		credentials = fleet.Credentials{Address: credentials.Address, Pin: credentials.Pin, Name: args[0], Seed: seed}
		if err := durable.Save(path, credentials); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, added)
		}
		fmt.Fprintf(s.out, "%s may come in as %s; the credentials are in %s: hand them over by a way that nobody reads, to ~/.config/firedrill/fleet.json\n", added.Name, added.Role, path)
		return nil
	})
	command.Flags().StringVar(&role, "role", role, "viewer, operator or admin")
	command.Flags().StringSliceVar(&services, "service", nil, "may attack hosts of this service alone; repeat for more (default all)")
	command.Flags().StringSliceVar(&attacks, "kind", nil, "may attack with this kind alone; repeat for more (default all)")
	command.Flags().StringVar(&out, "out", "", "file for the credentials (default: NAME.fleet.json)")
	return command
}

func newFleetRevokeCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("revoke NAME", "Put a host or a person out, at once", "Puts a host or a person out: the connection is cut, and the key is good for nothing any more. What a host has in force by order\nit reverts, because it hears the server no more.", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		var member fleet.Member
		if err := o.call(ctx, "revoke", args[0], &member); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, member)
		}
		fmt.Fprintf(s.out, "%s %s is put out\n", member.Role, member.Name)
		return nil
	})
}
