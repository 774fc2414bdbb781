package stage

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// full is evidence of everything: a shop at stage 5.
func full() Evidence {
	rpo := drill.Seconds(0)
	service := drill.Service{
		Name: "shop", Tier: Production, Objectives: drill.Objectives{RTO: drill.Seconds(30 * time.Second), RPO: &rpo},
		Dependencies: []drill.Dependency{{Name: "db", Address: "db.test:5432", Critical: "always"}, {Name: "mail", Address: "mail.test:25", CriticalWhen: `alarm "mail" for 10m`}},
		Metrics:      []drill.Metric{{Name: "db-up", Connect: "db"}}, Alarms: []drill.Alarm{{Name: "{host}-db", Metric: "db-up"}},
		Failover: []drill.Failover{{Name: "shop.test", UnhealthyWhen: []string{"{host}-db"}}},
		Drills:   []drill.Drill{{Name: "lose-db"}},
	}
	book := func(of string) Book {
		return Book{File: of + ".md", For: of, AgreedAt: now.Add(-200 * day), Expires: now.Add(165 * day), Executable: 6, Steps: 8, Confirm: 1}
	}
	e := Evidence{Now: now, Service: service, Disaster: "disaster", Books: []Book{book("disaster"), book("db")}}
	e.Rehearsals = []Rehearsal{
		{Name: "walk", For: "disaster", Tier: "staging", Outcome: history.Passed, At: now.Add(-60 * day)},
		{Name: "auto", For: "disaster", Tier: Production, Outcome: history.Passed, At: now.Add(-10 * day), Automatic: true, Resumed: true},
	}
	for _, ago := range []int{100, 70, 40, 10} {
		e.Runs = append(e.Runs, run(fmt.Sprintf("staging-%d", ago), "staging", ago), run(fmt.Sprintf("production-%d", ago), Production, ago-1))
	}
	bad := run("bad", "staging", 20)
	bad.WentBack, bad.Stopped, bad.Verdict.Outcome = true, true, history.Failed
	bad.Verdict.Steps[1].Outcome = history.Failed
	e.Runs = append(e.Runs, bad)
	return e
}

// run is one that deployed, lost the database, and passed, so many days ago.
func run(name, tier string, ago int) Run {
	at := now.Add(-time.Duration(ago) * day)
	ready := verdict.Check{Group: verdict.GroupReadiness, Name: "rollback ready", Outcome: history.Passed}
	return Run{
		Name: name, Trigger: history.TriggerPipeline, Published: true,
		Plan: drill.Plan{Service: "shop", Tier: tier, Steps: []drill.Step{
			{Kind: drill.StepDeploy}, {Kind: drill.StepDrill, Drill: &drill.PlannedDrill{Name: "lose-db", Attack: drill.Order{Canaries: []string{"db.test:5432"}}}},
		}},
		Verdict: verdict.Verdict{
			Outcome: history.Passed, Finished: at, RTO: &verdict.Figure{Seconds: 4, Bound: 0.1},
			Steps: []verdict.StepVerdict{
				{Step: 0, Kind: drill.StepDeploy, Ran: true, Outcome: history.Passed},
				{Step: 1, Kind: drill.StepDrill, Name: "drill lose-db", Ran: true, Outcome: history.Passed, Finished: at, Checks: []verdict.Check{ready}},
			},
		},
	}
}

// judged is what evidence supports, which must be the same for what is held of its runs when there are many.
func judged(t *testing.T, e Evidence) Result {
	t.Helper()
	got, held := Judge(e), e
	held.Runs = nil
	for _, run := range e.Runs {
		held.Runs = append(held.Runs, run.Slim())
	}
	if less := Judge(held); !reflect.DeepEqual(less, got) {
		t.Errorf("what is held of runs says\n%+v\nand not\n%+v", less, got)
	}
	return got
}

func TestWhatIsHeldOfARunSaysWhatItTookAwayAndWhatMoved(t *testing.T) {
	e := full()
	e.Rehearsals = nil // so that 5.4 stands on runs
	for i := range e.Runs {
		planned := e.Runs[i].Plan.Steps[1].Drill
		planned.Attack = drill.Order{Attack: "cpu", Args: []string{"--length=60"}}
		planned.More = []drill.Order{{Attack: "blackhole", Args: []string{"--length=60", "--hostname=cdn.test,db.test"}}}
		planned.Expectations = []drill.Expectation{{Kind: drill.ExpectMoves}, {Kind: drill.ExpectMovesBack}}
	}
	got := judged(t, e)
	for _, id := range []string{"2.1", "5.4"} {
		if item := got.Items[slices.IndexFunc(got.Items, func(i Item) bool { return i.ID == id })]; item.State != Met {
			t.Errorf("%+v", item)
		}
	}
}

