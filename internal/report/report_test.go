package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

var update = flag.Bool("update", false, "write the golden files anew; look at the difference before you commit it")

func told(twist verdicttest.Twist) report.Input {
	plan, log := verdicttest.Bookstore(twist)
	return report.Input{Plan: plan, Log: log, Verdict: verdict.Judge(plan, log)}
}

func render(t testing.TB, format report.Format, in report.Input) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.Write(&out, format, in); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var endings = map[report.Format]string{report.Text: "txt", report.Markdown: "md", report.HTML: "html", report.JUnit: "xml", report.JSON: "json", report.GitHub: "github", report.CSV: "csv", report.ChaosToolkit: "journal.json", report.RecordJSON: "record.json", report.OpenMetrics: "prom", report.OTLP: "otlp.json"}

func TestEveryFormatLooksAsItDid(t *testing.T) {
	for name, twist := range map[string]verdicttest.Twist{"passed": verdicttest.NoTwist, "failed": verdicttest.FrozenDNS, "inconclusive": verdicttest.Toothless, "residue": verdicttest.Residue, "silent": verdicttest.DeadAlarm} {
		in := told(twist)
		for _, format := range report.Formats {
			if name != "passed" && (format == report.JSON || format == report.CSV || format == report.RecordJSON || format == report.OTLP) {
				continue
			}
			got := render(t, format, in)
			path := filepath.Join("testdata", name+"."+endings[format])
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s: not as in %s (-want +got):\n%s", format, path, diff)
			}
		}
	}
}

// The log of the story is kept as a file: it is what `firedrill judge` and `firedrill report` are tried with, and it holds that the
// format of logs does not change unnoticed.
func TestTheGoldenLogIsTheStory(t *testing.T) {
	path := filepath.Join("testdata", "run.jsonl")
	_, log := verdicttest.Bookstore(verdicttest.NoTwist)
	var out bytes.Buffer
	writer := history.NewWriter(&out)
	for _, event := range log {
		if _, err := writer.Append(event); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, out.Bytes()) {
		t.Error("testdata/run.jsonl is not the story any more; run the tests with -update and look at the difference")
	}
	read, err := history.Read(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	plan := read[0].Fact.(*history.RunStarted).Plan
	in := report.Input{Plan: plan, Log: read, Verdict: verdict.Judge(plan, read)}
	if got, want := render(t, report.HTML, in), render(t, report.HTML, told(verdicttest.NoTwist)); got != want {
		t.Error("the page of the log as read differs from the page of the log as told")
	}
}

var outside = regexp.MustCompile(`(?i)(src|href|action|data|poster|srcset)\s*=\s*["']?\s*(https?:|//|data:|javascript:)|url\(\s*["']?(https?:|//|data:)|@import|<script|<iframe|<object|<embed|<link|\son[a-z]+\s*=`)

// selfContained returns what in a page would load or run something.
func selfContained(page string) []string {
	var found []string
	for _, hit := range outside.FindAllString(page, -1) {
		found = append(found, hit)
	}
	if !strings.Contains(page, `http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;;`) {
		found = append(found, "no content security policy")
	}
	return found
}

func TestThePageLoadsAndRunsNothing(t *testing.T) {
	page := render(t, report.HTML, told(verdicttest.FrozenDNS))
	if found := selfContained(page); len(found) > 0 {
		t.Errorf("the page holds %q", found)
	}
	for _, planted := range []string{`<script>`, `<img src="https://x.test/a.png">`, `<link rel=stylesheet>`, `<a onclick="x">`} {
		if len(selfContained(strings.Replace(page, "<main>", "<main>"+planted, 1))) == 0 {
			t.Errorf("a planted %s was not noticed", planted)
		}
	}
}

func TestThePageIsWellFormedAndEscapesWhatHostsSay(t *testing.T) {
	in := told(verdicttest.NoTwist)
	evil := `"><script>alert(1)</script>|<b>@all` + "\x00\x1b[31m"
	in.Plan.Service, in.Verdict.Service, in.Verdict.Reason = evil, evil, evil
	for i := range in.Log {
		switch fact := in.Log[i].Fact.(type) {
		case *history.Alarm:
			fact.Reason, fact.Name = evil, evil+fact.Name
		case *history.Host:
			fact.Detail = evil
		case *history.Answer:
			fact.Environment = evil
		}
	}
	for i := range in.Verdict.Steps {
		in.Verdict.Steps[i].Name = evil
		for j := range in.Verdict.Steps[i].Checks {
			in.Verdict.Steps[i].Checks[j].Name, in.Verdict.Steps[i].Checks[j].Explanation = evil, evil
		}
	}
	page := render(t, report.HTML, in)
	if strings.Contains(page, "<script") || strings.Contains(page, "<b>@all") {
		t.Error("the page holds a tag that a host wrote")
	}
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1) {
		if err := wellFormed(svg); err != nil {
			t.Errorf("a picture is not well formed: %v", err)
		}
	}
	if err := wellFormed(render(t, report.JUnit, in)); err != nil {
		t.Errorf("JUnit is not well formed: %v", err)
	}
	if markdown := render(t, report.Markdown, in); strings.Contains(markdown, "<script") {
		t.Error("Markdown holds a tag that a host wrote")
	}
}

