package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const oneDay = 24 * time.Hour

// old is a server whose history goes back for years: what must stay is in it beside what may go.
type old struct {
	c          *Control
	now        time.Time
	runs       map[string]string // by name: the ID
	drills     map[string]string
	stay, goes map[string]bool // names
}

func newOld(t *testing.T, directory string, heedless bool) *old {
	t.Helper()
	o := &old{now: time.Now(), runs: map[string]string{}, drills: map[string]string{}, stay: map[string]bool{}, goes: map[string]bool{}}
	o.open(t, directory, heedless)
	number := 0
	name := func(ago int) string {
		number++
		return fmt.Sprintf("%08x-0000-7000-8000-%012d", o.now.Add(-time.Duration(ago)*oneDay).Unix(), number)
	}
	run := func(what string, ago int, stays bool, change func(*fleet.Run)) {
		at := o.now.Add(-time.Duration(ago) * oneDay)
		r := fleet.Run{ID: name(ago), Services: []string{"shop"}, Start: at, Deadline: at.Add(time.Hour), State: fleet.RunEnded, Hosts: []fleet.RunHost{{Key: "KEY", Name: "web1", Order: name(ago), State: fleet.HostEnded, Reverted: true, Bit: true}}}
		if change != nil {
			change(&r)
		}
		if err := o.c.runs.put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := o.c.store.js.Publish(t.Context(), journalSubject("KEY", r.Hosts[0].Order), encode(fleet.Journal{Order: r.Hosts[0].Order, Lines: []string{what}})); err != nil {
			t.Fatal(err)
		}
		o.runs[what] = r.ID
		o.note("run "+what, stays)
	}
	rehearse := func(what, of string, ago int, outcome string, stays bool, change func(*fleet.DrillRun)) {
		at := o.now.Add(-time.Duration(ago) * oneDay).Truncate(time.Second)
		d := fleet.DrillRun{ID: name(ago), Request: fleet.DrillRequest{Service: "shop", Drill: of}, Started: at, Until: at.Add(time.Hour), State: fleet.DrillEnded, Outcome: outcome}
		d.Result = at.UTC().Format("20060102T150405Z") + fmt.Sprintf("-%06x", number)
		if change != nil {
			change(&d)
		}
		record := fleet.Record{ID: d.Result, Service: "shop", Outcome: outcome, Started: at, Steps: []fleet.RecordStep{{Kind: "drill", Name: "drill " + of + " on green (chosen web2)", Outcome: outcome}}}
		if err := errors.Join(o.c.drills.put(t.Context(), d.ID, d), o.c.KeepRecord(t.Context(), record), os.MkdirAll(filepath.Join(o.c.DrillsDirectory(), d.Result), 0o700)); err != nil {
			t.Fatal(err)
		}
		o.drills[what] = d.ID
		o.note("drill "+what, stays)
	}
	for i, outcome := range []string{"passed", "passed", "failed", "inconclusive", "inconclusive"} {
		rehearse(fmt.Sprintf("lose-db %d", i), "lose-db", 900-10*i, outcome, i > 0, nil)
	}
	for i := range 4 {
		rehearse(fmt.Sprintf("lose-cdn %d", i), "lose-cdn", 300-10*i, "passed", true, nil) // a stage may rest on them
	}
	for i := range 4 {
		rehearse(fmt.Sprintf("lose-host %d", i), "lose-host", 800-10*i, "passed", i > 0, func(d *fleet.DrillRun) { d.Left = i == 1 })
	}
	run("that is long over", 700, false, nil)
	run("that was named by the schedule", 690, true, nil)
	run("that may be in force", 680, true, func(r *fleet.Run) { r.Hosts[0].Reverted = false })
	run("that goes on", 670, true, func(r *fleet.Run) { r.State = fleet.RunRunning })
	run("of a drill that stays", 660, true, func(r *fleet.Run) { r.Drill = o.drills["lose-db 1"] })
	run("of a drill that goes", 655, false, func(r *fleet.Run) { r.Drill = o.drills["lose-db 0"] })
	run("the newest of its service", 650, true, func(r *fleet.Run) { r.Services = []string{"bank"} })
	run("beyond the number", 90, false, nil)
	run("new", 1, true, nil)
	if err := o.c.schedule.put(t.Context(), "entry", fleet.Scheduled{ID: "entry", Name: "entry", Cron: "0 0 1 1 *", Last: o.runs["that was named by the schedule"]}); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *old) note(name string, stays bool) {
	if stays {
		o.stay[name] = true
	} else {
		o.goes[name] = true
	}
}

