//go:build hostpart

package cli

import (
	"io"

	"github.com/spf13/cobra"
)

// newRootCommand makes the commands of the host part. The rules of tools/build let no other command line come here.
func newRootCommand(s streams) *cobra.Command {
	root := newBareRoot(s)
	root.AddCommand(newAttackCommand(s), newHaltCommand(s), newStatusCommand(s), newRecoverCommand(s), newProbeCommand(s))
	dress(root)
	return root
}

// wholeReexec is for processes that only the whole program starts.
func wholeReexec([]string, io.Writer, io.Writer) (code int, ours bool) { return 0, false }
