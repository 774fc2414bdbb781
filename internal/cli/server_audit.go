//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/history"
)

func newServerAuditCommand(s streams) *cobra.Command {
	var o backupOptions
	command := &cobra.Command{
		Use: "audit", Short: "Verify the audit log of a server", Args: cobra.NoArgs,
		Long: `Reads the audit log below a server's directory and holds it against what was written: the chain of each file, that each file follows on the one
before, and the first one on the checkpoint, signed by this server, that stands for files which were removed because of their age (firedrill server --keep-for). The
server may run meanwhile; the newest line may then be missing.

EXIT STATUS
  0    it is what was written
  1    it was altered: a line or a file was changed, removed or put in
  2    usage, or there is no server's directory
  70   our own fault`,
		Example: "  firedrill server audit --data /var/lib/firedrill-server",
		RunE: func(*cobra.Command, []string) error {
			proof, err := control.VerifyAudit(filepath.Join(o.data, fleetDirectory))
			if errors.Is(err, history.ErrAltered) {
				return &drill.Error{Op: "audit", Kind: drill.Failed, Err: err, Hint: "What is written there after the place that is named proves nothing. Compare with a backup."}
			}
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(s, proof)
			}
			fmt.Fprintf(s.out, "%d lines in %d files, from %s to %s, are what was written; the last line is %s\n", proof.Lines, proof.Files, proof.From.Format(time.RFC3339), proof.Until.Format(time.RFC3339), proof.Head)
			if removed := proof.Removed; removed != nil {
				fmt.Fprintf(s.out, "removed because of their age, by a checkpoint that this server has signed: %d lines in %d files, from %s to %s\n", removed.Lines, removed.Files, removed.From.Format(time.RFC3339), removed.Until.Format(time.RFC3339))
			}
			if len(proof.Unlinked) > 0 {
				fmt.Fprintf(s.out, "of an older version, which did not write down what they follow: %s\n", strings.Join(proof.Unlinked, ", "))
			}
			return nil
		},
	}
	o.flags(command)
	return command
}

func newFleetPruneCommand(s streams, o *fleetOptions) *cobra.Command {
	var asked fleet.PruneRequest
	command := fleetCommand("prune", "Remove now what is beyond the retention", `Removes now what is beyond the retention of the server (firedrill server --keep-for, --keep-runs); the server does so by itself every ten
minutes. At most five hundred of each go at a time, and the rest soon after.

These stay, whatever the retention says: what is not over, what may not be reverted, the newest verdicts of each drill of each service, what the
schedule names, and the logs of drills of the last year, on which a stage may rest.`, cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var done fleet.Pruned
		if err := o.call(ctx, "prune", asked, &done); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, done)
		}
		word, kept := "removed", "for ever"
		if done.DryRun {
			word = "would be removed"
		}
		if done.Age > 0 {
			kept = fmt.Sprintf("for %.4g days", done.Age.Duration().Hours()/24)
		}
		if done.Most > 0 {
			kept += fmt.Sprintf(", and %d of each", done.Most)
		}
		fmt.Fprintf(s.out, "%s: %d runs, %d drills, %d verdicts, %d audit logs; history is kept %s\n", word, len(done.Runs), len(done.Drills), len(done.Verdicts), done.AuditLogs, kept)
		return nil
	})
	command.Flags().BoolVar(&asked.DryRun, "dry-run", false, "only say what would be removed")
	return command
}
