//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

func newFleetScheduleCommand(s streams, o *fleetOptions) *cobra.Command {
	command := &cobra.Command{Use: "schedule", Short: "See and change what the server begins by itself", Args: cobra.NoArgs,
		Long: `Shows and changes the schedule of the server: drills, and attacks that were put there in the dashboard. Each is leashed at first: when it is due it is
only planned, and the schedule says what it would have done, until somebody who may start it unleashes it. Each begins in the name of that person,
with what the person may do then; not while the lever is engaged, outside of its window, on frozen dates, or beside another run of its service.
What is not steady before is not attacked.` + fleetExitStatus,
		Example: "  firedrill fleet schedule add weekly --service bookstore --drill lose-host --cron '0 10 * * TUE Europe/Berlin'\n  firedrill fleet schedule unleash weekly\n  firedrill fleet schedule freeze 2026-12-18..2027-01-04 --reason holidays",
		RunE:    func(command *cobra.Command, _ []string) error { return command.Help() }}
	change := func(use, short, long, call, done string) *cobra.Command {
		return fleetCommand(use, short, long, cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			var one fleet.Scheduled
			if err := o.call(ctx, call, args[0], &one); err != nil {
				return err
			}
			if o.json {
				return printJSON(s, one)
			}
			fmt.Fprintf(s.out, "%s %s\n", one.Name, strings.TrimSpace(done+" "+one.Last+one.Why))
			return nil
		})
	}
	const named = " ENTRY is its name, or its ID where several have the name."
	command.AddCommand(newFleetScheduleListCommand(s, o), newFleetScheduleAddCommand(s, o),
		change("remove ENTRY", "Take an entry off the schedule", "Takes an entry off the schedule."+named, "unschedule", "is off the schedule; the last time:"),
		change("leash ENTRY", "Have an entry only planned when it is due", "Has an entry only planned when it is due. Everybody may: stopping is easier than starting."+named, "leash", "is leashed; the last time:"),
		change("unleash ENTRY", "Let an entry begin by itself, in your name", "Lets an entry begin by itself when it is due, in your name and with what you may do then. Your name is written down."+named, "unleash", "is unleashed; the last time:"),
		change("run ENTRY", "Begin an entry now", "Begins an entry now, in your name, whatever its window and freezes say. A leashed entry is only planned."+named, "runscheduled", "now:"))
	command.AddCommand(newFleetFreezeCommands(s, o)...)
	return command
}

func scheduledWhat(one fleet.Scheduled) string {
	what := strings.TrimSpace(one.Request.Kind + " " + strings.Join(one.Request.Args, " "))
	if one.Drill != nil {
		what = one.Drill.Item() + " of " + one.Drill.Service
	}
	if one.Leashed {
		what += " (leashed)"
	}
	return what
}

func newFleetScheduleListCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("list", "List what begins by itself, and when", "Lists what begins by itself, when each is due next, and what became of it the last time.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var all []fleet.ScheduledView
		if err := o.call(ctx, "scheduled", nil, &all); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, all)
		}
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ENTRY\tNEXT\tWHAT\tWHEN\tBY\tLAST\tID")
		for _, one := range all {
			next := strings.TrimSuffix("never: "+one.Waiting, ": ")
			if !one.Next.IsZero() {
				next = one.Next.Local().Format(time.DateTime)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", one.Name, next, scheduledWhat(one.Scheduled), strings.TrimSpace(one.Cron+" "+one.Window), one.By.Name, orDash(strings.TrimSpace(one.Last+" "+one.Why)), one.ID)
		}
		return table.Flush()
	})
}

func newFleetScheduleAddCommand(s streams, o *fleetOptions) *cobra.Command {
	var request fleet.ScheduleRequest
	var asked fleet.DrillRequest
	var jitter, catchUp string
	command := fleetCommand("add NAME", "Put a drill on the schedule, leashed", "Puts a drill of a service on the schedule, leashed: see what it plans when it is due, then firedrill fleet schedule unleash NAME.", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		request.Name, request.Drill = args[0], &asked
		for _, span := range []struct {
			flag, text string
			into       *drill.Seconds
		}{{"--jitter", jitter, &request.Jitter}, {"--catch-up", catchUp, &request.CatchUp}} {
			if span.text == "" {
				continue
			}
			var err error
			if *span.into, err = drill.ParseSeconds(span.text); err != nil {
				return &drill.Error{Op: span.flag, Kind: drill.Invalid, Err: err}
			}
		}
		var one fleet.Scheduled
		if err := o.call(ctx, "schedule", request, &one); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, one)
		}
		fmt.Fprintf(s.out, "%s is on the schedule, leashed: it is only planned until firedrill fleet schedule unleash %s\n", one.Name, one.Name)
		return nil
	})
	flags := command.Flags()
	flags.StringVar(&asked.Service, "service", "", "service whose file is on the server (required)")
	flags.StringVar(&asked.Drill, "drill", "", "drill of its file (required)")
	flags.StringVar(&asked.On, "on", "", "idle, active, or an environment, in place of the drill's own")
	flags.BoolVar(&asked.Consent, "yes", false, "consent, where a host's policy or the kind of attack asks for it")
	flags.StringVar(&request.Cron, "cron", "", `when: five fields, and a time zone if need be, as "0 10 * * TUE Europe/Berlin" (required)`)
	flags.StringVar(&request.Window, "window", "", `no start outside of it, as "Mon-Fri 09:00-15:00 Europe/Berlin"`)
	flags.StringArrayVar(&request.Freeze, "freeze", nil, "no start on these dates, as 2026-12-18..2027-01-04; repeat for more")
	flags.StringVar(&jitter, "jitter", "", "put each start off by a part of this, 12h at most")
	flags.StringVar(&catchUp, "catch-up", "", "how late a missed start may still be, 7d at most (default 1m)")
	for _, required := range []string{"service", "drill", "cron"} {
		_ = command.MarkFlagRequired(required) // fails only for a flag that is not defined
	}
	return command
}

func newFleetFreezeCommands(s streams, o *fleetOptions) []*cobra.Command {
	show := func(f fleet.Freeze, format string) error {
		if o.json {
			return printJSON(s, f)
		}
		fmt.Fprintf(s.out, format, f.Dates)
		return nil
	}
	var frozen fleet.Freeze
	freeze := fleetCommand("freeze DATES", "Let nothing begin by itself on some dates", "Lets nothing begin by itself on some dates, as 2026-12-18..2027-01-04, with a time zone if need be.", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		frozen.Dates = args[0]
		if err := o.call(ctx, "freeze", frozen, &frozen); err != nil {
			return err
		}
		return show(frozen, "nothing begins by itself on %s\n")
	})
	freeze.Flags().StringVar(&frozen.Reason, "reason", "", "why, for those who wonder")
	lift := fleetCommand("unfreeze DATES", "Lift a freeze", "Lifts a freeze, as its dates were written. Your name is written down.", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		var lifted fleet.Freeze
		if err := o.call(ctx, "unfreeze", args[0], &lifted); err != nil {
			return err
		}
		return show(lifted, "the freeze of %s is lifted\n")
	})
	list := fleetCommand("freezes", "List the freezes", "Lists the dates on which nothing begins by itself.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var all []fleet.Freeze
		if err := o.call(ctx, "freezes", nil, &all); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, all)
		}
		for _, f := range all {
			fmt.Fprintf(s.out, "%s by %s: %s\n", f.Dates, f.By, orDash(f.Reason))
		}
		return nil
	})
	return []*cobra.Command{freeze, lift, list}
}