func TestNoEvidenceIsStageZero(t *testing.T) {
	got := judged(t, Evidence{Now: now})
	if got.Stage != 0 || len(got.Items) != 20 {
		t.Fatalf("stage %d with %d items", got.Stage, len(got.Items))
	}
	for _, item := range got.Items {
		if item.State == Met || item.Evidence == "" || item.Next == "" {
			t.Errorf("%+v", item)
		}
	}
}

func TestAllEvidenceIsStageFive(t *testing.T) {
	got := judged(t, full())
	if next, open := got.Next(); got.Stage != 5 || open {
		t.Fatalf("stage %d, then %+v", got.Stage, next)
	}
	if got.Until.IsZero() || got.Until.After(now.Add(cadence)) {
		t.Errorf("holds until %s", got.Until)
	}
	if again := judged(t, full()); fmt.Sprint(again) != fmt.Sprint(got) && again.Stage != got.Stage {
		t.Error("the same evidence gives another stage")
	}
}

// Each item can fail alone, and takes the stages from its own on away.
func TestEachItemIsLostAlone(t *testing.T) {
	each := func(change func(*Run)) func(*Evidence) {
		return func(e *Evidence) {
			for i := range e.Runs {
				change(&e.Runs[i])
			}
		}
	}
	for id, test := range map[string]struct {
		change func(*Evidence)
		state  string
	}{
		"1.1":  {func(e *Evidence) { e.Books[0].Problem = "no contacts" }, Open},
		"1.2":  {func(e *Evidence) { e.Books = e.Books[:1] }, Open},
		"1.3":  {func(e *Evidence) { e.Service.Dependencies[1].CriticalWhen = "" }, Open},
		"1.4":  {func(e *Evidence) { e.Books[1].Missing = []string{"ops"} }, Open},
		"1.4 ": {func(e *Evidence) { e.Books[1].Expires = now }, Expired},
		"1.5":  {func(e *Evidence) { e.Rehearsals = nil }, Open},
		"2.1":  {each(func(r *Run) { r.Plan.Tier = strings.Replace(r.Plan.Tier, "staging", Production, 1) }), Open},
		"2.1 ": {func(e *Evidence) { e.Books[1].AgreedAt = now.Add(-day) }, Open},
		"2.1a": {each(func(r *Run) { r.Plan.Tier = strings.Replace(r.Plan.Tier, "staging", "", 1) }), Open},
		"2.2":  {each(func(r *Run) { r.Published = false }), Open},
		"2.3":  {func(e *Evidence) { e.Service.Failover[0].UnhealthyWhen = nil }, Open},
		"3.1": {func(e *Evidence) {
			e.Runs = slices.DeleteFunc(e.Runs, func(r Run) bool { return strings.HasSuffix(r.Name, "-40") })
		}, Open},
		"3.2": {func(e *Evidence) { e.Service.Drills = append(e.Service.Drills, drill.Drill{Name: "lose-host"}) }, Open},
		"3.3": {func(e *Evidence) {
			e.Runs = slices.DeleteFunc(e.Runs, func(r Run) bool { return r.Plan.Tier == Production })
			e.Rehearsals[1].Tier = "staging"
		}, Open},
		"4.1": {each(func(r *Run) {
			r.Trigger = map[bool]string{true: history.TriggerPerson, false: r.Trigger}[r.Plan.Tier == "staging"]
		}), Open},
		"4.2":  {func(e *Evidence) { e.Books[0].Executable = 3 }, Open},
		"4.2 ": {func(e *Evidence) { e.Rehearsals[1].Asked = 2 }, Open},
		"4.3":  {each(func(r *Run) { r.Stopped = false }), Open},
		"4.3 ": {func(e *Evidence) { e.Runs[7].Verdict.NotReverted = true }, Open},
		"5.1":  {each(func(r *Run) { r.Verdict.Steps[1].Ran = r.Name != "staging-10" }), Open},
		"5.2":  {each(func(r *Run) { r.WentBack = false }), Open},
		"5.3": {each(func(r *Run) {
			r.Trigger = map[bool]string{true: history.TriggerPerson, false: r.Trigger}[r.Plan.Tier == Production]
		}), Open},
		"5.4":  {func(e *Evidence) { e.Rehearsals[1].Resumed = false }, Open},
		"5.5":  {each(func(r *Run) { r.Verdict.RTO = &verdict.Figure{Seconds: 29.95, Bound: 0.1} }), Open},
		"5.5 ": {each(func(r *Run) { r.Verdict.Totals.Unmeasured = "RPO" }), Open},
		"5.6":  {each(func(r *Run) { r.Verdict.Steps[1].Checks = nil }), Open},
	} {
		e := full()
		test.change(&e)
		got := judged(t, e)
		id = id[:3]
		item := got.Items[slices.IndexFunc(got.Items, func(i Item) bool { return i.ID == id })]
		if item.State != test.state {
			t.Errorf("%s: %+v", id, item)
		}
		if want := item.Stage - 1; got.Stage > want {
			t.Errorf("%s is %s, and the stage %d", id, item.State, got.Stage)
		}
	}
}

