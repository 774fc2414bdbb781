package web

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/schedule"
)

const (
	recordsShown = 50
	trendMax     = 60 // points of a trend
	trendWidth   = 620.0
	trendHeight  = 150.0
	kindDrill    = "drill"
	trendsShown  = 20 // drills with a trend
	plannedShown = 12 // entries of the schedule on the page of a service
)

// Standing is what else is known of a service than what ran: from its service file, brought up to date now and then.
type Standing struct {
	Service  string
	Stage    int
	NextItem string    // what keeps it from the next stage
	Next     time.Time // when its schedule begins something
	What     string    // and what
	Problem  string    // why the file cannot be read
	Books    []Playbook
	Wanted   []fleet.Wanted // cadences
}

// Playbook is what a team wrote down for the day.
type Playbook struct {
	File, For, Problem string
	Missing            []string // roles that have not agreed to it as it is
	Agreed, Expires    time.Time
	Executable, Steps  int
}

// Alarm is an alarm that this server evaluates.
type Alarm struct {
	Region, Name, State, Reason string
	Since                       time.Time
}

// serviceRow is a service in the list.
type serviceRow struct {
	Name     string
	Standing *Standing
	Last     *fleet.Record
	LastRun  *fleet.Run
	Hosts    int
	Counts   map[string]int
	Planned  []fleet.ScheduledView
	Next     time.Time
	Cadences []fleet.Cadence
	File     *fleet.ServiceFile // that was put on the server
}

// services lists what the fleet, the history and the service files know of, by name.
func (s *server) services(w http.ResponseWriter, r *http.Request, v *visit) {
	q := r.URL.Query()
	name, verdict, after := q.Get("name"), q.Get("verdict"), q.Get("after")
	s.show(w, r, v, "services", "Services", 2*time.Second, func(context.Context) (any, error) {
		rows := slices.DeleteFunc(s.serviceRows(time.Now(), ""), func(one *serviceRow) bool {
			return !strings.Contains(one.Name, name) || verdict != "" && verdict != one.verdict()
		})
		shown, next := pageOf(rows, func(one *serviceRow) string { return one.Name }, after, servicesShown)
		for _, one := range shown {
			if runs := s.Control.RunsOf(one.Name, 1); len(runs) > 0 {
				one.LastRun = &runs[0]
			}
		}
		return map[string]any{"Services": shown, "All": len(rows), "Name": name, "Verdict": verdict, "Verdicts": verdicts, "After": after, "First": address("/services", "name", name, "verdict", verdict), "Next": nextOf("/services", next, "name", name, "verdict", verdict)}, nil
	})
}

const servicesShown = 100

// verdicts are those by which services are narrowed; the last one is of those that have none.
var verdicts = []string{"passed", "failed", inconclusive, noVerdict}

const noVerdict = "none"

func (one *serviceRow) verdict() string {
	if one.Last == nil {
		return noVerdict
	}
	return one.Last.Outcome
}

// serviceRows are all services, or the one of a name, sorted, without the last run of each.
func (s *server) serviceRows(now time.Time, only string) []*serviceRow {
	rows := map[string]*serviceRow{}
	ignored := &serviceRow{Counts: map[string]int{}}
	row := func(name string) *serviceRow {
		if only != "" && name != only {
			*ignored = serviceRow{Counts: ignored.Counts}
			return ignored
		}
		if rows[name] == nil {
			rows[name] = &serviceRow{Name: name, Counts: map[string]int{}}
		}
		return rows[name]
	}
	for _, h := range s.Control.Hosts() {
		if name := h.Tags[fleet.TagService]; name != "" {
			one := row(name)
			one.Hosts++
			one.Counts[conditionOf(h)]++
		}
	}
	for _, file := range s.Control.Services() {
		row(file.Name).File = &file
	}
	for _, name := range s.Control.RecordedServices() {
		if last, _ := s.Control.Records(name, "", 1); len(last) > 0 {
			row(name).Last = &last[0]
		}
	}
	if s.Standings != nil {
		for _, standing := range s.Standings() {
			one := row(standing.Service)
			one.Standing, one.Next = &standing, standing.Next
		}
	}
	for _, planned := range s.Control.Scheduled(now) {
		if name := serviceOf(planned.Scheduled); name != "" {
			one := row(name)
			one.Planned = append(one.Planned, planned)
			if one.Next.IsZero() || !planned.Next.IsZero() && planned.Next.Before(one.Next) {
				one.Next = planned.Next
			}
		}
	}
	for _, cadence := range s.Control.Cadences(now) {
		one := row(cadence.Service)
		one.Cadences = append(one.Cadences, cadence)
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b *serviceRow) int { return cmp.Compare(a.Name, b.Name) })
}