func (o *old) open(t *testing.T, directory string, heedless bool) {
	t.Helper()
	// One run of nine would be kept by the number alone, and all that are younger than two years by their age.
	o.c = openWith(t, directory, func(options *Options) {
		options.Retention, options.Heedless = Retention{Age: 365 * oneDay, Runs: 1}, heedless
	})
}

// wrong says what is there and should not be, or the other way round.
func (o *old) wrong(t *testing.T) (problems []string) {
	t.Helper()
	holds := func(name string, there bool) {
		if there && o.goes[name] {
			problems = append(problems, name+" is still there")
		}
		if !there && o.stay[name] {
			problems = append(problems, name+" is gone")
		}
	}
	directories, err := os.ReadDir(o.c.DrillsDirectory())
	if err != nil {
		t.Fatal(err)
	}
	lying := map[string]bool{}
	for _, one := range directories {
		lying[one.Name()] = true
	}
	for what, id := range o.runs {
		_, there := o.c.runs.get(id)
		holds("run "+what, there)
		_, err := o.c.FindRun(id[len(id)-8:])
		holds("run "+what, err == nil)
	}
	kept, err := o.c.journal.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if int(kept.State.Msgs) != o.c.runs.count() {
		problems = append(problems, fmt.Sprintf("%d journals of %d runs", kept.State.Msgs, o.c.runs.count()))
	}
	records, _ := o.c.Records("shop", "", 1000)
	verdicts := map[string]bool{}
	for _, record := range records {
		verdicts[record.ID] = true
	}
	for what, id := range o.drills {
		run, there := o.c.drills.get(id)
		holds("drill "+what, there)
		if there && (!lying[run.Result] || !verdicts[run.Result]) {
			problems = append(problems, "log or verdict of drill "+what+" is gone")
		}
	}
	if there := len(o.c.drills.values()); len(lying) != there || len(verdicts) != there {
		problems = append(problems, fmt.Sprintf("%d directories and %d verdicts of %d drills", len(lying), len(verdicts), there))
	}
	return problems
}

func TestTheRetentionRemovesWhatIsOldAndNothingThatCounts(t *testing.T) {
	t.Parallel()
	for _, planted := range []bool{false, true} {
		directory := filepath.Join(t.TempDir(), "fleet")
		o := newOld(t, directory, planted)
		gone := []string{}
		for _, run := range o.c.drills.values() {
			gone = append(gone, run.Result)
		}
		dry, err := o.c.prune(t.Context(), o.now, true)
		if err != nil {
			t.Fatal(err)
		}
		if there := o.c.runs.count() + len(o.c.drills.values()); there != len(o.goes)+len(o.stay) {
			t.Errorf("planted %v: a look leaves %d of %d", planted, there, len(o.goes)+len(o.stay))
		}
		done, err := o.c.prune(t.Context(), o.now, false)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(dry.Runs, done.Runs) || !slices.Equal(dry.Drills, done.Drills) || !slices.Equal(dry.Verdicts, done.Verdicts) {
			t.Errorf("planted %v: what was said: %+v, and done: %+v", planted, dry, done)
		}
		problems := o.wrong(t)
		if planted {
			if len(problems) == 0 {
				t.Error("the planted bug is not caught")
			}
			shut(t, o.c)
			continue
		}
		if len(problems) > 0 {
			t.Errorf("%s", strings.Join(problems, "\n"))
		}
		if again, err := o.c.prune(t.Context(), o.now, false); err != nil || len(again.Runs)+len(again.Drills)+len(again.Verdicts) > 0 {
			t.Errorf("again: %+v, %v", again, err)
		}
		shut(t, o.c)
		o.open(t, directory, false)
		if problems := o.wrong(t); len(problems) > 0 {
			t.Errorf("after a restart: %s", strings.Join(problems, "\n"))
		}
		for _, result := range gone {
			if !o.c.Recorded(result) {
				t.Errorf("%s would be taken up again", result)
			}
		}
		if audited(t, o.c, "the retention removes 3 runs, 2 drills, 2 verdicts") != 1 {
			t.Error("the audit log does not say so")
		}
		shut(t, o.c)
	}
}

