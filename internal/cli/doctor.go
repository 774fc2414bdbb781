//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"firedrill/internal/attack"
	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
)

// diagnosis is what doctor prints as JSON.
type diagnosis struct {
	Facts   hostfacts.Facts `json:"facts"`
	Attacks []kindHere      `json:"attacks"`
}

// kindHere is a kind of attack, and whether it can run on this host.
type kindHere struct {
	drill.AttackKind
	Here hostfacts.Can `json:"here"`
}

// newDoctorCommand makes "firedrill doctor".
func newDoctorCommand(s streams) *cobra.Command {
	var asJSON bool
	var options hostfacts.Options
	var far fleetOptions
	doctorCmd := &cobra.Command{
		Use:   "doctor [HOST...]",
		Short: "Find out what this kernel, this host and you can do, and which attacks can run",
		Long: "Finds out what this kernel, this host and you can do, and which attacks can run. Nothing on the host is changed: what the kernel can\n" +
			"do with packets is tried in a network namespace that is thrown away.\n\n" +
			"With --server it tells what hosts of a fleet said of themselves, of all or those that are named: whether they are there, their kernel, and\n" +
			"which attacks cannot run on them.\n\n" +
			"EXIT STATUS\n  0    every attack can run here, or there\n  2    usage: a wrong flag or argument\n  3    the server cannot be reached\n" +
			"  4    some cannot; each line says why, and the cure; or a host is not there, or your role does not allow it\n  70   our own fault",
		Args: func(command *cobra.Command, args []string) error {
			if far.remote() {
				return nil
			}
			return cobra.NoArgs(command, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if far.remote() {
				far.json = asJSON
				if err := withServer(cmd, "dir"); err != nil {
					return err
				}
				return doctorFar(cmd.Context(), s, far, args)
			}
			found := diagnose(cmd.Context(), options)
			if asJSON {
				if err := printJSON(s, found); err != nil {
					return err
				}
			} else if err := printDiagnosis(s, found); err != nil {
				return err
			}
			for _, kind := range found.Attacks {
				if kind.Here.State != hostfacts.Yes {
					return exitError{code: exitRefused}
				}
			}
			return nil
		},
	}
	doctorCmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	doctorCmd.Flags().StringVar(&options.Directory, "dir", "/tmp", "directory that disk and io would write to")
	far.addServer(doctorCmd.Flags())
	return doctorCmd
}

// diagnose looks at the host, and at each kind in that light.
func diagnose(ctx context.Context, options hostfacts.Options) diagnosis {
	// Without a directory for journals the fact about it says so.
	options.Journal, _ = attack.JournalDir()
	found := diagnosis{Facts: hostfacts.Probe(ctx, options)}
	for _, kind := range kinds.All() {
		described := kind.Describe()
		here := found.Facts.Here(described)
		// A kind may know of itself what no list of needs can say.
		if checker, ok := kind.(attack.Checker); ok && here.State == hostfacts.Yes {
			if err := checker.Check(ctx); err != nil {
				here = hostfacts.Can{State: hostfacts.No, Reason: err.Error(), Cure: drill.HintOf(err)}
			}
		}
		if described.Needs == nil {
			described.Needs = []string{} // nothing, not unknown
		}
		found.Attacks = append(found.Attacks, kindHere{AttackKind: described, Here: here})
	}
	return found
}

func printDiagnosis(s streams, found diagnosis) error {
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NEED\tHERE\tWHAT IT IS FOR")
	for _, fact := range found.Facts {
		fmt.Fprintf(table, "%s\t%s\t%s\n", fact.Need, fact.State, fact.For)
		if fact.Detail != "" {
			fmt.Fprintf(table, "\t\t  seen: %s\n", fact.Detail)
		}
		if fact.Cure != "" {
			fmt.Fprintf(table, "\t\t  cure: %s\n", fact.Cure)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	table = tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ATTACK\tHERE\tWHY")
	for _, kind := range found.Attacks {
		fmt.Fprintf(table, "%s\t%s\t%s\n", kind.Name, kind.Here.State, kind.Here.Reason)
		if kind.Here.Cure != "" {
			fmt.Fprintf(table, "\t\t  cure: %s\n", kind.Here.Cure)
		}
	}
	return table.Flush()
}
