package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// Annex is what only people know of a run: who took part, what it was about, who owns which finding until when. It is written beside the
// log, in YAML, and never changes a verdict. A page shows of it what is said of findings.
type Annex struct {
	Type            string         `yaml:"type" json:"type,omitempty"`                       // exercise or test
	Function        string         `yaml:"function" json:"function,omitempty"`               // of the business, that the service serves
	Impact          string         `yaml:"impact_analysis" json:"impact_analysis,omitempty"` // where it is said what its loss costs
	Scenario        string         `yaml:"scenario" json:"scenario,omitempty"`               // what is rehearsed, and why it is severe and plausible
	Announced       string         `yaml:"announced" json:"announced,omitempty"`             // yes or no: did those on duty know?
	Assumptions     []string       `yaml:"assumptions" json:"assumptions,omitempty"`
	Participants    []string       `yaml:"participants" json:"participants,omitempty"`   // roles, each with a name
	ThirdParties    []string       `yaml:"third_parties" json:"third_parties,omitempty"` // providers that took part or were hit
	Approvals       []string       `yaml:"approvals" json:"approvals,omitempty"`
	Communication   []string       `yaml:"communication" json:"communication,omitempty"` // who was told what, and when
	Lessons         []string       `yaml:"lessons" json:"lessons,omitempty"`
	Previous        string         `yaml:"previous" json:"previous,omitempty"`                   // run that the last report was of
	OpenFindings    []string       `yaml:"open_findings" json:"open_findings,omitempty"`         // of earlier reports, by their ids
	SignOff         []string       `yaml:"sign_off" json:"sign_off,omitempty"`                   // who stands for the report: role, name, date
	ManagementOn    string         `yaml:"management_report" json:"management_report,omitempty"` // date on which the management was told
	RetentionYears  int            `yaml:"retention_years" json:"retention_years,omitempty"`     // how long it is kept, default 5
	FindingsByCheck []AnnexFinding `yaml:"findings" json:"findings,omitempty"`
}

// AnnexFinding says who takes care of a finding.
type AnnexFinding struct {
	ID         string `yaml:"id,required" json:"id"`
	Severity   string `yaml:"severity" json:"severity,omitempty"` // low, medium, high or critical
	Owner      string `yaml:"owner" json:"owner,omitempty"`
	Due        string `yaml:"due" json:"due,omitempty"`                           // date, as 2026-12-31
	AcceptedBy string `yaml:"accepted_risk_by" json:"accepted_risk_by,omitempty"` // who accepts that it stays as it is
	Retest     string `yaml:"retest" json:"retest,omitempty"`                     // run that tried it again
	Action     string `yaml:"action" json:"action,omitempty"`
}

// Record is a run in the one schema that reports to auditors and supervisors ask for; docs/record.md maps each field to its clauses.
type Record struct {
	ID             string          `json:"id"`
	Complete       bool            `json:"complete"`
	Missing        []string        `json:"missing"` // what keeps it from being complete; the verdict stands without it
	Hashes         RecordHashes    `json:"hashes"`
	Service        string          `json:"service"`
	Environment    string          `json:"environment"` // tier of the service file
	Systems        []string        `json:"systems"`
	Dependencies   []string        `json:"dependencies"`
	Started        time.Time       `json:"started"`
	Finished       time.Time       `json:"finished"`
	Operator       string          `json:"operator"`
	Place          string          `json:"place"` // host of the conductor
	Attacks        []string        `json:"attacks"`
	Objectives     []Objective     `json:"objectives"`
	Criteria       []string        `json:"success_criteria"` // as they stood in the first line of the log, before anything began
	Preconditions  []RecordCheck   `json:"preconditions"`
	Expected       []RecordCheck   `json:"expected_and_actual"`
	Timeline       []Moment        `json:"timeline"`
	Integrity      []RecordCheck   `json:"data_integrity"`
	OnBackup       float64         `json:"seconds_on_backup"` // how long another environment than at the begin was answered
	Failback       []RecordCheck   `json:"failback"`
	Deviations     []string        `json:"deviations"` // stops, refusals, interruptions
	Verdict        history.Outcome `json:"verdict"`
	Reason         string          `json:"reason"`
	Findings       []Finding       `json:"findings"`
	Annex          Annex           `json:"annex"`
	RetentionYears int             `json:"retention_years"`
}

