//go:build !hostpart

package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
	"firedrill/internal/jenkins"
)

func newImportCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "import",
		Short: "Make a service file of what another tool has",
		Long:  "Makes a service file of what another tool has, and lists what could not be carried over, with the reasons." + printExitStatus,
	}
	command.AddCommand(newImportJenkinsCommand(s))
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
