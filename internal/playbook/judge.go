package playbook

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Verdict is what the log of a rehearsal proves.
type Verdict struct {
	Run       string          `json:"run"`
	Playbook  string          `json:"playbook"`
	For       string          `json:"for"`
	Hash      string          `json:"hash"` // of the text that was followed
	Outcome   history.Outcome `json:"outcome"`
	Reason    string          `json:"reason"`
	Started   time.Time       `json:"started"`
	Recovered drill.Seconds   `json:"recovered_seconds,omitempty"` // from the start to the end of the test, or of the procedure where no test was followed
	Allowed   drill.Seconds   `json:"allowed_seconds,omitempty"`   // the RTO
	Automatic bool            `json:"automatic"`
	Asked     int             `json:"asked"` // how often a person was asked
	Steps     []StepVerdict   `json:"steps"`
}

// StepVerdict is one step of it.
type StepVerdict struct {
	Part    string          `json:"part"`
	Title   string          `json:"title"`
	Outcome history.Outcome `json:"outcome"`
	Reason  string          `json:"reason,omitempty"`
	Took    drill.Seconds   `json:"took_seconds"`
}

// IsRehearsal says whether a log is of a rehearsal that followed a playbook.
func IsRehearsal(log []history.Event) bool {
	return slices.ContainsFunc(log, func(e history.Event) bool { return e.Fact != nil && e.Fact.Kind() == history.KindPlaybookStarted })
}

// Judge says what a rehearsal proved. It passes only when every step that the playbook writes down was done, in order, as it is written,
// printed what it must, and the function was back within the RTO.
func Judge(log []history.Event) Verdict {
	verdict := Verdict{Outcome: history.Inconclusive}
	started, steps, finished := sort(log)
	if started == nil {
		verdict.Reason = "The log does not say which playbook was followed."
		return verdict
	}
	verdict.Run, verdict.Automatic = started.Run, started.Automatic
	book, err := Parse([]byte(started.Text), started.File)
	if err != nil {
		verdict.Reason = "The text in the log is no playbook: " + err.Error()
		return verdict
	}
	verdict.Playbook, verdict.For, verdict.Hash, verdict.Allowed = book.Head.Title, book.Head.For, book.Hash, book.Head.RTO
	verdict.follow(book, started.Parts, steps)
	verdict.conclude(book, started, finished)
	return verdict
}

func sort(log []history.Event) (started *history.PlaybookStarted, steps []*history.PlaybookStep, finished *history.PlaybookFinished) {
	for _, event := range log {
		switch fact := event.Fact.(type) {
		case *history.PlaybookStarted:
			if started == nil {
				started = fact
			}
		case *history.PlaybookStep:
			steps = append(steps, fact)
		case *history.PlaybookFinished:
			finished = fact
		}
	}
	return started, steps, finished
}

// follow holds each step of the text against the next one that was done.
func (v *Verdict) follow(book Playbook, parts []string, done []*history.PlaybookStep) {
	next := 0
	for _, name := range parts {
		part, _ := book.Part(name)
		for number, step := range part.Steps {
			judged := StepVerdict{Part: name, Title: step.Title, Outcome: history.Inconclusive, Reason: "It was not done."}
			if next < len(done) && done[next].Part == name && done[next].Step == number {
				fact := done[next]
				next++
				judged.Took = fact.Took
				judged.Outcome, judged.Reason = judgeStep(step, fact)
				if fact.Asked {
					v.Asked++
				}
				if v.Started.IsZero() {
					v.Started = fact.Started
				}
				if name != Resume {
					v.Recovered = drill.Seconds(fact.Started.Add(fact.Took.Duration()).Sub(v.Started))
				}
			}
			v.Steps = append(v.Steps, judged)
		}
	}
	if next < len(done) {
		v.Steps = append(v.Steps, StepVerdict{Part: done[next].Part, Title: done[next].Title, Outcome: history.Failed, Reason: "It was done out of order, or is not written in the playbook."})
	}
}

func judgeStep(step Step, done *history.PlaybookStep) (history.Outcome, string) {
	switch {
	case done.Deviation != "":
		return history.Failed, "It was done otherwise than written: " + done.Deviation + ". Mend the playbook."
	case done.Error != "":
		return history.Failed, "It could not be run: " + done.Error
	case done.Command != step.Command:
		return history.Failed, "Another command was run than is written."
	case (step.ByHand() || step.Ask) && !done.Confirmed:
		return history.Inconclusive, "Nobody said that it was done."
	case step.ByHand():
		return history.Passed, ""
	}
	err := step.Met(done.Exit, done.Output)
	switch {
	case err != nil && done.Cut && done.Exit == expectedExit(step):
		return history.Inconclusive, "Its output was too long to be kept whole: " + err.Error()
	case err != nil:
		return history.Failed, strings.ToUpper(err.Error()[:1]) + err.Error()[1:] + "."
	case step.Within > 0 && done.Took > step.Within:
		return history.Failed, fmt.Sprintf("It took %s, and %s are allowed.", done.Took, step.Within)
	}
	return history.Passed, ""
}

func expectedExit(step Step) int {
	if step.Expect == nil {
		return 0
	}
	return step.Expect.Exit
}

func (v *Verdict) conclude(book Playbook, started *history.PlaybookStarted, finished *history.PlaybookFinished) {
	if len(v.Steps) == 0 {
		v.Reason = "No step was to be followed."
		return
	}
	v.Outcome = history.Passed
	for _, step := range v.Steps {
		if step.Outcome == history.Failed || step.Outcome == history.Inconclusive && v.Outcome == history.Passed {
			if v.Outcome != history.Failed {
				v.Outcome, v.Reason = step.Outcome, fmt.Sprintf("%s, %q: %s", step.Part, step.Title, step.Reason)
			}
		}
	}
	restored := slices.Contains(started.Parts, Procedure)
	switch {
	case v.Outcome == history.Failed:
	case finished == nil || finished.Outcome == history.Interrupted:
		v.Outcome, v.Reason = history.Inconclusive, "It was broken off."
	case v.Outcome == history.Passed && restored && v.Recovered > book.Head.RTO:
		v.Outcome = history.Failed
		v.Reason = fmt.Sprintf("The function was back after %s, and the RTO is %s.", v.Recovered, book.Head.RTO)
	case v.Outcome == history.Passed && v.Automatic && v.Asked > book.Head.Confirm:
		v.Outcome = history.Failed
		v.Reason = fmt.Sprintf("People were asked %d times, and the playbook allows %d in a run that goes by itself.", v.Asked, book.Head.Confirm)
	case v.Outcome == history.Passed:
		v.Reason = fmt.Sprintf("All %d steps went as written", len(v.Steps))
		if restored {
			v.Reason += fmt.Sprintf("; the function was back after %s of %s", v.Recovered, book.Head.RTO)
		}
		v.Reason += "."
	}
}
