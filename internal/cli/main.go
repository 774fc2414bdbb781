package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
)

// The exit codes; every help text lists them.
const (
	exitPassed       = 0
	exitFailed       = 1
	exitUsage        = 2
	exitInconclusive = 3
	exitRefused      = 4
	exitNotReverted  = 5
	exitInternal     = 70
	exitInterrupted  = 130
)

// streams are what a command may read and write. Commands never touch os.Stdin, os.Stdout or os.Stderr.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Main runs the command line and returns the exit code. args[0] is the program's name.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	s := streams{in: in, out: out, err: errOut}
	root := newRootCommand(s)
	root.SetArgs(args[1:])
	err := root.ExecuteContext(context.Background())
	return finish(s, err)
}

func newRootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "firedrill",
		Short:         "Rehearse disasters in production and prove that the service survives them",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	return root
}

// exitError carries an exit code that has been explained to the user already.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// finish prints the error, if any, and returns the exit code for it.
func finish(s streams, err error) int {
	if err == nil {
		return exitPassed
	}
	var exit exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	fmt.Fprintf(s.err, "firedrill: %v\n", err)
	if hint := drill.HintOf(err); hint != "" {
		fmt.Fprintf(s.err, "  %s\n", hint)
	}
	return exitCodeOf(err)
}

func exitCodeOf(err error) int {
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	var known *drill.Error
	if !errors.As(err, &known) {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return exitUsage
		}
		return exitUsage
	}
	switch known.Kind {
	case drill.Invalid:
		return exitUsage
	case drill.Refused, drill.Unsupported:
		return exitRefused
	case drill.Unproven, drill.Unreachable, drill.Timeout:
		return exitInconclusive
	case drill.NotReverted:
		return exitNotReverted
	case drill.Interrupted:
		return exitInterrupted
	case drill.Failed:
		return exitFailed
	case drill.Internal:
		return exitInternal
	}
	return exitInternal
}