// RecordHashes ties the record to what it is of.
type RecordHashes struct {
	Plan string `json:"plan"`          // SHA-256 of the plan as JSON
	Log  string `json:"log,omitempty"` // of the last line of the log
	Tool string `json:"tool"`          // its version
}

// Objective is what was promised and what was measured.
type Objective struct {
	Name     string            `json:"name"`
	Allowed  *verdict.Quantity `json:"objective,omitempty"`
	Measured *verdict.Quantity `json:"measured,omitempty"`
	Outcome  history.Outcome   `json:"outcome"`
	Method   string            `json:"method"`
}

// RecordCheck is one thing that was to be, and what was.
type RecordCheck struct {
	Step     string          `json:"step"`
	Expected string          `json:"expected"`
	Actual   string          `json:"actual"`
	Outcome  history.Outcome `json:"outcome"`
	Evidence []int64         `json:"evidence,omitempty"`
}

// Moment is one event that people ask for.
type Moment struct {
	At     time.Time `json:"at"`
	Source string    `json:"source"`
	Error  float64   `json:"clock_error_seconds"` // of the source's clock, after correction
	What   string    `json:"what"`
	Seq    int64     `json:"seq"`
}

// Finding is a check that does not hold, and who takes care of it. Its id is the same in every run of the same check.
type Finding struct {
	ID      string          `json:"id"`
	Step    string          `json:"step"`
	Check   string          `json:"check"`
	What    string          `json:"what"`
	Outcome history.Outcome `json:"outcome"`
	Missed  bool            `json:"missed_objective,omitempty"` // an objective was missed: it needs a retest
	AnnexFinding
}

// Lacks says what is missing until somebody takes care of the finding: an owner and a due date, or that the risk is accepted; and for a missed
// objective a retest.
func (f Finding) Lacks() []string {
	if f.AcceptedBy != "" {
		return nil
	}
	var all []string
	if f.Owner == "" {
		all = append(all, "has no owner")
	}
	if _, err := time.Parse(time.DateOnly, f.Due); err != nil {
		all = append(all, "has no due date, as 2026-12-31")
	}
	if f.Missed && f.Retest == "" {
		all = append(all, "is a missed objective without a retest")
	}
	return all
}

// retentionYears is how long a record is kept when nobody says otherwise: the longest that is asked for.
const retentionYears = 5

// momentsMax bounds the timeline; the log has all of it.
const momentsMax = 2000

// FindingID names a finding by its step, as drill.DistinctNames calls it, and its check.
func FindingID(step, check string) string {
	sum := sha256.Sum256([]byte(step + "\x00" + check))
	return "F-" + hex.EncodeToString(sum[:4])
}

func writeRecord(w io.Writer, in Input) error {
	record, err := NewRecord(in)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(record)
}

// NewRecord makes the record of a run. An error comes from reading the log.
func NewRecord(in Input) (Record, error) {
	v := in.Verdict
	plan, err := json.Marshal(in.Plan)
	if err != nil {
		return Record{}, err
	}
	sum := sha256.Sum256(plan)
	r := Record{
		ID: v.Run, Hashes: RecordHashes{Plan: hex.EncodeToString(sum[:]), Log: in.Head}, Service: v.Service, Environment: in.Plan.Tier, Started: v.Started, Finished: v.Finished,
		Verdict: v.Outcome, Reason: v.Reason, Annex: in.Annex, RetentionYears: in.Annex.RetentionYears, Missing: []string{}, Deviations: []string{}, Integrity: []RecordCheck{}, Failback: []RecordCheck{},
	}
	if r.RetentionYears == 0 {
		r.RetentionYears = retentionYears
	}
	for _, environment := range in.Plan.Environments {
		for _, host := range environment.Hosts {
			r.Systems = append(r.Systems, host.Name)
		}
	}
	for _, dependency := range in.Plan.Dependencies {
		r.Dependencies = append(r.Dependencies, dependency.Name)
	}
	for _, step := range in.Plan.Steps {
		if step.Drill == nil {
			continue
		}
		for _, order := range step.Drill.Orders() {
			r.Attacks = append(r.Attacks, fmt.Sprintf("%s: %s %v", step.Name, order.Attack, order.Args))
		}
		for _, e := range step.Drill.Expectations {
			r.Criteria = append(r.Criteria, step.Name+": "+e.Text)
		}
	}
	if err := r.read(in); err != nil {
		return Record{}, err
	}
	for _, step := range v.Steps {
		r.step(step)
	}
	r.Findings = Findings(v, in.Annex)
	r.complete()
	return r, nil
}