func TestWithoutARetentionEverythingStays(t *testing.T) {
	t.Parallel()
	o := newOld(t, filepath.Join(t.TempDir(), "fleet"), false)
	defer shut(t, o.c)
	o.c.options.Retention = Retention{}
	done, err := o.c.prune(t.Context(), o.now, false)
	if err != nil || len(done.Runs)+len(done.Drills)+len(done.Verdicts)+done.AuditLogs > 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestWhatWasWrittenMeanwhileIsNotForgotten(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fleet"), nil)
	defer shut(t, c)
	ctx := context.Background()
	if err := c.drills.put(ctx, "one", fleet.DrillRun{ID: "one"}); err != nil {
		t.Fatal(err)
	}
	revision, err := c.drills.drop(ctx, "one")
	if err != nil {
		t.Fatal(err)
	}
	if c.drills.forget(gone{"one", revision + 1}) || !c.drills.forget(gone{"one", revision}) {
		t.Error("another revision was forgotten than was removed")
	}
	if err := c.drills.put(ctx, "one", fleet.DrillRun{ID: "one"}); err != nil {
		t.Errorf("a name that was removed cannot be written again: %v", err)
	}
	if revision, err = c.drills.drop(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.drills.drop(ctx, "one"); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

// auditedDirectory is a fleet's directory with the logs of several starts.
func auditedDirectory(t *testing.T, starts int, change func(*Options)) (string, *Control) {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "fleet")
	for i := range starts {
		c := openWith(t, directory, func(o *Options) {
			o.Retention = Retention{Age: oneDay}
			if change != nil {
				change(o)
			}
		})
		for line := range 3 {
			c.Record("line %d of start %d", line, i)
		}
		if i == starts-1 {
			return directory, c
		}
		shut(t, c)
	}
	return directory, nil
}

// lateLines records lines while nothing can be written, and says which of them are there in the end.
func lateLines(t *testing.T, silenced bool) []string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "audit")
	a, err := openAuditLog(directory, "12345678")
	if err != nil {
		t.Fatal(err)
	}
	a.silenced = silenced
	if err := a.record("before"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.file.Close(), os.Rename(directory, directory+".away")); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if a.record(fmt.Sprintf("while %d", i)) == nil {
			t.Error("it could be written")
		}
	}
	if err := os.Rename(directory+".away", directory); err != nil {
		t.Fatal(err)
	}
	if err := a.catchUp(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(a.record("after"), a.close()); err != nil {
		t.Error(err)
	}
	names, err := auditNames(directory)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			t.Fatal(err)
		}
		events, err := history.Read(bytes.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, event := range events[1:] {
			lines = append(lines, event.Fact.(*history.Note).Text) //nolint:forcetypeassert // there is nothing else
		}
	}
	return lines
}

func TestALineThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	t.Parallel()
	if got, want := lateLines(t, false), []string{"before", "while 0", "while 1", "while 2", "after"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestALineThatIsLetGoIsCaught(t *testing.T) {
	t.Parallel()
	if got := lateLines(t, true); slices.Contains(got, "while 0") {
		t.Errorf("the planted bug is not noticed: %q", got)
	}
}

func auditFiles(t *testing.T, directory string) []string {
	t.Helper()
	names, err := auditNames(filepath.Join(directory, auditDirectory))
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		names[i] = filepath.Join(directory, auditDirectory, names[i])
	}
	return names
}

func TestTheAuditLogIsVerifiableAcrossWhatWasRemoved(t *testing.T) {
	t.Parallel()
	for _, planted := range []bool{false, true} {
		directory, c := auditedDirectory(t, 5, func(o *Options) { o.Untold = planted })
		whole, err := VerifyAudit(directory)
		if err != nil || whole.Files != 5 || len(whole.Unlinked) > 0 || whole.Removed != nil {
			t.Fatalf("%+v, %v", whole, err)
		}
		names := auditFiles(t, directory)
		fourth, err := auditNameTime(filepath.Base(names[3]))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		files, err := c.pruneAudit(fourth.Add(1), false)
		if err != nil || files != 3 {
			t.Fatalf("%d, %v", files, err)
		}
		proof, err := VerifyAudit(directory)
		if planted {
			if err == nil {
				t.Error("the planted bug is not caught")
			}
			shut(t, c)
			continue
		}
		if err != nil || proof.Files != 2 || proof.Removed == nil || proof.Removed.Files != 3 || proof.Lines+proof.Removed.Lines != whole.Lines || !proof.Removed.From.Equal(whole.From) {
			t.Errorf("%+v, %v", proof, err)
		}
		// A server that went down between checkpoint and removal.
		if err := os.WriteFile(names[0], kept, 0o600); err != nil {
			t.Fatal(err)
		}
		if again, err := VerifyAudit(directory); err != nil || again.Lines != proof.Lines {
			t.Errorf("with a log that was to be removed: %+v, %v", again, err)
		}
		if files, err := c.pruneAudit(fourth.Add(1), false); err != nil || files != 1 {
			t.Errorf("%d, %v", files, err)
		}
		if files, err := c.pruneAudit(time.Now().Add(time.Hour), false); err != nil || files != 1 {
			t.Errorf("the log that is written is removed: %d, %v", files, err)
		}
		if proof, err = VerifyAudit(directory); err != nil || proof.Files != 1 || proof.Removed.Files != 4 {
			t.Errorf("%+v, %v", proof, err)
		}
		if err := c.audit.next(time.Now()); err != nil {
			t.Error(err)
		}
		c.Record("a line in another file")
		if proof, err = VerifyAudit(directory); err != nil || proof.Files != 2 {
			t.Errorf("%+v, %v", proof, err)
		}
		shut(t, c)
		again := openWith(t, directory, func(*Options) {})
		if proof, err = VerifyAudit(directory); err != nil || proof.Files != 3 {
			t.Errorf("after another start: %+v, %v", proof, err)
		}
		shut(t, again)
	}
}