func wellFormed(text string) error {
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// pageMax is how large a page may be: it is attached to pull requests and mails.
const pageMax = 2 << 20

func TestAHugeLogGivesASmallPage(t *testing.T) {
	plan, story := verdicttest.Bookstore(verdicttest.FrozenDNS)
	const size = 1_000_000
	log := make([]history.Event, 0, size+len(story))
	log = append(log, story[:len(story)-1]...)
	begin := story[len(story)-1].At
	for i := 0; len(log) < size; i++ {
		at := begin.Add(time.Duration(i) * 10 * time.Millisecond)
		switch i % 10 {
		case 0:
			state := history.AlarmOK
			if i%20 == 0 {
				state = history.AlarmRaised
			}
			log = append(log, history.New(at, "watch", &history.Alarm{Name: fmt.Sprintf("alarm-%d", i%50), To: state}))
		case 1:
			log = append(log, history.New(at, "ci", &history.Answer{Name: fmt.Sprintf("name-%d.test", i%30), Server: "10.0.0.1", Environment: []string{"blue", "green"}[i/10%2]}))
		default:
			log = append(log, history.New(at, "client", &history.Sample{Probe: "client", Scheduled: at, OK: i%7 > 2, Cause: history.CauseTimeout}))
		}
	}
	page := render(t, report.HTML, report.Input{Plan: plan, Log: log, Verdict: verdict.Judge(plan, log)})
	if len(page) >= pageMax {
		t.Errorf("a log of %d events gives a page of %d bytes, more than %d", len(log), len(page), pageMax)
	}
}

func TestNothingIsToldByColourAlone(t *testing.T) {
	page := render(t, report.HTML, told(verdicttest.Toothless))
	// Without style the outcome of each row must still be a word.
	rows := regexp.MustCompile(`(?s)<tr class="(passed|failed|open)"><td class="o">.*?</td>`).FindAllString(page, -1)
	if len(rows) < 20 {
		t.Fatalf("only %d rows in the tables", len(rows))
	}
	for _, row := range rows {
		if !regexp.MustCompile(`passed</td>|failed</td>|inconclusive</td>`).MatchString(row) {
			t.Errorf("no word in %s", row)
		}
	}
}

func TestJUnitNeverHidesWhatIsNotProven(t *testing.T) {
	for _, twist := range []verdicttest.Twist{verdicttest.FrozenDNS, verdicttest.Toothless, verdicttest.Residue, verdicttest.Cut} {
		out := render(t, report.JUnit, told(twist))
		if strings.Contains(out, "<skipped") || !strings.Contains(out, "<failure") && !strings.Contains(out, "<error") {
			t.Errorf("%s: neither a failure nor an error in JUnit", twist)
		}
	}
	passed := render(t, report.JUnit, told(verdicttest.NoTwist))
	if strings.Contains(passed, "<failure") || strings.Contains(passed, "<error") || strings.Contains(passed, `time=""`) {
		t.Error("a passed run shows failures, or a test without time")
	}
}

func TestColoursOnlyWhenAsked(t *testing.T) {
	in := told(verdicttest.FrozenDNS)
	if plain := render(t, report.Text, in); strings.Contains(plain, "\x1b") {
		t.Error("escape sequences in plain text")
	}
	in.Color = true
	colored := render(t, report.Text, in)
	if !strings.Contains(colored, "\x1b[31m") {
		t.Error("no colour although asked for")
	}
	in.Color = false
	if got := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colored, ""); got != render(t, report.Text, in) {
		t.Error("without its colours the text is another")
	}
}

func TestEmptyInputIsShownToo(t *testing.T) {
	for _, format := range report.Formats {
		in := report.Input{Verdict: verdict.Judge(drill.Plan{}, nil)}
		if out := render(t, format, in); !strings.Contains(strings.ToLower(out), "inconclusive") && format != report.JUnit {
			t.Errorf("%s of nothing does not say inconclusive:\n%s", format, out)
		}
	}
	err := report.Write(io.Discard, "pdf", report.Input{})
	if drill.KindOf(err) != drill.Invalid {
		t.Errorf("an unknown format gives %v", err)
	}
}

func BenchmarkHTML(b *testing.B) {
	in := told(verdicttest.NoTwist)
	for b.Loop() {
		if err := report.Write(io.Discard, report.HTML, in); err != nil {
			b.Fatal(err)
		}
	}
}
