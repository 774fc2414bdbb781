//go:build !hostpart

package cli

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/lab"
)

// Command returns the command line as a tree, for the reference pages that are generated from it.
func Command() *cobra.Command {
	return newRootCommand(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
}

// wholeReexec does the work of a process that this program started from itself, if this is one, and returns its exit code. A part of a lab
// does not return.
func wholeReexec(args []string, out, errOut io.Writer) (code int, ours bool) {
	lab.Reexec()
	return hostfacts.Reexec(args, out, errOut)
}

// handOver does nothing: this program does all that it is asked for.
func handOver([]string) error { return nil }

func newRootCommand(s streams) *cobra.Command {
	root := newBareRoot(s)
	root.AddGroup(&cobra.Group{ID: "run", Title: "Rehearse:"}, &cobra.Group{ID: "host", Title: "On a host:"}, &cobra.Group{ID: "fleet", Title: "On many hosts:"}, &cobra.Group{ID: "stay", Title: "What stays on:"}, &cobra.Group{ID: "look", Title: "Look back:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	add("run", newDemoCommand(s), newProveCommand(s), newDrillsCommand(s), newSchemaCommand(s), newPipelineCommand(s), newPlanCommand(s), newLintCommand(s), newRunCommand(s), newDeployCommand(s), newRollbackCommand(s), newLockCommand(s), newUnlockCommand(s), newLabCommand(s), newPlaybookCommand(s), newImportCommand(s))
	add("host", newWholeAttackCommand(s), newHaltCommand(s), newStatusCommand(s), newDoctorCommand(s))
	add("fleet", newFleetCommand(s), newAgentCommand(s))
	add("stay", newWatchCommand(s), newAuthorityCommand(s), newFailoverCommand(s), newDatabaseCommand(s), newServerCommand(s), newScheduleCommand(s))
	add("look", newJudgeCommand(s), newReportCommand(s), newVerifyCommand(s), newStageCommand(s), newAttestCommand(s), newKeyCommand(s))
	root.AddCommand(newProbeCommand(s), newBookstoreCommand(s), newVersionCommand(s), newRecoverCommand(s))
	dress(root)
	root.Flags().String(serverFlag, "", "the server of a fleet, through which the command after it acts; as HOST[:PORT] or https://HOST:PORT#PIN")
	return root
}

// versionInfo is what version prints as JSON.
type versionInfo struct {
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Version  string `json:"version"`
}

func newVersionCommand(s streams) *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what it was built with",
		Long:  "Prints the version, and what it was built with." + printExitStatus,
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(s, versionInfo{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Version: version()})
			}
			fmt.Fprintf(s.out, "firedrill %s, %s, %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}
