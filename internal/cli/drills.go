//go:build !hostpart

package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/ready"
)

func newDrillsCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "drills",
		Short: "Ready-made drills for the common failures: read about them, and add them to a service file",
		Long: `Lists, shows and adds ready-made drills: losing a dependency, a host, a zone, DNS, the database; slow dependencies, hung processes, full
disks, clocks that jump, certificates that expire, and the storm of retries after a recovery. Each has a page that says what a healthy
service does.` + printExitStatus,
	}
	command.AddCommand(newDrillsListCommand(s), newDrillsShowCommand(s), newDrillsAddCommand(s))
	return command
}

func newDrillsListCommand(s streams) *cobra.Command {
	asJSON := false
	command := &cobra.Command{
		Use:   "list",
		Short: "List the ready-made drills",
		Long:  "Lists the ready-made drills with what each is about." + printExitStatus,
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := ready.All()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(s, all)
			}
			table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			for _, d := range all {
				fmt.Fprintf(table, "%s\t%s\n", d.Name, d.Title)
			}
			return table.Flush()
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the pages")
	return command
}

func readyNames() []string {
	all, err := ready.All()
	if err != nil {
		return nil // completion says nothing then
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
	}
	return names
}

func completeReady(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return readyNames(), cobra.ShellCompDirectiveNoFileComp
}

func newDrillsShowCommand(s streams) *cobra.Command {
	asJSON := false
	command := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show the page of a ready-made drill",
		Long:              "Shows what a healthy service does, what to expect, what the drill needs, and the drill itself." + printExitStatus,
		Args:              exactly("NAME"),
		ValidArgsFunction: completeReady,
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := ready.Find(args[0])
			switch {
			case err != nil:
				return err
			case asJSON:
				return printJSON(s, d)
			}
			_, err = fmt.Fprintln(s.out, strings.TrimSpace(d.Page))
			return err
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

func newDrillsAddCommand(s streams) *cobra.Command {
	var choices ready.Choices
	file, dryRun := defaultFile, false
	command := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a ready-made drill to a service file",
		Long: `Fills a ready-made drill with the names of the service file (its dependencies, the alarms on them, its objectives) and adds it below
drills:. Everything else in the file stays as it is, comments too. What the file does not tell is asked for by a flag.

EXIT STATUS
  0    added, or with --dry-run printed
  2    usage, the service file is wrong, or something is missing that the drill needs
  4    the file has a drill of this name
  70   our own fault`,
		Example:           "  firedrill drills add lose-dependency\n  firedrill drills add hung-process --process 'gunicorn'\n  firedrill run lose-dependency --dry-run",
		Args:              exactly("NAME"),
		ValidArgsFunction: completeReady,
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := ready.Find(args[0])
			if err != nil {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return &drill.Error{Op: "read the service file", Kind: drill.Invalid, Err: err, Hint: "Name it with --file, or stand in its directory."}
			}
			added, err := d.Add(text, file, choices)
			if err != nil {
				return err
			}
			if dryRun {
				_, err := s.out.Write(added)
				return err
			}
			if err := writeWhole(file, func(w io.Writer) error { _, err := io.Copy(w, bytes.NewReader(added)); return err }); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "added %s to %s; see what it would do: firedrill run %s --file %s --dry-run\n", d.Name, file, d.Name, file)
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVarP(&file, "file", "f", defaultFile, "service file")
	flags.StringVar(&choices.Dependency, "dependency", "", "dependency that is taken away (default: the first that an alarm watches)")
	flags.StringVar(&choices.Process, "process", "", "part of the command line of the process that hangs")
	flags.StringVar(&choices.Directory, "directory", "", "directory on the volume that is full")
	flags.StringVar(&choices.Connect, "connect", "", "TLS endpoint whose certificate is looked at, as shop.example.com:443")
	flags.BoolVar(&dryRun, "dry-run", false, "print the file as it would be, and change nothing")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // fails only for a flag that is not defined
	return command
}
