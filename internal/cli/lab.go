//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"firedrill/internal/drill"
	"firedrill/internal/lab"
)

const labExitStatus = `

EXIT STATUS
  0    done
  2    usage, or a mistake in the topology file
  3    the lab or the host is not up
  4    the lab is up already, or this machine lacks what it needs
  70   our own fault
  130  interrupted; nothing is left`

// newLabCommand makes "firedrill lab": hosts to rehearse on, out of Linux namespaces.
func newLabCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "lab",
		Short: "Make hosts on this machine to rehearse on",
		Long: `Make hosts out of Linux namespaces, as a topology file describes them: each with its own init, address, processes, names and files,
joined by one network that leads nowhere else. No root is needed. A lab leaves nothing on the machine: all of it lives in the memory of
its processes, and ends with them.` + labExitStatus,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("lab", "there is no lab command %q; %s", args[0], drill.Suggest(args[0], available(command)))
			}
			return nil
		},
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(newLabUpCommand(s), newLabDownCommand(s), newLabStatusCommand(s), newLabExecCommand(s), newLabBootCommand(s))
	return command
}

// exactly is cobra.ExactArgs with words that say what belongs there.
func exactly(names ...string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return &drill.Error{
			Op: command.CommandPath(), Kind: drill.Invalid, Err: fmt.Errorf("%d arguments where %s belongs", len(args), strings.Join(names, " ")),
			Hint: "usage: " + command.UseLine(),
		}
	}
}

func newLabUpCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:               "up FILE",
		ValidArgsFunction: completeFiles(1, "yaml", "yml"),
		Short:             "Make the lab of a topology file",
		Long:              "Make the lab of a topology file, and return when all of its hosts are up. It stays until `firedrill lab down FILE`." + labExitStatus,
		Args:              exactly("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			topology, err := readTopology(args[0])
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			started := time.Now()
			err = lab.Daemonize(ctx, topology, lab.Options{Progress: func(line string) { fmt.Fprintln(s.out, line) }})
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "lab %s is up: %d hosts in %.2f s\n", topology.Name, len(topology.Hosts), time.Since(started).Seconds())
			return nil
		},
	}
}

func newLabDownCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:               "down FILE",
		ValidArgsFunction: completeFiles(1, "yaml", "yml"),
		Short:             "End the lab",
		Long:              "End the lab and all that runs in it. Of a lab that is not up there is nothing to end: that is no error." + labExitStatus,
		Args:              exactly("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			topology, err := readTopology(args[0])
			if err != nil {
				return err
			}
			l, err := lab.Attach(command.Context(), topology.Name)
			if drill.KindOf(err) == drill.Unreachable {
				fmt.Fprintf(s.out, "lab %s is not up\n", topology.Name)
				return nil
			}
			if err != nil {
				return err
			}
			if err := l.Down(command.Context()); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "lab %s is down\n", topology.Name)
			return nil
		},
	}
}

func newLabStatusCommand(s streams) *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:               "status FILE",
		ValidArgsFunction: completeFiles(1, "yaml", "yml"),
		Short:             "Tell which hosts are up and what runs on them",
		Long:              "Tell which hosts are up and what runs on them." + labExitStatus,
		Args:              exactly("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			l, err := attachLab(command.Context(), args[0])
			if err != nil {
				return err
			}
			hosts, err := l.Status(command.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(s, hosts)
			}
			return printLabStatus(s.out, hosts)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

func printLabStatus(out io.Writer, hosts []lab.HostStatus) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tADDRESS\tSTATE\tSINCE\tBOOTS\tSERVICES")
	for _, h := range hosts {
		services := make([]string, 0, len(h.Services))
		for _, service := range h.Services {
			text := service.Name + " " + service.State
			if service.Restarts > 0 {
				text += fmt.Sprintf(" (%d restarts)", service.Restarts)
			}
			services = append(services, text)
		}
		state := string(h.State)
		if h.Reason != "" {
			state += " (" + h.Reason + ")"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", h.Name, h.Address, state, h.Since.Format(time.TimeOnly), h.Boots, strings.Join(services, ", "))
	}
	return table.Flush()
}

func newLabBootCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:               "boot FILE HOST",
		ValidArgsFunction: completeLab,
		Short:             "Start a host that is off",
		Long:              "Start a host that is off, or that a reboot has left dark for its boot delay, and return when it is up." + labExitStatus,
		Args:              exactly("FILE", "HOST"),
		RunE: func(command *cobra.Command, args []string) error {
			l, err := attachLab(command.Context(), args[0])
			if err != nil {
				return err
			}
			if err := l.Boot(command.Context(), args[1]); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "host %s is up\n", args[1])
			return nil
		},
	}
}

