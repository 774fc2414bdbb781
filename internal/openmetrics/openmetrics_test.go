package openmetrics

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	sampleForm = regexp.MustCompile(`^([a-z_][a-z0-9_]*)(\{([a-z_]+="([^"\\\n]|\\[\\"n])*"(,[a-z_]+="([^"\\\n]|\\[\\"n])*")*)\})? (-?[0-9.e+-]+)$`)
	typeForm   = regexp.MustCompile(`^# TYPE ([a-z_][a-z0-9_]*) gauge$`)
)

// wrong says what of OpenMetrics a text does not keep, or "".
func wrong(text string) string {
	body, ended := strings.CutSuffix(text, "# EOF\n")
	if !ended {
		return "it does not end with # EOF"
	}
	var families []string
	seen := map[string]bool{}
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if declared := typeForm.FindStringSubmatch(line); declared != nil {
			if slices.Contains(families, declared[1]) {
				return declared[1] + " is there twice"
			}
			families = append(families, declared[1])
			continue
		}
		if len(families) == 0 {
			return "a line before the first family: " + line
		}
		name := families[len(families)-1]
		if unit, is := strings.CutPrefix(line, "# UNIT "+name+" "); is {
			if !strings.HasSuffix(name, "_"+unit) {
				return name + " does not end with its unit"
			}
			continue
		}
		if strings.HasPrefix(line, "# HELP "+name+" ") {
			continue
		}
		parts := sampleForm.FindStringSubmatch(line)
		if parts == nil || parts[1] != name {
			return "no sample of " + name + ": " + line
		}
		if key := parts[1] + parts[2]; seen[key] {
			return key + " is there twice"
		} else {
			seen[key] = true
		}
	}
	return ""
}

func sample(change func(*Writer)) string {
	var w Writer
	w.Family("firedrill_empty", "", "Nothing.")
	f := w.Family("firedrill_age_seconds", "seconds", "How old\nit is: \\o/.")
	f.Add(1.5, Label{"service", "a \"b\" \\ c\nd \xff"})
	f.Add(math.NaN(), Label{"service", "nan"})
	f.Add(math.Inf(1), Label{"service", "inf"})
	w.Family("firedrill_up", "", "Up.").Truth(true)
	if change != nil {
		change(&w)
	}
	var text strings.Builder
	if _, err := w.WriteTo(&text); err != nil {
		return err.Error()
	}
	return text.String()
}

func TestTheTextIsOpenMetrics(t *testing.T) {
	text := sample(nil)
	want := "# TYPE firedrill_age_seconds gauge\n# UNIT firedrill_age_seconds seconds\n# HELP firedrill_age_seconds How old\\nit is: \\\\o/.\n" +
		"firedrill_age_seconds{service=\"a \\\"b\\\" \\\\ c\\nd �\"} 1.5\n# TYPE firedrill_up gauge\n# HELP firedrill_up Up.\nfiredrill_up 1\n# EOF\n"
	if text != want || wrong(text) != "" {
		t.Errorf("%s\n%s", wrong(text), text)
	}
	for name, planted := range map[string]string{
		"cut off":               strings.TrimSuffix(text, "# EOF\n"),
		"a family twice":        sample(func(w *Writer) { w.Family("firedrill_up", "", "Again.").Truth(true) }),
		"a sample twice":        sample(func(w *Writer) { f := w.Family("firedrill_x", "", "X."); f.Add(1); f.Add(2) }),
		"a unit that is not in": sample(func(w *Writer) { w.Family("firedrill_y", "seconds", "Y.").Add(1) }),
		"a quote in a value":    strings.Replace(text, `\"b\"`, `"b"`, 1),
		"a line in a value":     strings.Replace(text, `\nd`, "\nd", 1),
		"a name of another":     sample(func(w *Writer) { w.Family("Firedrill", "", "Z.").Add(1) }),
	} {
		if planted == text || wrong(planted) == "" {
			t.Errorf("%s is not noticed:\n%s", name, planted)
		}
	}
	if _, err := (&Writer{}).WriteTo(broken{}); !errors.Is(err, errBroken) {
		t.Errorf("a reader that is gone: %v", err)
	}
}

var errBroken = errors.New("gone")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// The tool of Prometheus reads it as well.
func TestPrometheusReadsTheText(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "prometheus") {
			t.Fatal(err)
		}
		t.Skip("needs promtool")
	}
	check := func(text string) error {
		command := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
		command.Stdin = strings.NewReader(text)
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := check(sample(nil)); err != nil {
		t.Error(err)
	}
	if check(strings.Replace(sample(nil), "firedrill_up 1", "firedrill_up one", 1)) == nil {
		t.Error("promtool takes a word for a value")
	}
}
