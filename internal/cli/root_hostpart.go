//go:build hostpart && !attackpart

package cli

import "github.com/spf13/cobra"

// newRootCommand makes the commands of the host part. The rules of tools/build let no other command line come here.
func newRootCommand(s streams) *cobra.Command {
	root := newBareRoot(s)
	root.AddCommand(newAttackCommand(s), newHaltCommand(s), newStatusCommand(s), newRecoverCommand(s), newProbeCommand(s))
	dress(root)
	return root
}

// handOver does nothing: this part does all that it is asked for.
func handOver([]string) error { return nil }
