//go:build !hostpart

package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/attack/kinds"
)

// newWholeAttackCommand is newAttackCommand with the list of kinds, which takes more than an attack needs.
func newWholeAttackCommand(s streams) *cobra.Command {
	attackCmd := newAttackCommand(s)
	attackCmd.AddCommand(newAttackListCommand(s))
	return attackCmd
}

func newAttackListCommand(s streams) *cobra.Command {
	var asJSON bool
	listCmd := &cobra.Command{
		Use:   "list",
		Short: "List the kinds of attacks with their flags",
		Long: "Lists the kinds of attacks with their flags, and what remains of each if all of us die at once. With --json also what each needs,\n" +
			"and whether this host has it; see: firedrill doctor." + printExitStatus,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(s, diagnose(cmd.Context(), hostfacts.Options{}).Attacks)
			}
			return printKinds(s)
		},
	}
	listCmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return listCmd
}

func printKinds(s streams) error {
	for i, kind := range kinds.Describe() {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		fmt.Fprintf(s.out, "%s (%s): %s\n", kind.Name, kind.Group, kind.Summary)
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		for _, flag := range kind.Flags {
			usage := flag.Usage
			if flag.Default != "" {
				usage += " (default " + flag.Default + ")"
			}
			short := "    "
			if flag.Short != "" {
				short = "-" + flag.Short + ", "
			}
			fmt.Fprintf(table, "  %s--%s\t%s\t%s\n", short, flag.Name, flag.Type, usage)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "  if all of us die, remains: %s\n", kind.Remains)
	}
	return nil
}