func newLabExecCommand(s streams) *cobra.Command {
	var user, directory string
	var terminal bool
	command := &cobra.Command{
		Use:               "exec FILE HOST -- COMMAND...",
		ValidArgsFunction: completeLab,
		Short:             "Run a command on a host",
		Long: `Run a command on a host, with this one's input and output, and exit as it does. Ctrl-C and SIGTERM are passed on. On a terminal the
command gets a terminal too.

EXIT STATUS
  that of the command, 128+n if signal n ended it, 127 if there is no such program
  3    the lab or the host is not up, or went down meanwhile`,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) < 3 || len(args) == 3 && args[2] == "--" {
				return exactly("FILE", "HOST", "COMMAND...")(command, args[:min(len(args), 2)])
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			l, err := attachLab(command.Context(), args[0])
			if err != nil {
				return err
			}
			words := args[2:]
			if words[0] == "--" {
				words = words[1:]
			}
			run := lab.Cmd{Args: words, User: user, Dir: directory, Stdin: s.in, Stdout: s.out, Stderr: s.err, TTY: terminal}
			return labExec(command.Context(), s, l, args[1], run)
		},
	}
	command.Flags().SetInterspersed(false) // flags after HOST are the command's
	command.Flags().StringVarP(&user, "user", "u", "root", "run as this user of the host; others than root only in a lab that root made")
	command.Flags().StringVarP(&directory, "directory", "C", "", "run in this directory of the host (default the user's home)")
	command.Flags().BoolVarP(&terminal, "tty", "t", false, "give the command a terminal (default when this one has one)")
	return command
}

// labExec runs the command and turns its exit code into ours.
func labExec(ctx context.Context, s streams, l *lab.Lab, host string, run lab.Cmd) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	run.Signals = signals
	in, inIsFile := s.in.(*os.File)
	out, outIsFile := s.out.(*os.File)
	if inIsFile && outIsFile && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd())) {
		run.TTY = true
		signal.Notify(signals, syscall.SIGWINCH)
		if columns, rows, err := term.GetSize(int(out.Fd())); err == nil {
			run.Rows, run.Columns = uint16(rows), uint16(columns)
		}
		run.Env = append(run.Env, "TERM="+os.Getenv("TERM"))
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("lab exec: terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), before) }()
	}
	code, err := l.Exec(ctx, host, run)
	if err != nil && code != 0 {
		fmt.Fprintf(s.err, "firedrill: %v\n", err)
		return exitError{code}
	}
	if err == nil && code != 0 {
		return exitError{code}
	}
	return err
}

func attachLab(ctx context.Context, file string) (*lab.Lab, error) {
	topology, err := readTopology(file)
	if err != nil {
		return nil, err
	}
	return lab.Attach(ctx, topology.Name)
}

func readTopology(file string) (lab.Topology, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return lab.Topology{}, &drill.Error{Op: "lab", Kind: drill.Invalid, Err: err, Hint: "Name the topology file of the lab."}
	}
	if err != nil {
		return lab.Topology{}, fmt.Errorf("lab: %w", err)
	}
	topology, err := lab.Parse(text, file)
	if err != nil {
		return topology, err
	}
	// The lab's process works from another directory, so what the file names beside itself must be named in full.
	topology.Directory, err = filepath.Abs(topology.Directory)
	return topology, err
}
