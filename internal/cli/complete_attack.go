package cli

import (
	"net"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
)

// completer gives what can stand where the cursor is.
type completer = func(command *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective)

// completeAttackFlag offers values for a flag of an attack.
func completeAttackFlag(flag drill.AttackFlag) completer {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var values []cobra.Completion
		switch flag.Name {
		case "device":
			interfaces, err := net.Interfaces()
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, device := range interfaces {
				values = append(values, device.Name)
			}
		default:
			values = flag.OneOf
		}
		return values, cobra.ShellCompDirectiveNoFileComp
	}
}
