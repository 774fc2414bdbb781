//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/fleet"
)

// fleetStatus is what status prints of a fleet as JSON.
type fleetStatus struct {
	Lever  fleet.Lever      `json:"lever"`
	Hosts  []fleet.HostView `json:"hosts"`
	Runs   []fleet.Run      `json:"runs"`   // that are not over
	Drills []fleet.DrillRun `json:"drills"` // that are not over
}

func newFleetStatusCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("status", "Show what is in force on which hosts, and what goes on. The same as firedrill status --server URL",
		"Shows whether the lever is engaged, what is in force on which hosts, by order or not, which hosts are not there, and the runs and drills that are not\nover. The same as firedrill status --server URL.", cobra.NoArgs,
		func(ctx context.Context, _ []string) error { return statusOfFleet(ctx, s, *o) })
}

func (f farFleet) options() fleetOptions {
	return fleetOptions{server: f.server, credentials: f.credentials, json: f.json}
}

// statusFleet shows how a fleet stands.
func statusFleet(ctx context.Context, s streams, far farFleet) error {
	return statusOfFleet(ctx, s, far.options())
}

func statusOfFleet(ctx context.Context, s streams, o fleetOptions) error {
	c, _, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	var status fleetStatus
	ctx, cancel := context.WithTimeout(ctx, fleetCallMax)
	defer cancel()
	for _, asked := range []struct {
		call string
		into any
	}{{"lever", &status.Lever}, {"hosts", &status.Hosts}, {"runs", &status.Runs}, {"drills", &status.Drills}} {
		if err := c.Call(ctx, asked.call, nil, asked.into); err != nil {
			return err
		}
	}
	status.Runs = slices.DeleteFunc(status.Runs, fleet.Run.Done)
	status.Drills = slices.DeleteFunc(status.Drills, fleet.DrillRun.Done)
	if o.json {
		return printJSON(s, status)
	}
	if err := printLever(s, o, status.Lever); err != nil {
		return err
	}
	return printFleetStatus(s, status, time.Now())
}

func printFleetStatus(s streams, status fleetStatus, now time.Time) error {
	hit, away := 0, 0
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, h := range status.Hosts {
		busy := len(h.Running) > 0 || h.Run != "" // hosts speak every ten seconds, and a run is known at once
		if busy {
			hit++
		}
		if !h.Online {
			away++
		}
		if busy || !h.Online {
			fmt.Fprintf(table, "  %s\t%s\t%s\n", h.Name, forceText(h), there(h, now))
		}
	}
	fmt.Fprintf(s.out, "%d hosts: something is, or may be, in force on %d, %d are not there\n", len(status.Hosts), hit, away)
	if err := table.Flush(); err != nil {
		return err
	}
	for _, run := range status.Runs {
		fmt.Fprintf(s.out, "run %s by %s: %s on %d hosts, %s, %s\n", run.ID, run.By, run.Kind, len(run.Hosts), run.State, endOfRun(run))
	}
	for _, run := range status.Drills {
		fmt.Fprintf(s.out, "drill %s by %s: %s of %s, %s\n", run.ID, run.By, run.Request.Item(), run.Request.Service, run.State)
	}
	return nil
}

// endOfRun says what ends a run: its deadline, or, for one that takes hosts down, whoever powers them on.
func endOfRun(run fleet.Run) string {
	if takesDown(run.Kind) {
		return "until the hosts are powered on and their agents are back"
	}
	return "until " + run.Deadline.Local().Format(time.TimeOnly) + " at the latest"
}

// forceText is what is in force on a host, and until when.
func forceText(h fleet.HostView) string {
	var all []string
	for _, r := range h.Running {
		text := r.Kind
		if r.Order == "" {
			text += " (by hand)"
		}
		if !r.Until.IsZero() {
			text += " until " + r.Until.Local().Format(time.TimeOnly)
		}
		all = append(all, text)
	}
	switch {
	case len(all) == 0 && h.Run != "":
		return "part of run " + h.Run
	case len(all) == 0:
		return "nothing known"
	}
	return strings.Join(all, ", ")
}