// step sorts the checks of a step into what is asked for.
func (r *Record) step(step verdict.StepVerdict) {
	for _, check := range step.Checks {
		line := RecordCheck{Step: step.Name, Expected: check.Name, Actual: check.Explanation, Outcome: check.Outcome, Evidence: check.Evidence}
		switch check.Group {
		case verdict.GroupSteady:
			r.Preconditions = append(r.Preconditions, line)
		case verdict.GroupObjective:
			r.Objectives = append(r.Objectives, Objective{Name: step.Name + ": " + check.Name, Allowed: check.Allowed, Measured: check.Measured, Outcome: check.Outcome,
				Method: "clients that sample on schedule, each try with a connection of its own; acknowledged writes that are read back"})
		case verdict.GroupPromote:
			r.Failback = append(r.Failback, line)
		default:
			r.Expected = append(r.Expected, line)
		}
	}
	if step.Refused {
		r.Deviations = append(r.Deviations, step.Name+": refused: "+step.Reason)
	}
}

// Findings are the checks of a run that do not hold, with what the annex says of who takes care of them. None is an empty list.
func Findings(v verdict.Verdict, annex Annex) []Finding {
	all := []Finding{}
	add := func(step, name string, check verdict.Check) {
		if check.Outcome != history.Passed {
			all = append(all, findingOf(step, name, check, annex))
		}
	}
	names := make([]string, len(v.Steps))
	for i, step := range v.Steps {
		names[i] = step.Name
	}
	for i, name := range drill.DistinctNames(names) { // what a step is called in every run
		for _, check := range v.Steps[i].Checks {
			add(v.Steps[i].Name, name, check)
		}
	}
	for _, check := range v.Checks {
		add("the run", "the run", check)
	}
	return all
}

func findingOf(step, name string, check verdict.Check, annex Annex) Finding {
	found := Finding{ID: FindingID(name, check.Name), Step: step, Check: check.Name, What: check.Explanation, Outcome: check.Outcome, Missed: check.Group == verdict.GroupObjective && check.Outcome == history.Failed}
	if i := slices.IndexFunc(annex.FindingsByCheck, func(a AnnexFinding) bool { return a.ID == found.ID }); i >= 0 {
		found.AnnexFinding = annex.FindingsByCheck[i]
	}
	if found.Severity == "" {
		found.Severity = "medium"
		if check.Outcome == history.Failed {
			found.Severity = "high"
		}
	}
	return found
}