// serviceOf is the service that an entry of the schedule attacks; empty: it is not said.
func serviceOf(planned fleet.Scheduled) string {
	if planned.Drill != nil {
		return planned.Drill.Service
	}
	return planned.Request.Selector.Tags[fleet.TagService]
}

// trend is how a drill's recovery went over time.
type trend struct {
	Drill   string
	Picture template.HTML
	Last    fleet.RecordFigure
	Count   int
}

func (s *server) service(w http.ResponseWriter, r *http.Request, v *visit) {
	name, before := r.PathValue("service"), r.URL.Query().Get("before")
	s.show(w, r, v, "service", name, 2*time.Second, func(context.Context) (any, error) {
		rows := s.serviceRows(time.Now(), name)
		if len(rows) == 0 {
			return nil, notThere("service", name)
		}
		one := rows[0]
		records, all := s.Control.Records(name, before, recordsShown+1)
		next := ""
		if len(records) > recordsShown {
			records = records[:recordsShown]
			next = records[recordsShown-1].ID
		}
		newest, _ := s.Control.Records(name, "", 10*trendMax)
		more := max(0, len(one.Planned)-plannedShown)
		one.Planned = one.Planned[:len(one.Planned)-more]
		return map[string]any{"Service": one, "Records": records, "All": all, "Next": next, "Before": before, "Trends": trendsOf(newest), "Runs": s.Control.RunsOf(name, frontRuns), "MorePlanned": more}, nil
	})
}