func TestWhatIsDoneToTheAuditLogIsFound(t *testing.T) {
	t.Parallel()
	directory, c := auditedDirectory(t, 6, nil)
	names := auditFiles(t, directory)
	third, err := auditNameTime(filepath.Base(names[2]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.pruneAudit(third.Add(1), false); err != nil {
		t.Fatal(err)
	}
	shut(t, c)
	names = auditFiles(t, directory)
	checkpoint := filepath.Join(directory, auditDirectory, checkpointFile)
	change := func(path string, with func([]byte) []byte) func(*testing.T) {
		return func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, with(text), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(path string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	lines := func(from, to int) func([]byte) []byte {
		return func(text []byte) []byte {
			all := bytes.SplitAfter(text, []byte("\n"))
			return bytes.Join(all[from:len(all)-1-to], nil)
		}
	}
	other, stranger := auditedDirectory(t, 3, nil)
	if _, err := stranger.pruneAudit(time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	shut(t, stranger)
	foreign, err := os.ReadFile(filepath.Join(other, auditDirectory, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func(*testing.T){
		"a word is changed":                 change(names[1], func(text []byte) []byte { return bytes.Replace(text, []byte("line 1"), []byte("line 7"), 1) }),
		"a first line is removed":           change(names[1], lines(1, 0)),
		"a last line is removed":            change(names[1], lines(0, 1)),
		"a log is removed":                  remove(names[1]),
		"the first log is removed":          remove(names[0]),
		"a log is emptied":                  change(names[2], func([]byte) []byte { return nil }),
		"the checkpoint is removed":         remove(checkpoint),
		"a number in the checkpoint":        change(checkpoint, func(text []byte) []byte { return bytes.Replace(text, []byte(`"files":2`), []byte(`"files":1`), 1) }),
		"the checkpoint is of another one":  change(checkpoint, func([]byte) []byte { return foreign }),
		"two logs have changed their names": func(t *testing.T) { swap(t, names[0], names[1]) },
	} {
		t.Run(what, func(t *testing.T) {
			copied := map[string][]byte{}
			for _, path := range append(slices.Clone(names), checkpoint) {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				copied[path] = text
			}
			do(t)
			if proof, err := VerifyAudit(directory); !errors.Is(err, history.ErrAltered) {
				t.Errorf("%+v, %v", proof, err)
			}
			for path, text := range copied {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := VerifyAudit(directory); err != nil {
				t.Fatalf("as it was: %v", err)
			}
		})
	}
}

func swap(t *testing.T, one, other string) {
	t.Helper()
	if err := errors.Join(os.Rename(one, one+".swap"), os.Rename(other, one), os.Rename(one+".swap", other)); err != nil {
		t.Fatal(err)
	}
}

func TestAnAlteredAuditLogIsNotRemoved(t *testing.T) {
	t.Parallel()
	directory, c := auditedDirectory(t, 4, nil)
	defer shut(t, c)
	names := auditFiles(t, directory)
	text, err := os.ReadFile(names[1])
	if err == nil {
		err = os.WriteFile(names[1], bytes.Replace(text, []byte("line 1"), []byte("line 7"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := c.pruneAudit(time.Now().Add(time.Hour), false)
	if files != 1 || !errors.Is(err, history.ErrAltered) {
		t.Errorf("%d, %v", files, err)
	}
	if left := auditFiles(t, directory); len(left) != 3 || left[0] != names[1] {
		t.Errorf("%q", left)
	}
}

func TestTheAuditLogGoesOnAfterADiskThatWasFull(t *testing.T) {
	t.Parallel()
	directory, c := auditedDirectory(t, 2, nil)
	defer shut(t, c)
	// What a full disk leaves: half a line, and a writer that writes no more.
	if _, err := c.audit.file.WriteString(`{"seq":99,"at":"20`); err != nil {
		t.Fatal(err)
	}
	if err := c.audit.file.Close(); err != nil {
		t.Fatal(err)
	}
	c.Record("this line is kept")
	proof, err := VerifyAudit(directory)
	if err != nil || proof.Files != 3 {
		t.Errorf("%+v, %v", proof, err)
	}
	if audited(t, c, "this line is kept") != 1 {
		t.Error("it is not")
	}
}
