//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

func newFleetAuditCommand(s streams, o *fleetOptions) *cobra.Command {
	var asked fleet.AuditRequest
	var verify bool
	command := &cobra.Command{
		Use: "audit", Short: "Show or verify what all servers wrote down: who asked for what, and what became of it", Args: cobra.NoArgs,
		Long: `Shows the audit log of all servers of the fleet, the newest line first: by time, and of each server in the order in which it wrote. Whichever
server answers, it is the same; what the one that answers has not put before the others yet is marked with "*". Below stands up to when the log of each server
is known: one that is away may have done more since, and its lines follow when it is back.

With --verify the server that answers reads all of it, and holds each line, entry and signature against what is known of them: what was changed, moved, put there
twice, left out, cut off, or put there in another server's name is named.

EXIT STATUS
  0    done; with --verify: everything is what was written
  1    with --verify: something is not what was written, or is missing
  2    usage: a wrong flag or argument
  3    the server cannot be reached
  4    refused: your role
  70   our own fault`,
		Example: `  firedrill fleet audit
  firedrill fleet audit --contains refused --count 20
  firedrill fleet audit --server c2.example.com --verify --json`,
		RunE: func(command *cobra.Command, _ []string) error {
			if verify {
				return verifyFleetAudit(command.Context(), s, *o)
			}
			var page fleet.AuditPage
			if err := o.call(command.Context(), "audit", asked, &page); err != nil {
				return err
			}
			if o.json {
				return printJSON(s, page)
			}
			showAuditPage(s, page)
			return nil
		},
	}
	flags := command.Flags()
	flags.IntVar(&asked.Count, "count", fleet.AuditShown, fmt.Sprintf("lines, %d at most", fleet.AuditShownMax))
	flags.StringVar(&asked.Contains, "contains", "", "only lines that hold this, without regard to case")
	flags.StringVar(&asked.Server, "of", "", "only lines of this server, by its name")
	flags.StringVar(&asked.From, "from", "", "go on at the place that a page before named")
	flags.BoolVar(&verify, "verify", false, "read all of it, and say whether it is what was written")
	for _, name := range []string{"count", "contains", "of", "from"} {
		command.MarkFlagsMutuallyExclusive("verify", name)
	}
	return command
}

func showAuditPage(s streams, page fleet.AuditPage) {
	width := 0
	for _, line := range page.Lines {
		width = max(width, len(line.Server))
	}
	for _, line := range page.Lines {
		mark, text := " ", line.Text
		if line.Own {
			mark = "*"
		}
		if line.Broken != "" {
			text = "NOT WHAT WAS WRITTEN: " + line.Broken
		}
		fmt.Fprintf(s.out, "%s%s %-*s  %s\n", auditTime(line.At), mark, width, line.Server, text)
	}
	if len(page.Lines) == 0 {
		fmt.Fprintln(s.out, "no line")
	}
	fmt.Fprintln(s.out)
	for _, one := range page.Servers {
		fmt.Fprintf(s.out, "server %s: %s\n", one.Name, howFar(one))
	}
	if page.Problem != "" {
		fmt.Fprintln(s.out, page.Problem)
	}
	if page.Next != "" {
		fmt.Fprintf(s.out, "lines before these: --from %s\n", page.Next)
	}
}

func auditTime(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02T15:04:05.000Z07:00")
}

// howFar says how far the log of a server is known.
func howFar(one fleet.AuditServer) string {
	switch {
	case one.Known.IsZero():
		return "nothing of its log is known yet"
	case one.Stopped:
		return "stopped; its log is known to its end, " + auditTime(one.Known)
	case one.Away:
		return "AWAY; its log is known up to " + auditTime(one.Known)
	}
	return "its log is known up to " + auditTime(one.Known)
}

func verifyFleetAudit(ctx context.Context, s streams, o fleetOptions) error {
	var proof fleet.AuditProof
	if err := o.call(ctx, "auditproof", nil, &proof); err != nil {
		return err
	}
	if o.json {
		if err := printJSON(s, proof); err != nil {
			return err
		}
	} else {
		for _, one := range proof.Chains {
			what := fmt.Sprintf("server %s, chain %s", one.Server, one.Chain[:min(8, len(one.Chain))])
			if one.Life > 1 {
				what += fmt.Sprintf(", life %d", one.Life)
			}
			fmt.Fprintf(s.out, "%s: %d lines, from %s to %s; the last one is %s\n", what, one.Lines, auditTime(one.From), auditTime(one.Until), orDash(one.Head))
			if r := one.Removed; r != nil {
				fmt.Fprintf(s.out, "  removed because of their age, signed by server %s: %d lines, from %s to %s\n", orDash(r.By), r.Lines, auditTime(r.From), auditTime(r.Until))
			}
			if one.LeftOut > 0 {
				fmt.Fprintf(s.out, "  %d lines lie with that server alone, as they are too long\n", one.LeftOut)
			}
			if !one.Known.IsZero() {
				fmt.Fprintf(s.out, "  known up to %s\n", auditTime(one.Known))
			}
		}
		for _, problem := range proof.Problems {
			fmt.Fprintln(s.out, "WRONG: "+problem)
		}
		if len(proof.Problems) == 0 {
			fmt.Fprintf(s.out, "everything is what was written, as server %s has read it\n", proof.Server)
		}
	}
	if len(proof.Problems) > 0 {
		return &drill.Error{Op: "fleet audit", Kind: drill.Failed, Err: fmt.Errorf("the audit log is not what was written: %s", strings.Join(proof.Problems[:1], "")), Hint: "What each server wrote lies in its own directory too: firedrill server audit --data DIRECTORY there, and compare."}
	}
	return nil
}
