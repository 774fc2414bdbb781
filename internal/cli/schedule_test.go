package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
	"firedrill/internal/schedule"
)

// fakeRuns stands in for the pipeline: it notes what is started when, and ends as it is told.
type fakeRuns struct {
	length  time.Duration
	revert  time.Duration // what an interrupted run still needs
	code    int
	started []string
	ended   int
	atOnce  int
	most    int
}

func (f *fakeRuns) run(ctx context.Context, items []string) (int, string) {
	f.started = append(f.started, time.Now().UTC().Format("Mon 15:04")+" "+strings.Join(items, ", "))
	f.atOnce++
	f.most = max(f.most, f.atOnce)
	defer func() { f.atOnce--; f.ended++ }()
	select {
	case <-time.After(f.length):
		return f.code, ""
	case <-ctx.Done():
		time.Sleep(f.revert) // it reverts, whatever the context says
		return 143, ""
	}
}

// scheduled makes a scheduler over entries, in the time of a bubble (which begins on Saturday 2000-01-01 in UTC).
func scheduled(t *testing.T, runs *fakeRuns, written ...drill.Scheduled) *scheduler {
	t.Helper()
	entries, err := schedule.FromService(drill.Service{Name: "bookstore", Pipeline: []string{"deploy idle", "promote"}, Schedule: written})
	if err != nil {
		t.Fatal(err)
	}
	return &scheduler{entries: entries, run: runs.run, tell: func(string, ...any) {}}
}

var (
	dailyPipeline = drill.Scheduled{Pipeline: true, Cron: "0 9 * * *"}
	tenOnTuesdays = drill.Scheduled{Drill: "lose-host", Cron: "0 10 * * TUE", Window: "Mon-Fri 09:00-15:00"}
)

// play runs the loop for a span of the bubble's time.
func play(t *testing.T, l *scheduler, span time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	return l.loop(ctx)
}

func TestSchedulerRunsEachMomentOnceAndOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := &fakeRuns{length: 90 * time.Minute}
		both := tenOnTuesdays
		both.CatchUp = drill.CatchUp(time.Hour)
		l := scheduled(t, runs, dailyPipeline, both)
		if err := play(t, l, 7*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"Sat 09:00 deploy idle, promote", "Sun 09:00 deploy idle, promote", "Mon 09:00 deploy idle, promote", "Tue 09:00 deploy idle, promote",
			"Tue 10:30 drill lose-host", "Wed 09:00 deploy idle, promote", "Thu 09:00 deploy idle, promote", "Fri 09:00 deploy idle, promote",
		}
		if diff := cmp.Diff(want, runs.started); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if runs.most != 1 || runs.ended != len(runs.started) {
			t.Errorf("%d runs at once, %d of %d ended", runs.most, runs.ended, len(runs.started))
		}
	})
}

func TestSchedulerWaitsForTheRevertBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := &fakeRuns{length: 10 * time.Hour, revert: 20 * time.Second}
		l := scheduled(t, runs, dailyPipeline)
		begun := time.Now()
		if err := play(t, l, 9*time.Hour+time.Minute); err != nil { // a minute into the run
			t.Fatal(err)
		}
		if runs.ended != 1 {
			t.Fatal("the loop returned before its run had ended")
		}
		if over := time.Since(begun) - 9*time.Hour - time.Minute; over < runs.revert {
			t.Errorf("returned %s after the signal; the revert takes %s", over, runs.revert)
		}
		if run := l.book.Runs[0]; run.Code != 143 || run.Ended.IsZero() {
			t.Errorf("the book says %+v", run)
		}
	})
}

