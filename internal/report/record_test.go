package report_test

import (
	"encoding/json"
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/report"
	"firedrill/internal/verdict/verdicttest"
)

// whole is an annex that leaves nothing out, for the findings of a record.
func whole(record report.Record) report.Annex {
	annex := report.Annex{
		Type: "exercise", Function: "selling books", Scenario: "the network to the database is cut, as in last year's outage", Participants: []string{"lead: on duty"},
		Approvals: []string{"operations"}, SignOff: []string{"head of operations, 2026-11-29"}, ManagementOn: "2026-12-01",
	}
	for _, finding := range record.Findings {
		annex.FindingsByCheck = append(annex.FindingsByCheck, report.AnnexFinding{ID: finding.ID, Owner: "platform", Due: "2026-12-31", Retest: "01939f4e"})
	}
	return annex
}

func recordOf(t *testing.T, in report.Input) report.Record {
	t.Helper()
	record, err := report.NewRecord(in)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestARecordIsCompleteOnlyWithAllThatIsAskedFor(t *testing.T) {
	in := told(verdicttest.DeadStandby)
	in.Plan.Tier = "staging"
	bare := recordOf(t, in)
	if bare.Complete || len(bare.Findings) == 0 || bare.Verdict == history.Passed {
		t.Fatalf("complete %t, %d findings, %s", bare.Complete, len(bare.Findings), bare.Verdict)
	}
	in.Annex = whole(bare)
	if full := recordOf(t, in); !full.Complete {
		t.Fatalf("not complete: %v", full.Missing)
	}
	missed := ""
	for _, finding := range bare.Findings {
		if finding.Missed {
			missed = finding.ID
		}
	}
	if missed == "" {
		t.Error("no objective was missed, so nothing tells whether a retest is asked for")
	}
	// The planted bugs: each thing that is left out must be named.
	for what, leave := range map[string]func(*report.Annex){
		"no owner":    func(a *report.Annex) { a.FindingsByCheck[0].Owner = "" },
		"no due date": func(a *report.Annex) { a.FindingsByCheck[0].Due = "soon" },
		"without a retest": func(a *report.Annex) {
			for i := range a.FindingsByCheck {
				a.FindingsByCheck[i].Retest = ""
			}
		},
		"no finding of this run": func(a *report.Annex) { a.FindingsByCheck[0].ID = "F-00000000" },
		"type:":                  func(a *report.Annex) { a.Type = "game" },
		"function:":              func(a *report.Annex) { a.Function = "" },
		"scenario:":              func(a *report.Annex) { a.Scenario = "" },
		"participants":           func(a *report.Annex) { a.Participants = nil },
		"approvals":              func(a *report.Annex) { a.Approvals = nil },
		"sign_off":               func(a *report.Annex) { a.SignOff = nil },
		"management_report":      func(a *report.Annex) { a.ManagementOn = "" },
	} {
		in.Annex = whole(bare)
		leave(&in.Annex)
		if got := recordOf(t, in); got.Complete || !strings.Contains(strings.Join(got.Missing, "\n"), what) {
			t.Errorf("nothing says %q: %v", what, got.Missing)
		}
	}
	in.Annex = whole(bare)
	in.Annex.FindingsByCheck[0] = report.AnnexFinding{ID: in.Annex.FindingsByCheck[0].ID, AcceptedBy: "the owner of the shop"}
	if got := recordOf(t, in); !got.Complete {
		t.Errorf("an accepted risk still misses: %v", got.Missing)
	}
}

// The page lists what the record lists, and says of each who takes care of it, or that nobody does.
func TestThePageSaysWhoTakesCareOfEachFinding(t *testing.T) {
	in := told(verdicttest.DeadStandby)
	findings := recordOf(t, in).Findings
	bare := render(t, report.HTML, in)
	for _, finding := range findings {
		if !strings.Contains(bare, `id="`+finding.ID+`"`) {
			t.Errorf("%s (%s) is not on the page", finding.ID, finding.Check)
		}
	}
	if got := strings.Count(bare, "nobody yet"); got != len(findings) || strings.Count(bare, "no date") != len(findings) || !strings.Contains(bare, "to be done") {
		t.Errorf("%d of %d findings have nobody, on a page without an annex", got, len(findings))
	}
	in.Annex = whole(recordOf(t, in))
	in.Annex.FindingsByCheck[0].Action = "shorter <b>period</b>"
	full := render(t, report.HTML, in)
	if strings.Contains(full, "nobody yet") || strings.Contains(full, `class="missing"`) || strings.Count(full, ">platform<") != len(findings) || strings.Count(full, ">2026-12-31<") != len(findings) {
		t.Error("with a whole annex not every finding has its owner and its date")
	}
	if strings.Contains(full, "<b>period") || !strings.Contains(full, "To do: shorter") {
		t.Error("the action is not shown, or as a tag")
	}
	in.Annex.FindingsByCheck[0].Owner = "" // planted
	if page := render(t, report.HTML, in); strings.Count(page, "nobody yet") != 1 || !strings.Contains(page, "1 of them is not taken care of") {
		t.Error("one finding without an owner is not told")
	}
	in.Annex.FindingsByCheck[0].AcceptedBy = "the owner of the shop"
	if page := render(t, report.HTML, in); strings.Contains(page, `class="missing"`) || !strings.Contains(page, "risk accepted by the owner of the shop") {
		t.Error("an accepted risk is told as missing")
	}
	if page := render(t, report.HTML, told(verdicttest.NoTwist)); strings.Contains(page, "Findings") {
		t.Error("a page without findings has a list of them")
	}
}

func TestARecordHoldsWhatHappened(t *testing.T) {
	in := told(verdicttest.NoTwist)
	in.Head = "abc"
	record := recordOf(t, in)
	if len(record.Findings) != 0 || record.Verdict != history.Passed {
		t.Errorf("%s with %d findings", record.Verdict, len(record.Findings))
	}
	for what, present := range map[string]bool{
		"objectives": len(record.Objectives) > 0, "criteria": len(record.Criteria) > 0, "preconditions": len(record.Preconditions) > 0, "expected": len(record.Expected) > 0,
		"timeline": len(record.Timeline) > 20, "integrity": len(record.Integrity) > 0, "systems": len(record.Systems) > 1, "dependencies": len(record.Dependencies) > 0, "attacks": len(record.Attacks) > 0,
		"hashes": len(record.Hashes.Plan) == 64 && record.Hashes.Log == "abc" && record.Hashes.Tool != "", "operator": record.Operator != "", "time on the backup": record.OnBackup > 0,
		"failback": len(record.Failback) > 0, "retention": record.RetentionYears >= 5, "clock error": record.Timeline[len(record.Timeline)/2].Seq > 0,
	} {
		if !present {
			t.Errorf("no %s", what)
		}
	}
	text, err := json.Marshal(record)
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("%v, or a null in %s", err, text)
	}
}

func TestAnnexesAreReadStrictly(t *testing.T) {
	if _, err := report.ParseAnnex([]byte("type: exercise\nfindings: [{id: F-1, owner: platform, due: 2026-12-31}]\n"), "annex.yaml"); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"typo: exercise\n", "findings: [{owner: platform}]\n", "- a list\n"} {
		if _, err := report.ParseAnnex([]byte(text), "annex.yaml"); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}
