//go:build attackpart

package cli

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/attack/policy"
	"firedrill/internal/drill"
)

// newRootCommand makes the one command of the attack part. handOver lets no other command line come here.
func newRootCommand(s streams) *cobra.Command {
	root := newBareRoot(s)
	root.AddCommand(newAttackCommand(s))
	dress(root)
	return root
}

// handOver starts the host part in the place of this process when the command line or the host asks for more than this part can: a kind that
// is not in it, Kubernetes pods, whose runtimes it does not know, or rules of the host's owner. It returns only when that fails, or when there is nothing to hand over.
func handOver(args []string) error {
	if len(args) > 2 {
		pods := slices.ContainsFunc(args[3:], func(arg string) bool { return strings.HasPrefix(arg, "--pod") })
		if _, _, known := kinds.Find(args[2]); known && !pods && policy.Absent(policy.File) {
			return nil
		}
	}
	err := unix.Exec("/proc/self/exe", append([]string{attack.ByHostPart}, args[1:]...), os.Environ())
	return &drill.Error{Op: "attack", Kind: drill.Refused, Err: errors.Join(errors.New("not attacking: the program could not be started again"), err),
		Hint: "the host must let this program start itself, by /proc/self/exe"}
}