// read takes out of the log what the verdict does not hold.
func (r *Record) read(in Input) error {
	clocks, answered, since := map[string]float64{}, "", time.Time{}
	away := func(until time.Time) {
		if answered != "" && answered != in.Plan.Live && until.After(since) {
			r.OnBackup += until.Sub(since).Seconds()
		}
	}
	err := in.each(func(event history.Event) error {
		what := ""
		switch fact := event.Fact.(type) {
		case *history.RunStarted:
			r.Operator, r.Place, r.Hashes.Tool, what = fact.Operator, fact.Host, fact.Tool, "the run began"
		case *history.Clock:
			clocks[fact.Host] = fact.Error.Duration().Seconds()
		case *history.Answer:
			if environment := environmentOf(in.Plan, fact); fact.Decided && environment != answered {
				away(event.At)
				answered, since, what = environment, event.At, fact.Name+" leads to "+environment
			}
		case *history.Ledger:
			outcome := history.Passed
			if fact.Unread != "" {
				outcome = history.Inconclusive
			} else if fact.Lost+fact.Duplicated+fact.Stale > 0 {
				outcome = history.Failed
			}
			r.Integrity = append(r.Integrity, RecordCheck{Step: fmt.Sprintf("step %d", fact.Step+1), Expected: fmt.Sprintf("%d acknowledged writes are there", fact.Acked), Outcome: outcome, Evidence: []int64{event.Seq},
				Actual: fmt.Sprintf("%d lost, %d duplicated, %d stale, %d in doubt; span %s %s", fact.Lost, fact.Duplicated, fact.Stale, fact.InDoubt, fact.Span.Duration(), fact.Unread)})
		case *history.Stop:
			what = "stopped: " + fact.Condition + because(fact.Detail)
			r.Deviations = append(r.Deviations, what)
		default:
			what = momentOf(fact)
		}
		if what != "" && len(r.Timeline) < momentsMax {
			r.Timeline = append(r.Timeline, Moment{At: event.At, Source: event.Source, Error: clocks[event.Source], What: what, Seq: event.Seq})
		}
		return nil
	})
	away(in.Verdict.Finished)
	if in.Verdict.Interrupted {
		r.Deviations = append(r.Deviations, "the run was interrupted")
	}
	return err
}

func because(detail string) string {
	if detail == "" {
		return ""
	}
	return " (" + detail + ")"
}

// momentOf says what people ask for of an event; "" for the rest.
func momentOf(fact history.Fact) string {
	switch fact := fact.(type) {
	case *history.StepStarted:
		return fact.Name + " began"
	case *history.StepFinished:
		return fact.Name + " ended: " + string(fact.Outcome)
	case *history.Phase:
		return "phase: " + fact.Phase
	case *history.Permit:
		return fmt.Sprintf("permit granted: %t, %s", fact.Granted, fact.Reason)
	case *history.AttackInForce:
		return "attack " + fact.GUID + " in force"
	case *history.AttackReverted:
		return "attack " + fact.GUID + " taken back: " + fact.Why
	case *history.Alarm:
		return fact.Name + " is " + fact.To
	case *history.Promote:
		return "promoted " + fact.To
	case *history.RunFinished:
		return "the run ended: " + string(fact.Outcome)
	}
	return ""
}

// complete says what is missing. A finding without an owner and a date, or a missed objective that was not tried again, is not dealt with.
func (r *Record) complete() {
	want := func(present bool, what string) {
		if !present {
			r.Missing = append(r.Missing, what)
		}
	}
	for _, f := range r.Findings {
		for _, lack := range f.Lacks() {
			r.Missing = append(r.Missing, f.ID+" ("+f.Step+": "+f.Check+") "+lack)
		}
	}
	for _, a := range r.Annex.FindingsByCheck {
		want(slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == a.ID }), a.ID+" is in the annex, and no finding of this run")
	}
	annex := r.Annex
	want(slices.Contains([]string{"exercise", "test"}, annex.Type), "type: exercise or test")
	want(annex.Function != "", "function: what the service is for")
	want(annex.Scenario != "", "scenario: what is rehearsed, and why it is severe and plausible")
	want(len(annex.Participants) > 0, "participants")
	want(len(annex.Approvals) > 0, "approvals")
	want(len(annex.SignOff) > 0, "sign_off")
	want(annex.ManagementOn != "", "management_report: when the management was told")
	want(r.Environment != "", "tier: in the service file: production, staging, ...")
	r.Complete = len(r.Missing) == 0
}

// ParseAnnex reads an annex. The error is a *drill.Error of kind drill.Invalid that names line, column and cure of each mistake.
func ParseAnnex(text []byte, file string) (Annex, error) {
	var annex Annex
	err := drill.Decode(text, file, &annex)
	return annex, err
}
