package report

import (
	"fmt"
	"io"
	"strings"

	"firedrill/internal/history"
)

// annotationsMax is how many errors of a step GitHub shows; more would push the first ones out.
const annotationsMax = 10

// writeGitHub prints the workflow commands that GitHub Actions shows as annotations: an error for each step that did not pass, else one
// notice. A person sees them on the page of the run and in the pull request.
func writeGitHub(w io.Writer, in Input) error {
	v := in.Verdict
	var b strings.Builder
	if v.Outcome == history.Passed {
		annotate(&b, "notice", in.Plan.Service+": passed", fmt.Sprintf("%d of %d checks hold.", v.Totals.Passed, v.Totals.Checks))
	} else {
		annotate(&b, "error", in.Plan.Service+": "+runWord(v), v.Reason)
	}
	shown := 1
	for i, step := range v.Steps {
		if step.Outcome == history.Passed || (!step.Ran && !step.Refused) {
			continue
		}
		if shown++; shown > annotationsMax {
			break
		}
		annotate(&b, "error", fmt.Sprintf("step %d, %s: %s", i+1, step.Name, stepWord(step)), step.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// annotate prints one workflow command. What it says comes from files and hosts, so nothing of it may end the line or begin a command.
func annotate(b *strings.Builder, level, title, text string) {
	message := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	fmt.Fprintf(b, "::%s title=%s::%s\n", level, property.Replace(title), message.Replace(text))
}