// A stage is lost when nothing is done, and never grows by waiting.
func TestStagesAreLostByTime(t *testing.T) {
	last, seen := 5, []int{}
	for after := 0; after < 800; after++ {
		e := full()
		e.Now = now.Add(time.Duration(after) * day)
		got := judged(t, e).Stage
		if got > last {
			t.Fatalf("stage %d after %d days, %d the day before", got, after, last)
		}
		if got != last {
			seen = append(seen, after)
		}
		last = got
	}
	if last != 0 || len(seen) < 3 || seen[0] > 35 {
		t.Errorf("ends at stage %d, lost at days %v", last, seen)
	}
}

// Taking evidence away never raises the stage.
func TestLessEvidenceNeverRaisesTheStage(t *testing.T) {
	whole := full()
	for i := range whole.Runs {
		less := full()
		less.Runs = slices.Delete(less.Runs, i, i+1)
		if got := judged(t, less).Stage; got > 5 {
			t.Errorf("stage %d without %s", got, whole.Runs[i].Name)
		}
		// From less, the whole is more.
		less.Rehearsals = nil
		if judged(t, less).Stage > judged(t, whole).Stage {
			t.Errorf("without %s the stage is higher", whole.Runs[i].Name)
		}
	}
	another := full()
	another.Service.Name = "another"
	if got := judged(t, another); got.Stage > 1 {
		t.Errorf("runs of another service give stage %d", got.Stage)
	}
}

func TestBadgeAndPageSayTheStage(t *testing.T) {
	var badge, page, text bytes.Buffer
	r := judged(t, full())
	r.Service = "<script>"
	for _, err := range []error{WriteBadge(&badge, r), WritePage(&page, r), WriteText(&text, r)} {
		if err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(badge.String(), "stage 5") || !strings.Contains(page.String(), "stage 5 of 5") || strings.Contains(page.String(), "<script>") || !strings.Contains(text.String(), "stage 5 of 5, until ") {
		t.Errorf("%s\n%s", badge.String(), text.String())
	}
}

// What comes next must be what would meet the item, or people follow it in vain.
func TestNextSaysWhatWouldHelp(t *testing.T) {
	for id, test := range map[string]struct {
		change     func(*Evidence)
		text, next string
	}{
		"3.2": {func(e *Evidence) { e.Service.Drills = append(e.Service.Drills, drill.Drill{Name: "lose-host"}) }, "lose-host ran never", "firedrill run lose-host"},
		"2.1": {func(e *Evidence) {
			e.Service.Tier = ""
			for i := range e.Runs {
				e.Runs[i].Plan.Tier = ""
			}
		}, "in a run outside of production", "tier: staging"},
	} {
		e := full()
		test.change(&e)
		items := judged(t, e).Items
		item := items[slices.IndexFunc(items, func(i Item) bool { return i.ID == id })]
		if !strings.Contains(item.Evidence, test.text) || !strings.Contains(item.Next, test.next) {
			t.Errorf("%s: %q, next %q", id, item.Evidence, item.Next)
		}
	}
}