// trendsOf collects the recovery of each drill, from records that come the newest first.
func trendsOf(records []fleet.Record) []trend {
	type point struct {
		at     time.Time
		figure fleet.RecordFigure
		good   string
	}
	points := map[string][]point{}
	for _, record := range records {
		steps := make([]string, len(record.Steps))
		for i, step := range record.Steps {
			steps[i] = step.Name
		}
		// On the idle environment and on the active one the same drill recovers differently.
		for i, name := range drill.DistinctNames(steps) {
			if step := record.Steps[i]; step.Kind == kindDrill && step.RTO != nil && len(points[name]) < trendMax {
				points[name] = append(points[name], point{record.Started, *step.RTO, step.Outcome})
			}
		}
	}
	var trends []trend
	for _, name := range slices.Sorted(maps.Keys(points)) {
		if len(trends) == trendsShown {
			break
		}
		all := points[name]
		slices.Reverse(all)
		most := 0.0
		for _, p := range all {
			most = max(most, p.figure.Seconds+p.figure.Bound, p.figure.Allowed)
		}
		most = max(most*1.1, 1) // finer than this nobody looks, and its words would be cut
		y := func(seconds float64) float64 { return trendHeight - 24 - (trendHeight-40)*seconds/most }
		x := func(i int) float64 { return 52 + (trendWidth-70)*(float64(i)+0.5)/float64(len(all)) }
		last := all[len(all)-1]
		p := &svg{}
		p.add(`<svg class="trend" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, trendWidth, trendHeight,
			html.EscapeString(fmt.Sprintf("Recovery of %s over %d runs; the last took %.1f seconds", name, len(all), last.figure.Seconds)))
		for _, share := range []float64{0, 0.5, 1} {
			p.add(`<line class="tick" x1="48" x2="%.0f" y1="%.1f" y2="%.1f"/>`, trendWidth-10, y(most*share), y(most*share))
			p.text("axis", 42, y(most*share)+4, "end", fmt.Sprintf("%.3g s", most*share))
		}
		if last.figure.Allowed > 0 {
			p.add(`<line class="allowed" x1="48" x2="%.0f" y1="%.1f" y2="%.1f"/>`, trendWidth-10, y(last.figure.Allowed), y(last.figure.Allowed))
			p.text("axis", trendWidth-12, y(last.figure.Allowed)-4, "end", fmt.Sprintf("objective %.3g s", last.figure.Allowed))
		}
		path := ""
		for i, one := range all {
			path += fmt.Sprintf("%c%.1f %.1f", "ML"[min(i, 1)], x(i), y(one.figure.Seconds))
		}
		p.add(`<path class="curve" d="%s"/>`, path)
		for i, one := range all {
			p.add(`<circle class="point o-%s" cx="%.1f" cy="%.1f" r="4"><title>%s: %.1f s, %s</title></circle>`, html.EscapeString(one.good), x(i), y(one.figure.Seconds), whenText(one.at), one.figure.Seconds, html.EscapeString(one.good))
		}
		p.text("axis", x(0), trendHeight-6, "start", all[0].at.UTC().Format(time.DateOnly))
		if len(all) > 1 {
			p.text("axis", x(len(all)-1), trendHeight-6, "end", last.at.UTC().Format(time.DateOnly))
		}
		p.add(`</svg>`)
		trends = append(trends, trend{Drill: name, Picture: p.done(), Last: last.figure, Count: len(all)})
	}
	return trends
}

// cadenceClass is how a cadence is shown.
func cadenceClass(state string) string {
	switch state {
	case schedule.CadenceKept:
		return "passed"
	case schedule.CadenceOverdue:
		return "failed"
	}
	return "open"
}

func verdictClass(outcome string) string {
	switch outcome {
	case "passed", "failed":
		return outcome
	}
	return "open"
}

// playbooks lists what teams wrote down, and who agreed to it.
func (s *server) playbooks(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "playbooks", "Playbooks", 0, func(context.Context) (any, error) {
		var all []Standing
		if s.Standings != nil {
			all = s.Standings()
		}
		return map[string]any{"Services": all}, nil
	})
}

// alarms lists the alarms that this server evaluates, those that are raised first.
func (s *server) alarms(w http.ResponseWriter, r *http.Request, v *visit) {
	q := r.URL.Query()
	name, state := q.Get("name"), q.Get("state")
	from, _ := strconv.Atoi(q.Get("after"))
	s.show(w, r, v, "alarms", "Alarms", time.Second, func(context.Context) (any, error) {
		var all []Alarm
		if s.Alarms != nil {
			var err error
			if all, err = s.Alarms(); err != nil {
				return nil, err
			}
		}
		raised := 0
		slices.SortStableFunc(all, func(a, b Alarm) int {
			return cmp.Or(cmp.Compare(slices.Index(alarmStates, a.State), slices.Index(alarmStates, b.State)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Region, b.Region))
		})
		for _, one := range all {
			if one.State == "ALARM" {
				raised++
			}
		}
		fit := slices.DeleteFunc(slices.Clone(all), func(one Alarm) bool {
			return !strings.Contains(one.Name, name) || state != "" && one.State != state
		})
		from := min(max(from, 0), len(fit))
		shown := fit[from:min(len(fit), from+alarmsShown)]
		next := ""
		if from+len(shown) < len(fit) {
			next = fmt.Sprint(from + len(shown))
		}
		return map[string]any{"Alarms": shown, "All": len(all), "Fit": len(fit), "Raised": raised, "Name": name, "State": state, "From": from, "States": alarmStates, "First": address("/alarms", "name", name, "state", state), "Next": nextOf("/alarms", next, "name", name, "state", state)}, nil
	})
}

const alarmsShown = 100

// alarmStates are as CloudWatch names them, the gravest first.
var alarmStates = []string{"ALARM", "INSUFFICIENT_DATA", "OK"}

// schedulePage lists what begins by itself.
func (s *server) schedulePage(w http.ResponseWriter, r *http.Request, v *visit) {
	q := r.URL.Query()
	name, service, after := q.Get("name"), q.Get("service"), q.Get("after")
	s.show(w, r, v, "schedule", "Schedule", time.Second, func(context.Context) (any, error) {
		now := time.Now()
		entries := slices.DeleteFunc(s.Control.Scheduled(now), func(one fleet.ScheduledView) bool { // sorted by name
			return !strings.Contains(one.Name, name) || service != "" && serviceOf(one.Scheduled) != service
		})
		shown, next := pageOf(entries, func(one fleet.ScheduledView) string { return one.Name + one.ID }, after, entriesShown)
		cadences := slices.DeleteFunc(s.Control.Cadences(now), func(one fleet.Cadence) bool { // what is overdue first
			return !strings.Contains(one.Drill, name) || service != "" && one.Service != service
		})
		freezes := s.Control.Freezes()
		return map[string]any{"Entries": shown, "All": len(entries), "Name": name, "Service": service, "After": after, "First": address("/schedule", "name", name, "service", service), "Next": nextOf("/schedule", next, "name", name, "service", service),
			"Freezes": freezes[:min(len(freezes), freezesShown)], "MoreFreezes": max(0, len(freezes)-freezesShown),
			"Cadences": cadences[:min(len(cadences), cadencesShown)], "MoreCadences": max(0, len(cadences)-cadencesShown)}, nil
	})
}

const (
	entriesShown  = 100
	cadencesShown = 100
	freezesShown  = 30
)

func (s *server) unschedule(r *http.Request, v *visit) (string, error) {
	_, err := s.call(r.Context(), v, "unschedule", r.PathValue("entry"))
	return "/schedule", err
}

// leash has a drill only planned when it is due, or lets it go.
func (s *server) leash(call string) action {
	return func(r *http.Request, v *visit) (string, error) {
		_, err := s.call(r.Context(), v, call, r.PathValue("entry"))
		return "/schedule", err
	}
}