func TestSchedulerNeitherForgetsNorRepeatsOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		directory := t.TempDir()
		options := scheduleOptions{out: directory}
		late := dailyPipeline
		late.CatchUp = drill.CatchUp(5 * time.Hour)
		start := func(runs *fakeRuns, span time.Duration) *scheduler {
			l := scheduled(t, runs, late)
			unlock, err := l.keep(options)
			if err != nil {
				t.Fatal(err)
			}
			defer unlock()
			if err := play(t, l, span); err != nil {
				t.Fatal(err)
			}
			return l
		}
		runs := &fakeRuns{length: time.Minute}
		start(runs, 9*time.Hour+30*time.Minute) // runs at 09:00
		start(runs, time.Hour)                  // does not run it again
		if len(runs.started) != 1 {
			t.Fatalf("started %q, want one run", runs.started)
		}
		time.Sleep(24 * time.Hour) // stopped over the next 09:00, until 10:30
		start(runs, time.Hour)
		want := []string{"Sat 09:00 deploy idle, promote", "Sun 10:30 deploy idle, promote"}
		if diff := cmp.Diff(want, runs.started); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestSchedulerHaltsWhenImpactMayRemain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		directory := t.TempDir()
		runs := &fakeRuns{length: time.Minute, code: exitNotReverted}
		l := scheduled(t, runs, dailyPipeline)
		unlock, err := l.keep(scheduleOptions{out: directory})
		if err != nil {
			t.Fatal(err)
		}
		if err := play(t, l, 72*time.Hour); err != nil {
			t.Fatal(err)
		}
		unlock()
		if len(runs.started) != 1 || l.halted() == "" {
			t.Errorf("started %q, halted %q; want one run and a halt", runs.started, l.halted())
		}
		// It stays halted over a restart, until a person has looked.
		for _, resume := range []bool{false, true} {
			l := scheduled(t, runs, dailyPipeline)
			unlock, err := l.keep(scheduleOptions{out: directory, resume: resume})
			if err != nil {
				t.Fatal(err)
			}
			before := len(runs.started)
			if err := play(t, l, 24*time.Hour); err != nil {
				t.Fatal(err)
			}
			unlock()
			if got := len(runs.started) > before; got != resume {
				t.Errorf("--resume=%t: runs again: %t", resume, got)
			}
		}
	})
}

func TestSchedulerStartsNothingThatItCannotRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := &fakeRuns{length: time.Minute}
		l := scheduled(t, runs, dailyPipeline)
		full := errors.New("disk full")
		l.save = func(scheduleBook) error { return full }
		if err := play(t, l, 72*time.Hour); !errors.Is(err, full) {
			t.Errorf("ended with %v, want %v", err, full)
		}
		if len(runs.started) > 0 {
			t.Errorf("started %q", runs.started)
		}
	})
}

func TestSchedulerOutlivesAFaultOfARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := &fakeRuns{length: time.Minute}
		l := scheduled(t, runs, dailyPipeline)
		first := true
		l.run = func(ctx context.Context, items []string) (int, string) {
			if first {
				first = false
				panic("a planted fault")
			}
			return runs.run(ctx, items)
		}
		if err := play(t, l, 48*time.Hour); err != nil {
			t.Fatal(err)
		}
		if len(runs.started) != 1 || l.book.Runs[0].Code != exitInternal {
			t.Errorf("started %q after a fault that the book calls %+v", runs.started, l.book.Runs[0])
		}
	})
}

// The file is read again: a new entry starts with its next moment, a wrong file changes nothing and is told once, and the run under way ends.
func TestSchedulerTakesAChangedFileAndKeepsAWrongOneOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := &fakeRuns{length: 2 * time.Hour}
		l := scheduled(t, runs, dailyPipeline)
		late := drill.Scheduled{Drill: "lose-host", Cron: "0 8 * * *", CatchUp: drill.CatchUp(5 * time.Hour)}
		after := scheduled(t, runs, late).entries
		begun, looks := time.Now(), 0
		var told []string
		l.tell = func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
		l.read = func() reading {
			ago := time.Since(begun)
			switch {
			case ago >= 10*time.Hour && looks == 0: // in the middle of the run of 09:00
				looks++
				return reading{changed: true, entries: after}
			case ago >= 30*time.Hour && looks == 1:
				looks++
				return reading{changed: true, wrong: "line 3: endpiont"}
			}
			return reading{}
		}
		if err := play(t, l, 60*time.Hour); err != nil {
			t.Fatal(err)
		}
		want := []string{"Sat 09:00 deploy idle, promote", "Sun 08:00 drill lose-host", "Mon 08:00 drill lose-host"}
		if diff := cmp.Diff(want, runs.started); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if got := strings.Count(strings.Join(told, "\n"), "goes on with the one before: line 3: endpiont"); got != 1 {
			t.Errorf("the wrong file was told %d times: %q", got, told)
		}
		if _, _, wrong := l.look(); wrong == "" || runs.ended != len(runs.started) {
			t.Errorf("the page knows of %q, and %d of %d runs ended", wrong, runs.ended, len(runs.started))
		}
	})
}

func TestServiceFileIsTakenWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "firedrill.yaml")
	good, err := os.ReadFile("../e2e/testdata/small/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := &serviceFile{path: path}
	write(string(good))
	if first := file.read(); !first.changed || first.wrong != "" || len(first.entries) != 1 {
		t.Fatalf("%+v", first)
	}
	if again := file.read(); again.changed {
		t.Errorf("unchanged: %+v", again)
	}
	for _, wrong := range []string{"service: [", strings.Replace(string(good), "endpoint:", "endpiont:", 1), ""} {
		write(wrong)
		if found := file.read(); !found.changed || found.wrong == "" {
			t.Errorf("%.20q was taken: %+v", wrong, found)
		}
		if found := file.read(); found.changed {
			t.Errorf("%.20q is told twice", wrong)
		}
		if got := file.taken(); got.Name != "bookstore" {
			t.Errorf("after %.20q the service is %q", wrong, got.Name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if gone := file.read(); !gone.changed || gone.wrong == "" {
		t.Errorf("gone: %+v", gone)
	}
	if gone := file.read(); gone.changed {
		t.Errorf("gone, told twice: %+v", gone)
	}
	write(strings.Replace(string(good), "service: bookstore", "service: library", 1))
	if found := file.read(); !found.changed || found.wrong != "" || file.taken().Name != "library" {
		t.Errorf("%+v", found)
	}
}

func TestTwoSchedulersDoNotShareADirectory(t *testing.T) {
	directory := t.TempDir()
	first, second := scheduled(t, &fakeRuns{}, dailyPipeline), scheduled(t, &fakeRuns{}, dailyPipeline)
	unlock, err := first.keep(scheduleOptions{out: directory})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.keep(scheduleOptions{out: directory}); drill.KindOf(err) != drill.Refused {
		t.Errorf("the second got %v, want a refusal", err)
	}
	unlock()
	unlock, err = second.keep(scheduleOptions{out: directory})
	if err != nil {
		t.Fatalf("after the first had ended: %v", err)
	}
	unlock()
}

func TestSchedulePageShowsRunsAndNothingElse(t *testing.T) {
	out := t.TempDir()
	run := filepath.Join(out, "20261124T090000Z-0a1b2c")
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	for path, text := range map[string]string{
		filepath.Join(run, "verdict.json"): `{"outcome":"failed","reason":"<b>no</b> failover","steps":[{"name":"drill lose-host on blue"}]}`,
		filepath.Join(run, "report.html"):  "<title>the report</title>",
		filepath.Join(run, "token"):        "secret",
		secret:                             "secret",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, filepath.Join(run, "report.md")); err != nil {
		t.Fatal(err)
	}
	l := scheduled(t, &fakeRuns{}, tenOnTuesdays)
	l.leashed = true
	l.open(time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC))
	if _, _, err := l.step(time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	page := schedulePage(l, out)
	get := func(method, path string) (int, string) {
		recorder := httptest.NewRecorder()
		page.ServeHTTP(recorder, httptest.NewRequest(method, path, nil))
		if recorder.Code == http.StatusOK && !strings.HasPrefix(recorder.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy that keeps scripts out", path)
		}
		return recorder.Code, recorder.Body.String()
	}
	code, text := get("GET", "/")
	for _, want := range []string{"failed", "&lt;b&gt;no&lt;/b&gt; failover", "drill lose-host on blue", "/runs/20261124T090000Z-0a1b2c/report.html", "Leashed", "next Tue 2026-12-01 10:00:00 UTC", "not its time yet"} {
		if !strings.Contains(text, want) {
			t.Errorf("the index (%d) lacks %q:\n%s", code, want, text)
		}
	}
	if code, text := get("GET", "/runs/20261124T090000Z-0a1b2c/report.html"); code != http.StatusOK || text != "<title>the report</title>" {
		t.Errorf("report: %d %q", code, text)
	}
	for _, path := range []string{
		"/runs/20261124T090000Z-0a1b2c/token", "/runs/20261124T090000Z-0a1b2c/report.md", "/runs/20261124T090000Z-0a1b2c/run.jsonl",
		"/runs/..%2f..%2fetc/report.html", "/runs/x/report.html", "/schedule.json", "/runs/",
	} {
		if code, text := get("GET", path); code == http.StatusOK || strings.Contains(text, "secret") {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		if code, _ := get(method, "/"); code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, code)
		}
	}
}

func TestBrokenOffRunsAreToldApart(t *testing.T) {
	l := scheduled(t, &fakeRuns{}, dailyPipeline)
	now := time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC)
	l.book.Runs = []scheduledRun{{Name: "pipeline @ 0 9 * * *", Moment: now.Add(-2 * time.Hour), Started: now.Add(-2 * time.Hour)}}
	l.open(now)
	if run := l.book.Runs[0]; run.Code != exitInternal || run.Why == "" || run.Ended.IsZero() {
		t.Errorf("a run that its process did not outlive: %s", fmt.Sprintf("%+v", run))
	}
}
