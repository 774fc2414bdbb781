package playbook

import (
	"os"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func read(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("../cli/playbook_new.md")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parsed(t testing.TB) Playbook {
	t.Helper()
	book, err := Parse(read(t), "new.md")
	if err != nil {
		t.Fatal(err)
	}
	return book
}

func TestParseReadsEveryPart(t *testing.T) {
	book := parsed(t)
	procedure, _ := book.Part(Procedure)
	test, _ := book.Part(Test)
	if len(procedure.Steps) != 2 || len(test.Steps) != 1 {
		t.Fatalf("%d steps of procedure and %d of test", len(procedure.Steps), len(test.Steps))
	}
	promote := procedure.Steps[0]
	if promote.Host != "db-b" || promote.Within != drill.Seconds(30*time.Second) || !promote.Ask || promote.Expect == nil || promote.Expect.Lines[0] != "t" {
		t.Errorf("the command was read as %+v", promote)
	}
	if !procedure.Steps[1].ByHand() {
		t.Error("a step without a command is not done by hand")
	}
	lines := strings.Split(string(read(t)), "\n")
	if !strings.Contains(lines[promote.Line-1], promote.Title) {
		t.Errorf("%q is said to stand in line %d, where there is %q", promote.Title, promote.Line, lines[promote.Line-1])
	}
	if executable, all := book.Executable(); executable != 2 || all != 4 {
		t.Errorf("%d of %d steps are executable", executable, all)
	}
}

// Each thing taken out of a whole playbook is missed, and each thing wrong put into it is found, in its line.
func TestParseNamesWhatIsMissingOrWrong(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"no head":           {"---\nplaybook", "playbook", "begins with a head"},
		"no rto":            {"rto: 60s\n", "", "rto"},
		"unknown field":     {"severity: SEV1", "severity: SEV1\nseverty: 2", "severty"},
		"lead unreachable":  {"leads: [on-call database, on-call platform]", "leads: [on-call database, nobody]", "nobody could be reached"},
		"one lead":          {"leads: [on-call database, on-call platform]", "leads: [on-call database]", "two roles"},
		"no overview":       {"## Overview\n\nIn a few sentences: what happens, and how the function comes back.", "", "Overview"},
		"empty assumptions": {"What must hold for this to work.", "", "Assumptions"},
		"no test":           {"## Test\n", "## Something\n", "## Test"},
		"part twice":        {"## Resume\n", "## Procedure\n", "twice"},
		"two commands":      {"```expect\nt\n```", "```sh\ntrue\n```", "second command"},
		"loose expect":      {"Why, and what", "```expect\nx\n```\n\nWhy, and what", "belongs to no command"},
		"bad option":        {"host=db-b within=30s ask", "hots=db-b", "hots"},
		"bad within":        {"within=30s ask", "within=soon", "within=soon"},
		"bad pattern":       {"/^200$/", "/^20(0$/", "pattern"},
		"bad exit":          {"```expect\nt", "```expect exit=300\nt", "exit=300"},
		"empty command":     {"sudo -u postgres psql -Atc 'select pg_promote()'\n", "\n", "empty"},
		"silent step":       {"What brings everything back to normal, with its commands.", "", "neither"},
	} {
		text := string(read(t))
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: the playbook does not hold %q", name, c.old)
		}
		_, err := Parse([]byte(strings.Replace(text, c.old, c.new, 1)), "new.md")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "new.md:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMet(t *testing.T) {
	step := Step{Command: "x", Expect: &Expect{Lines: []string{"one", "/^tw.$/"}}}
	for output, met := range map[string]bool{"one\ntwo": true, "a one b\nx\ntwo\n": true, "two\none\n": false, "one": false, "one\ntwos": false} {
		if err := step.Met(0, output); (err == nil) != met {
			t.Errorf("%q: %v", output, err)
		}
	}
	if step.Met(1, "one\ntwo") == nil {
		t.Error("another exit code than the expected one is met")
	}
}

// told is the log of a rehearsal in which everything went as written, after twist has been at it.
func told(t *testing.T, twist func(*history.PlaybookStarted, *[]*history.PlaybookStep, *history.PlaybookFinished)) []history.Event {
	t.Helper()
	at := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	started := &history.PlaybookStarted{Run: "r", File: "new.md", Text: string(read(t)), Parts: []string{Procedure, Test}}
	second := drill.Seconds(time.Second)
	steps := []*history.PlaybookStep{
		{Part: Procedure, Step: 0, Started: at, Took: second, Command: "sudo -u postgres psql -Atc 'select pg_promote()'", Output: "t\n", Asked: true, Confirmed: true},
		{Part: Procedure, Step: 1, Started: at.Add(2 * time.Second), Took: second, Asked: true, Confirmed: true},
		{Part: Test, Step: 0, Started: at.Add(4 * time.Second), Took: second, Command: "curl -fsS -o /dev/null -w '%{http_code}\\n' http://bookstore.example.test/books/", Output: "200\n"},
	}
	finished := &history.PlaybookFinished{Outcome: history.Passed}
	twist(started, &steps, finished)
	log := []history.Event{history.New(at, "", started)}
	for _, step := range steps {
		log = append(log, history.New(step.Started, "", step))
	}
	if finished.Outcome != "" {
		log = append(log, history.New(at, "", finished))
	}
	return log
}

func TestJudgePassesOnlyWhatWentAsWritten(t *testing.T) {
	type steps = *[]*history.PlaybookStep
	for name, c := range map[string]struct {
		twist func(*history.PlaybookStarted, steps, *history.PlaybookFinished)
		want  history.Outcome
	}{
		"as written":    {func(*history.PlaybookStarted, steps, *history.PlaybookFinished) {}, history.Passed},
		"wrong output":  {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { (*s)[0].Output = "f" }, history.Failed},
		"wrong exit":    {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { (*s)[2].Exit = 22 }, history.Failed},
		"other command": {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { (*s)[2].Command = "true" }, history.Failed},
		"deviation":     {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { (*s)[1].Deviation = "called" }, history.Failed},
		"not run":       {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { (*s)[2].Error = "no route" }, history.Failed},
		"not confirmed": {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { (*s)[1].Confirmed = false }, history.Inconclusive},
		"too slow": {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) {
			(*s)[0].Took = drill.Seconds(time.Minute)
		}, history.Failed},
		"beyond the RTO": {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) {
			(*s)[2].Started = (*s)[2].Started.Add(time.Minute)
		}, history.Failed},
		"a step left out": {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { *s = (*s)[:2] }, history.Inconclusive},
		"out of order": {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) {
			(*s)[0], (*s)[1] = (*s)[1], (*s)[0]
		}, history.Failed},
		"one too many": {func(_ *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { *s = append(*s, (*s)[2]) }, history.Failed},
		"broken off": {func(_ *history.PlaybookStarted, _ steps, f *history.PlaybookFinished) {
			f.Outcome = history.Interrupted
		}, history.Inconclusive},
		"no end":          {func(_ *history.PlaybookStarted, _ steps, f *history.PlaybookFinished) { f.Outcome = "" }, history.Inconclusive},
		"no playbook":     {func(p *history.PlaybookStarted, _ steps, _ *history.PlaybookFinished) { p.Text = "x" }, history.Inconclusive},
		"asked too often": {func(p *history.PlaybookStarted, _ steps, _ *history.PlaybookFinished) { p.Automatic = true }, history.Failed},
		"nothing to do":   {func(p *history.PlaybookStarted, s steps, _ *history.PlaybookFinished) { p.Parts, *s = nil, nil }, history.Inconclusive},
	} {
		if got := Judge(told(t, c.twist)); got.Outcome != c.want || got.Reason == "" {
			t.Errorf("%s: %s, %s", name, got.Outcome, got.Reason)
		}
	}
}

