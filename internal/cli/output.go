//go:build !hostpart

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"firedrill/internal/drill"
	"firedrill/internal/report"
)

// The files of a run.
const (
	logName  = "run.jsonl"
	htmlName = "report.html"
)

var reportFiles = []struct {
	name   string
	format report.Format
}{
	{htmlName, report.HTML},
	{"report.md", report.Markdown},
	{"junit.xml", report.JUnit},
	{"verdict.json", report.JSON},
}

// writeReports writes every report of a run beside its log. One that cannot be written does not keep the others from being so.
func writeReports(directory string, in report.Input) error {
	var all []error
	for _, file := range reportFiles {
		var page bytes.Buffer
		err := report.Write(&page, file.format, in)
		if err == nil {
			err = os.WriteFile(filepath.Join(directory, file.name), page.Bytes(), 0o644)
		}
		if err != nil {
			all = append(all, fmt.Errorf("write %s: %w", file.name, err))
		}
	}
	if err := errors.Join(all...); err != nil {
		return &drill.Error{Op: "report", Kind: drill.Internal, Err: err, Hint: "The log is whole: firedrill report " + filepath.Join(directory, logName)}
	}
	return nil
}
