package cli

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/attest"
	"firedrill/internal/history"
	"firedrill/internal/stage"
	"firedrill/internal/verdict/verdicttest"
)

// provenRun is a run of which a book has read what it proves, long after it was written.
type provenRun struct {
	t         *testing.T
	results   string
	directory string
	log       string
	book      *evidenceBook
	later     time.Duration // how far the clock of the book is ahead
}

func newProvenRun(t *testing.T, credulous bool) *provenRun {
	t.Helper()
	p := &provenRun{t: t, results: t.TempDir(), book: newEvidenceBook(slog.New(slog.DiscardHandler)), later: time.Hour}
	p.book.credulous = credulous
	p.book.clock = func() time.Time { return time.Now().Add(p.later) }
	p.directory = filepath.Join(p.results, "20261120T101500Z-0a1b2c")
	p.log = filepath.Join(p.directory, logName)
	if err := os.Mkdir(p.directory, 0o755); err != nil {
		t.Fatal(err)
	}
	before, _, _, _ := verdicttest.Resumed()
	var text bytes.Buffer
	writer := history.NewWriter(&text)
	for _, event := range before {
		if _, err := writer.Append(event); err != nil {
			t.Fatal(err)
		}
	}
	p.write(p.log, text.String())
	p.write(filepath.Join(p.directory, "report.html"), "<p>all is well</p>")
	return p
}

