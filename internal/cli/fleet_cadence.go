//go:build !hostpart

package cli

import (
	"cmp"
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/notify"
	"firedrill/internal/schedule"
)

func newFleetCadenceCommand(s streams, o *fleetOptions) *cobra.Command {
	return &cobra.Command{
		Use: "cadence", Short: "List how often drills are wanted, and which are due", Args: cobra.NoArgs,
		Long: `Lists the drills for which a service file states a cadence (drills: NAME: cadence: 28d): when each was run last with a verdict that says something, and
whether the next one is due, or overdue, which is late by a quarter of the cadence. A drill that was inconclusive or skipped does not count.

EXIT STATUS
  0    every cadence is kept
  1    a drill is due or overdue
  2    usage: a wrong flag or argument
  3    the server cannot be reached
  4    refused: your role
  70   our own fault`,
		Example: "  firedrill fleet cadence",
		RunE: func(command *cobra.Command, _ []string) error {
			var all []fleet.Cadence
			if err := o.call(command.Context(), "cadences", nil, &all); err != nil {
				return err
			}
			if o.json {
				if err := printJSON(s, all); err != nil {
					return err
				}
			} else if err := printCadences(s, all); err != nil {
				return err
			}
			for _, one := range all {
				if one.State != schedule.CadenceKept {
					return exitError{exitFailed}
				}
			}
			return nil
		},
	}
}

func printCadences(s streams, all []fleet.Cadence) error {
	if len(all) == 0 {
		fmt.Fprintln(s.out, "no service file that the server knows states a cadence: drills: NAME: cadence: 28d")
		return nil
	}
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVICE\tDRILL\tSTATE\tLAST\tVERDICT\tDUE\tWHAT")
	for _, one := range all {
		last := ""
		if !one.Last.IsZero() {
			last = one.Last.Local().Format(time.DateTime)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", one.Service, one.Drill, one.State, orDash(last), orDash(one.Outcome), one.Due.Local().Format(time.DateTime), one.Text)
	}
	return table.Flush()
}

// newsTeller tells the webhook of a server what its people should hear.
func newsTeller(urlFile, keyFile string) (tell func(context.Context, fleet.News) error, err error) {
	if urlFile == "" {
		if keyFile != "" {
			return nil, &drill.Error{Op: "--notify-key-file", Kind: drill.Invalid, Err: fmt.Errorf("there is nobody to be told"), Hint: "Name the file with the address: --notify-url-file."}
		}
		return nil, nil //nolint:nilnil // nobody is told
	}
	action := drill.Action{Name: "notify", Webhook: &drill.HTTPAction{URLFile: urlFile, KeyFile: keyFile}}
	if err := notify.Check(action, "."); err != nil {
		return nil, err
	}
	return func(ctx context.Context, news fleet.News) error {
		return notify.Deliver(ctx, action, ".", notify.Notice{Service: cmp.Or(news.Service, "fleet"), Alarm: news.Name, From: news.From, To: news.To, Reason: news.Text, At: news.At})
	}, nil
}
