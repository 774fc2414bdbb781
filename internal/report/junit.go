package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// writeJUnit gives each step a suite and each check a case. Failed is a failure, anything else that is not passed is an error: a CI
// server must never show as skipped, and so as harmless, what was not proven.
func writeJUnit(w io.Writer, in Input) error {
	v := in.Verdict
	suites := junit.Testsuites{Name: "firedrill " + clean(v.Service), Time: seconds(v.Finished.Sub(v.Started).Seconds())}
	run := junit.Testsuite{Name: "run", Time: seconds(v.Finished.Sub(v.Started).Seconds())}
	if !v.Started.IsZero() {
		run.SetTimestamp(v.Started.UTC())
	}
	for _, property := range [][2]string{{"run", v.Run}, {"outcome", runWord(v)}, {"revision", v.Revision}, {"log", in.logName()}} {
		if property[1] != "" {
			run.AddProperty(property[0], clean(property[1]))
		}
	}
	if v.RTO != nil {
		run.AddProperty("rto_seconds", seconds(v.RTO.Seconds))
		run.AddProperty("rto_bound_seconds", seconds(v.RTO.Bound))
	}
	for _, check := range v.Checks {
		run.AddTestcase(testcase("run", check))
	}
	suites.AddSuite(run)
	for i, step := range v.Steps {
		name := fmt.Sprintf("%d %s", i+1, clean(step.Name))
		suite := junit.Testsuite{Name: name, ID: i + 1, Time: seconds(step.Finished.Sub(step.Started).Seconds()), Package: clean(v.Service)}
		if !step.Started.IsZero() {
			suite.SetTimestamp(step.Started.UTC())
		}
		for _, check := range step.Checks {
			suite.AddTestcase(testcase(name, check))
		}
		if step.Outcome != history.Passed && suite.Failures+suite.Errors == 0 {
			// A step that is not passed must show, whatever its checks say.
			suite.AddTestcase(testcase(name, verdict.Check{Name: "outcome", Outcome: step.Outcome, Explanation: step.Reason}))
		}
		suites.AddSuite(suite)
	}
	if _, err := io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"); err != nil {
		return err
	}
	return suites.WriteXML(w)
}

func testcase(class string, check verdict.Check) junit.Testcase {
	result := junit.Testcase{Name: clean(check.Name), Classname: class, Time: seconds(0)}
	if check.Group != "" {
		result.Name = clean(string(check.Group) + ": " + check.Name)
	}
	if check.Measured != nil && check.Measured.Unit == verdict.UnitSeconds {
		result.Time = seconds(check.Measured.Value)
	}
	data := check.Explanation
	if check.Measured != nil {
		data += "\nmeasured " + quantityText(check.Measured)
	}
	if check.Allowed != nil {
		data += "\nallowed " + allowedText(check)
	}
	if len(check.Evidence) > 0 {
		data += "\nevidence " + evidenceText(check.Evidence, len(check.Evidence))
	}
	switch check.Outcome {
	case history.Passed:
		result.SystemOut = &junit.Output{Data: clean(data)}
	case history.Failed:
		result.Failure = &junit.Result{Message: clean(check.Explanation), Type: word(check.Outcome), Data: clean(data)}
	default:
		result.Error = &junit.Result{Message: clean(check.Explanation), Type: word(check.Outcome), Data: clean(data)}
	}
	return result
}

func seconds(value float64) string { return fmt.Sprintf("%.3f", max(0, value)) }

// clean takes out what XML cannot hold, and what would end a CDATA section.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r >= 0x20 && r <= 0xD7FF, r >= 0xE000 && r <= 0xFFFD, r >= 0x10000:
			return r
		}
		return '�'
	}, text)
	return strings.ReplaceAll(text, "]]>", "]] >")
}