func (p *provenRun) write(path, text string) {
	p.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *provenRun) text(path string) string {
	p.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

func (p *provenRun) gather() stage.Evidence {
	p.t.Helper()
	found, err := p.book.gather(p.t.Context(), []string{p.results})
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

// tick returns when the clock of the file system has gone on: what is changed then is changed later, also where it is coarse.
func (p *provenRun) tick() {
	p.t.Helper()
	changed := func() syscall.Timespec {
		path := filepath.Join(p.t.TempDir(), "tick")
		p.write(path, "x")
		var about syscall.Stat_t
		if err := syscall.Stat(path, &about); err != nil {
			p.t.Fatal(err)
		}
		return about.Ctim
	}
	began := changed()
	wait := time.NewTicker(time.Millisecond)
	defer wait.Stop()
	for changed() == began {
		<-wait.C
	}
}

// altered is a log with one word changed in the middle, as large as before, and with the date of before.
func (p *provenRun) altered(put func(text string)) {
	p.t.Helper()
	about, err := os.Stat(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	was := p.text(p.log)
	text := strings.Replace(was, `"drill"`, `"dri11"`, 1)
	if text == was || len(text) != len(was) {
		p.t.Fatal("nothing is altered")
	}
	put(text)
	if err := os.Chtimes(p.log, about.ModTime(), about.ModTime()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *provenRun) inPlace() { p.altered(func(text string) { p.write(p.log, text) }) }

func TestALogThatWasChangedIsJudgedAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(p *provenRun)
		want   func(found stage.Evidence) bool
	}{
		"as it was": {func(*provenRun) {}, nil},
		"altered in place, with its size and date": {(*provenRun).inPlace, func(found stage.Evidence) bool { return len(found.Runs) == 0 }},
		"another file in its place, as large and as old": {func(p *provenRun) {
			p.altered(func(text string) {
				p.write(p.log+".new", text)
				if err := os.Rename(p.log+".new", p.log); err != nil {
					p.t.Fatal(err)
				}
			})
		}, func(found stage.Evidence) bool { return len(found.Runs) == 0 }},
		"removed, and written anew": {func(p *provenRun) {
			p.altered(func(text string) {
				if err := os.Remove(p.log); err != nil {
					p.t.Fatal(err)
				}
				p.write(p.log, text)
			})
		}, func(found stage.Evidence) bool { return len(found.Runs) == 0 }},
		"a line more": {func(p *provenRun) {
			before, _, _, _ := verdicttest.Resumed()
			var text bytes.Buffer
			writer := history.NewWriter(&text)
			for _, event := range append(before, history.New(before[len(before)-1].At, "control", &history.Stop{Condition: "halt"})) {
				if _, err := writer.Append(event); err != nil {
					p.t.Fatal(err)
				}
			}
			p.write(p.log, text.String())
		}, func(found stage.Evidence) bool { return len(found.Runs) == 1 && found.Runs[0].Stopped }},
		"a line less": {func(p *provenRun) {
			text := strings.TrimSuffix(p.text(p.log), "\n")
			p.write(p.log, text[:strings.LastIndexByte(text, '\n')+1])
		}, func(found stage.Evidence) bool { return len(found.Runs) == 1 }},
		"its directory is another": {func(p *provenRun) {
			p.altered(func(text string) {
				if err := os.Rename(p.directory, p.results+"-before"); err != nil {
					p.t.Fatal(err)
				}
				if err := os.Mkdir(p.directory, 0o755); err != nil {
					p.t.Fatal(err)
				}
				p.write(p.log, text)
			})
		}, func(found stage.Evidence) bool { return len(found.Runs) == 0 }},
		"gone": {func(p *provenRun) {
			if err := os.Remove(p.log); err != nil {
				p.t.Fatal(err)
			}
		}, func(found stage.Evidence) bool { return len(found.Runs) == 0 }},
		"its day is over":        {func(p *provenRun) { p.later += evidenceDay }, func(found stage.Evidence) bool { return len(found.Runs) == 1 }},
		"the clock was put back": {func(p *provenRun) { p.later -= 10 * time.Minute }, func(found stage.Evidence) bool { return len(found.Runs) == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvenRun(t, false)
			if found := p.gather(); len(found.Runs) != 1 || found.Runs[0].Verdict.Outcome == "" || p.book.read != 1 {
				t.Fatalf("%d logs read: %+v", p.book.read, found)
			}
			if found := p.gather(); len(found.Runs) != 1 || p.book.read != 1 {
				t.Fatalf("one that was not changed was judged again: %d read", p.book.read)
			}
			p.tick()
			test.change(p)
			found := p.gather()
			if test.want == nil {
				if len(found.Runs) != 1 || p.book.read != 1 {
					t.Errorf("%d read: %+v", p.book.read, found)
				}
				return
			}
			if !test.want(found) {
				t.Errorf("it says %+v", found.Runs)
			}
			if name != "gone" && p.book.read != 2 {
				t.Errorf("%d logs were read", p.book.read)
			}
		})
	}
}

func TestALogThatIsKnownByItsSizeAndDateIsCaught(t *testing.T) {
	t.Parallel()
	p := newProvenRun(t, true)
	p.gather()
	p.tick()
	p.inPlace()
	if found := p.gather(); len(found.Runs) != 1 {
		t.Error("the planted bug is none: a log that was altered is noticed by its size and date")
	}
}

// What is changed again before the clock of the file system goes on would not be noticed, so nothing is remembered of what was just changed.
func TestNothingIsRememberedOfALogThatWasJustWritten(t *testing.T) {
	t.Parallel()
	p := newProvenRun(t, false)
	p.later = 0
	for round := range 3 {
		if found := p.gather(); len(found.Runs) != 1 || p.book.read != round+1 {
			t.Fatalf("%d logs read in round %d: %+v", p.book.read, round, found)
		}
	}
}

func TestAPageThatIsNotAsItWasAttestedIsNoticed(t *testing.T) {
	t.Parallel()
	p := newProvenRun(t, false)
	page := filepath.Join(p.directory, "report.html")
	for _, step := range []struct {
		what      string
		change    func()
		published bool
		read      int
	}{
		{"before it is attested", func() {}, false, 1},
		{"once it is", func() {
			if err := attestFiles(p.directory, attest.Statement{Made: time.Now()}, []string{logName, "report.html"}, nil); err != nil {
				t.Fatal(err)
			}
		}, true, 2},
		{"as it was", func() {}, true, 2},
		{"with another page, as large as before", func() { p.write(page, strings.Replace(p.text(page), "well", "good", 1)) }, false, 3},
		{"with the page of before", func() { p.write(page, strings.Replace(p.text(page), "good", "well", 1)) }, true, 4},
		{"with a file more", func() { p.write(filepath.Join(p.directory, "note"), "x") }, true, 5},
		{"with a link to nothing beside it", func() {
			if err := os.Symlink("nothing", filepath.Join(p.directory, "link")); err != nil {
				t.Fatal(err)
			}
		}, true, 6},
		{"without its page", func() {
			if err := os.Remove(page); err != nil {
				t.Fatal(err)
			}
		}, false, 7},
	} {
		p.tick()
		step.change()
		found := p.gather()
		if len(found.Runs) != 1 || found.Runs[0].Published != step.published || p.book.read != step.read {
			t.Errorf("%s: %d logs read, %+v", step.what, p.book.read, found.Runs)
		}
	}
}