// One changed byte voids an approval; so do a year, the future, and a signature that is not trusted.
func TestApprovalHoldsForOneTextAndAYear(t *testing.T) {
	now := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	book := parsed(t)
	changed, err := Parse(append(read(t), '\n'), "new.md")
	if err != nil {
		t.Fatal(err)
	}
	trusted := func(a Approval) bool { return a.Signature != "forged" }
	for name, c := range map[string]struct {
		approval Approval
		hash     string
		held     bool
	}{
		"agreed":        {Approval{Hash: book.Hash, Role: "ops", At: now.Add(-time.Hour)}, book.Hash, true},
		"text changed":  {Approval{Hash: book.Hash, Role: "ops", At: now.Add(-time.Hour)}, changed.Hash, false},
		"a year ago":    {Approval{Hash: book.Hash, Role: "ops", At: now.Add(-366 * 24 * time.Hour)}, book.Hash, false},
		"in the future": {Approval{Hash: book.Hash, Role: "ops", At: now.Add(time.Hour)}, book.Hash, false},
		"forged":        {Approval{Hash: book.Hash, Role: "ops", At: now.Add(-time.Hour), Signature: "forged"}, book.Hash, false},
		"of no role":    {Approval{Hash: book.Hash, Role: "friend", At: now.Add(-time.Hour)}, book.Hash, false},
	} {
		held, missing := Agreed([]Approval{c.approval}, c.hash, now, trusted)
		if (len(held) == 1) != c.held || len(held)+len(missing) != len(Roles) {
			t.Errorf("%s: %d hold, %v are missing", name, len(held), missing)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(read(f))
	f.Add([]byte("---\n---\n"))
	f.Add([]byte("---\nplaybook: x\n---\n## Procedure\n### a\n```sh\nx\n```\n```expect\n/(/\n```\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		book, err := Parse(text, "f.md")
		if err == nil && len(book.Parts) == 0 {
			t.Error("a playbook without parts was accepted")
		}
		_, _ = ParseApprovals(text, "f")
	})
}
