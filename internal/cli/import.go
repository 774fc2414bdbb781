//go:build !hostpart

package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/chaostoolkit"
	"firedrill/internal/drill"
	"firedrill/internal/jenkins"
)

func newImportCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "import",
		Short: "Make a service file of what another tool has",
		Long:  "Makes a service file of what another tool has, and lists what could not be carried over, with the reasons." + printExitStatus,
	}
	command.AddCommand(newImportJenkinsCommand(s), newImportChaosToolkitCommand(s))
	return command
}

func newImportJenkinsCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "jenkins CONFIG.XML",
		Short: "Make a service file of a Jenkins job that publishes over SSH",
		Long: `Reads the config.xml of a job with steps of the Publish Over SSH plugin, and prints a service file: hosts, files, restart, and a drill
for each attack among its commands. What the job does not say is marked TODO; what could not be carried over stands in comments at the
top, with the reasons, and is counted on standard error. CONFIG.XML - is standard input.

EXIT STATUS
  0    printed
  2    the file cannot be read, or publishes nothing over SSH
  70   our own fault`,
		Example:           "  firedrill import jenkins config.xml > firedrill.yaml\n  curl -fsS \"$JENKINS_URL/job/deploy/config.xml\" | firedrill import jenkins -",
		Args:              exactly("CONFIG.XML"),
		ValidArgsFunction: completeFiles(1, "xml"),
		RunE: func(_ *cobra.Command, args []string) error {
			return importJenkins(s, args[0])
		},
	}
}

func importJenkins(s streams, name string) error {
	var input io.Reader = s.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return &drill.Error{Op: "read the job", Kind: drill.Invalid, Err: err, Hint: "A job lies in JENKINS_HOME/jobs/NAME/config.xml."}
		}
		defer file.Close()
		input = file
	}
	job, err := jenkins.Read(bufio.NewReader(input))
	if err != nil {
		return err
	}
	result := jenkins.Import(job, kinds.Describe())
	if _, err := io.WriteString(s.out, result.File); err != nil {
		return err
	}
	switch len(result.Left) {
	case 0:
	case 1:
		fmt.Fprintln(s.err, "firedrill: one thing could not be carried over; it stands at the top of the file")
	default:
		fmt.Fprintf(s.err, "firedrill: %d things could not be carried over; they stand at the top of the file\n", len(result.Left))
	}
	return nil
}

func newImportChaosToolkitCommand(s streams) *cobra.Command {
	var asJSON, asList bool
	command := &cobra.Command{
		Use:   "chaostoolkit EXPERIMENT",
		Short: "Make a service file of an experiment of the Chaos Toolkit",
		Long: `Reads an experiment in JSON or YAML, and prints a service file: the hypothesis as probes that must be good before and after, actions
that an attack has a counterpart for as a drill, and what the experiment does not say as TODO. Nothing of the experiment is run.

Every part of it is listed: what was carried over, what was changed (with what it means now), and what was lost (with the reason and
what to do), each with its line in the experiment. Python is not run: it is listed as lost. Secrets are never copied. What was changed and
lost stands in comments at the top of the file, too, and is counted on standard error. EXPERIMENT - is standard input.

EXIT STATUS
  0    printed
  2    the file cannot be read, or is no experiment
  70   our own fault`,
		Example:           "  firedrill import chaostoolkit experiment.json > firedrill.yaml\n  firedrill import chaostoolkit --list experiment.yaml",
		Args:              exactly("EXPERIMENT"),
		ValidArgsFunction: completeFiles(1, "json", "yaml", "yml"),
		RunE: func(_ *cobra.Command, args []string) error {
			return importChaosToolkit(s, args[0], asList, asJSON)
		},
	}
	command.Flags().BoolVar(&asList, "list", false, "print what became of each part, in place of the service file")
	command.Flags().BoolVar(&asJSON, "json", false, "print the service file and the list as one JSON document")
	command.MarkFlagsMutuallyExclusive("list", "json")
	return command
}

func importChaosToolkit(s streams, name string, asList, asJSON bool) error {
	var input io.Reader = s.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return &drill.Error{Op: "read the experiment", Kind: drill.Invalid, Err: err, Hint: "Give the file that chaos run is given."}
		}
		defer file.Close()
		input = file
	}
	result, err := chaostoolkit.Import(bufio.NewReader(input), kinds.Describe())
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(s, result)
	}
	if !asList {
		if _, err := io.WriteString(s.out, result.File); err != nil {
			return err
		}
		fmt.Fprintf(s.err, "firedrill: %d parts carried over, %d changed, %d lost; see: firedrill import chaostoolkit --list\n", result.Count(chaostoolkit.Carried), result.Count(chaostoolkit.Changed), result.Count(chaostoolkit.Lost))
		return nil
	}
	out := bufio.NewWriter(s.out)
	for _, note := range result.Notes {
		fmt.Fprintf(out, "%-12s  %s\n", note.Became, note.String())
	}
	return out.Flush()
}
