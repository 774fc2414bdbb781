//go:build !hostpart

package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/schema"
)

func newSchemaCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "schema [NAME]",
		Short: "Print a JSON Schema: of the service file, of plans, events or verdicts",
		Long: `Prints the JSON Schema (draft 2020-12) of what you write and what programs read: ` + strings.Join(schema.Names, ", ") + ` (default: service). Editors
complete and check a service file with it: put this line at its top.

  # yaml-language-server: $schema=firedrill.schema.json` + printExitStatus,
		Example:   "  firedrill schema > firedrill.schema.json\n  firedrill schema event",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: schema.Names,
		RunE: func(_ *cobra.Command, args []string) error {
			name := schema.Names[0]
			if len(args) == 1 {
				name = args[0]
			}
			made, err := schema.Of(name, kinds.Describe())
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
