//go:build !hostpart

package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"firedrill/internal/schema"
)

func newSchemaCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "schema [NAME | COMMAND...]",
		Short: "Print a JSON Schema: of a file that you write, or of what a command prints as JSON",
		Long: `Prints a JSON Schema (draft 2020-12).

  Files that you write       service (default), annex, playbook (its head), topology, zone, policy
  What a run leaves behind   event (a line of run.jsonl), plan, verdict, record, comparison, attestation, approval, rehearsal, stage
  What a command prints      the words of the command, such as lint or fleet hosts: what it prints with --json

Editors complete and check a service file with it: put this line at its top.

  # yaml-language-server: $schema=firedrill.schema.json` + printExitStatus,
		Example: "  firedrill schema > firedrill.schema.json\n  firedrill schema event\n  firedrill schema fleet hosts",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return nextWords(schemaNames(), args), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := schema.Names()[0]
			if len(args) > 0 {
				name = strings.Join(args, " ")
			}
			made, err := schemaOf(name)
			if err != nil {
				return err
			}
			return printJSON(s, made)
		},
	}
	command.Flags().Bool("json", true, "a schema is JSON; this changes nothing")
	_ = command.Flags().MarkHidden("json") // fails only for a flag that is not defined
	return command
}

// nextWords are the words that can follow those that were typed.
func nextWords(names, typed []string) []string {
	var next []string
	for _, name := range names {
		rest, is := strings.CutPrefix(name, strings.Join(append(typed, ""), " "))
		if word, _, _ := strings.Cut(rest, " "); is && word != "" {
			next = append(next, word)
		}
	}
	return next
}
