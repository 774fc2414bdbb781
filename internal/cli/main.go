package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"

	"firedrill/internal/attack/kinds"
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

const exitStatusHelp = `
EXIT STATUS
  0    passed, with proof
  1    failed: the gate
  2    usage: a flag or a file is wrong
  3    inconclusive: nothing proves that it bit, or that it held
  4    refused by a safeguard
  5    impact not reverted: call a human
  70   our own fault
  130  interrupted (143: terminated), impact reverted`

// streams are what a command may read and write. Commands never touch os.Stdin, os.Stdout or os.Stderr.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Main runs the command line and returns the exit code. args[0] is the program's name. A process that was started as a part of a lab
// does that work instead and does not return; one that was started as an attack's worker does that.
func Main(args []string, in io.Reader, out, errOut io.Writer) (code int) {
	if code, hidden := standGuard(); hidden {
		return code
	}
	if code, ours := kinds.Worker(args); ours {
		return code
	}
	if code, ours := wholeReexec(args, out, errOut); ours {
		return code
	}
	s := streams{in: in, out: out, err: errOut}
	defer func() {
		if fault := recover(); fault != nil {
			fmt.Fprintf(s.err, "firedrill: a fault of our own: %v\n  Impact ends with this process, or at its deadline. Please report this:\n%s\n", fault, debug.Stack())
			code = exitInternal
		}
	}()
	if err := handOver(args); err != nil {
		return finish(s, err)
	}
	root := commandFor(s, args[1:])
	root.SetArgs(args[1:])
	return finish(s, root.ExecuteContext(context.Background()))
}

// commandFor makes as much of the command line as args need. An attack must bite at once, and the whole tree takes a tenth of the time until
// then.
func commandFor(s streams, args []string) *cobra.Command {
	if len(args) < 2 || args[0] != "attack" {
		return newRootCommand(s)
	}
	kind, described, found := kinds.Find(args[1])
	if !found {
		return newRootCommand(s)
	}
	root := newBareRoot(s)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newAttackCommandFor(s, kind, described))
	dressAll(root)
	return root
}

func newBareRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "firedrill",
		Short: "Rehearse disasters in production and prove that the service survives them",
		Long: `firedrill deploys a service to blue and green over SSH, breaks what it stands on, watches whether the alarms are raised, DNS fails over
and the data survives, always takes the damage back, and says passed only with proof.

  firedrill demo                       see all of it on this machine, without root
  firedrill pipeline                   run the pipeline of ./firedrill.yaml
  firedrill attack blackhole -l 60 -h ^control.example.com,db.example.com
  firedrill halt                       end every attack on this host at once
` + exitStatusHelp,
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
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
		return exitUsage // cobra's own words on commands and arguments
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
