package stage

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// Production is the tier whose evidence counts as of production. A tier that is not stated counts as neither that nor another.
const Production = "production"

// Run is a run of drills, judged from its log.
type Run struct {
	Name      string // its directory, for people
	Plan      drill.Plan
	Trigger   string
	Stopped   bool // an attack was ended before its time, by a stop condition or by somebody, and was taken back
	WentBack  bool // a failed gate moved the answer or the release back
	Published bool // its page lies beside its log, both attested and as they were
	Verdict   verdict.Verdict
}

// Slim returns a run with what Judge asks of it and nothing else, so that many can be held.
func (r Run) Slim() Run {
	slim := Run{Name: r.Name, Trigger: r.Trigger, Stopped: r.Stopped, WentBack: r.WentBack, Published: r.Published,
		Plan:    drill.Plan{Service: r.Plan.Service, Tier: r.Plan.Tier},
		Verdict: verdict.Verdict{Outcome: r.Verdict.Outcome, NotReverted: r.Verdict.NotReverted, Finished: r.Verdict.Finished, Revision: r.Verdict.Revision, RTO: r.Verdict.RTO, Totals: verdict.Totals{Unmeasured: r.Verdict.Totals.Unmeasured}}}
	for _, step := range r.Plan.Steps {
		slim.Plan.Steps = append(slim.Plan.Steps, drill.Step{Kind: step.Kind, Drill: slimDrill(step.Drill)})
	}
	for _, step := range r.Verdict.Steps {
		less := verdict.StepVerdict{Step: step.Step, Kind: step.Kind, Name: step.Name, Ran: step.Ran, Outcome: step.Outcome, Finished: step.Finished}
		for _, check := range step.Checks {
			if check.Group == verdict.GroupReadiness {
				less.Checks = append(less.Checks, verdict.Check{Group: check.Group, Outcome: check.Outcome})
			}
		}
		slim.Verdict.Steps = append(slim.Verdict.Steps, less)
	}
	return slim
}

// slimDrill is what a drill took away, and what kinds of expectations it had.
func slimDrill(planned *drill.PlannedDrill) *drill.PlannedDrill {
	if planned == nil {
		return nil
	}
	slim := &drill.PlannedDrill{Name: planned.Name}
	for i, order := range planned.Orders() {
		less := drill.Order{Canaries: order.Canaries}
		for _, arg := range order.Args {
			if strings.HasPrefix(arg, hostnameFlag) {
				less.Args = append(less.Args, arg)
			}
		}
		if i == 0 {
			slim.Attack = less
		} else {
			slim.More = append(slim.More, less)
		}
	}
	for _, expectation := range planned.Expectations {
		slim.Expectations = append(slim.Expectations, drill.Expectation{Kind: expectation.Kind})
	}
	return slim
}

// Book is a playbook as it lies in the file now.
type Book struct {
	File              string
	For               string // a dependency, or playbook.DisasterRecovery
	Problem           string // why it is not whole; empty: it is
	Missing           []string
	AgreedAt          time.Time // the latest of the approvals that hold
	Expires           time.Time // when the first of them ends
	Executable, Steps int
	Confirm           int // how often a run that goes by itself may ask
}

// Rehearsal is a playbook that was followed.
type Rehearsal struct {
	Name      string
	For       string
	Tier      string
	Outcome   history.Outcome
	At        time.Time
	Automatic bool
	Asked     int
	Resumed   bool // the way back to normal was followed too
}

// Evidence is all that is known of a service at a moment.
type Evidence struct {
	Now        time.Time
	Service    drill.Service
	File       string // the service file, for the next commands
	Books      []Book
	Rehearsals []Rehearsal
	Runs       []Run
	Disaster   string // what a playbook for the loss of the platform is for
}

// The states of an item.
const (
	Met     = "met"
	Expired = "expired"
	Open    = "open"
)

// Item is one line of the checklist.
type Item struct {
	ID       string     `json:"id"` // "2.1"
	Stage    int        `json:"stage"`
	Title    string     `json:"title"`
	State    string     `json:"state"`
	Evidence string     `json:"evidence"` // what it stands on, or what is missing
	At       *time.Time `json:"at,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	Next     string     `json:"next,omitempty"` // the command that would meet or renew it
}

// Result is the whole checklist.
type Result struct {
	Service string    `json:"service"`
	Tier    string    `json:"tier,omitempty"`
	Stage   int       `json:"stage"` // 0 to 5: the highest of which, and of all below, every item is met
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"` // the stage holds until then if nothing is done; zero: nothing of it expires
	Items   []Item    `json:"items"`
}

// Next returns the first item that keeps the service from the next stage, with ok false at stage 5.
func (r Result) Next() (item Item, ok bool) {
	i := slices.IndexFunc(r.Items, func(item Item) bool { return item.State != Met })
	if i < 0 {
		return Item{}, false
	}
	return r.Items[i], true
}

// stages is how many there are.
const stages = 5

// Judge goes through the checklist.
func Judge(e Evidence) Result {
	result := Result{Service: e.Service.Name, Tier: e.Service.Tier, At: e.Now}
	e.Runs = slices.DeleteFunc(slices.Clone(e.Runs), func(r Run) bool { return r.Plan.Service != e.Service.Name || r.Verdict.Finished.After(e.Now) })
	slices.SortStableFunc(e.Runs, func(a, b Run) int { return a.Verdict.Finished.Compare(b.Verdict.Finished) })
	e.Rehearsals = slices.DeleteFunc(slices.Clone(e.Rehearsals), func(r Rehearsal) bool { return r.At.After(e.Now) })
	slices.SortStableFunc(e.Rehearsals, func(a, b Rehearsal) int { return a.At.Compare(b.At) })
	for _, known := range checklist {
		found := known.look(&e)
		item := Item{ID: known.id, Stage: int(known.id[0] - '0'), Title: known.title, State: Open, Evidence: found.text, Next: cmp.Or(found.next, known.next(&e))}
		if found.met {
			item.State = Met
			if !found.at.IsZero() {
				item.At = &found.at
			}
			if !found.expires.IsZero() {
				item.Expires = &found.expires
				if !e.Now.Before(found.expires) {
					item.State, item.Evidence = Expired, found.text+"; that is too long ago"
				}
			}
		}
		result.Items = append(result.Items, item)
	}
	for stage := 1; stage <= stages; stage++ {
		if slices.ContainsFunc(result.Items, func(item Item) bool { return item.Stage == stage && item.State != Met }) {
			break
		}
		result.Stage = stage
	}
	for _, item := range result.Items {
		if item.Stage <= result.Stage && item.Expires != nil && (result.Until.IsZero() || item.Expires.Before(result.Until)) {
			result.Until = *item.Expires
		}
	}
	return result
}
