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

// services lists what the fleet, the history and the service files know of.
func (s *server) services(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "services", "Services", 2*time.Second, func(context.Context) (any, error) {
		return map[string]any{"Services": s.serviceRows(time.Now())}, nil
	})
}

func (s *server) serviceRows(now time.Time) []*serviceRow {
	rows := map[string]*serviceRow{}
	row := func(name string) *serviceRow {
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
		name := planned.Request.Selector.Tags[fleet.TagService]
		if planned.Drill != nil {
			name = planned.Drill.Service
		}
		if name != "" {
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
	for name, one := range rows {
		if runs, _ := s.Control.Runs("", 1, func(run fleet.Run) bool { return slices.Contains(run.Services, name) }); len(runs) > 0 {
			one.LastRun = &runs[0]
		}
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b *serviceRow) int { return cmp.Compare(a.Name, b.Name) })
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
		rows := s.serviceRows(time.Now())
		at := slices.IndexFunc(rows, func(one *serviceRow) bool { return one.Name == name })
		if at < 0 {
			return nil, notThere("service", name)
		}
		one := rows[at]
		records, all := s.Control.Records(name, before, recordsShown+1)
		next := ""
		if len(records) > recordsShown {
			records = records[:recordsShown]
			next = records[recordsShown-1].ID
		}
		newest, _ := s.Control.Records(name, "", 10*trendMax)
		runs, _ := s.Control.Runs("", frontRuns, func(run fleet.Run) bool { return slices.Contains(run.Services, name) })
		return map[string]any{"Service": one, "Records": records, "All": all, "Next": next, "Before": before, "Trends": trendsOf(newest), "Runs": runs}, nil
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
	s.show(w, r, v, "alarms", "Alarms", time.Second, func(context.Context) (any, error) {
		var all []Alarm
		if s.Alarms != nil {
			var err error
			if all, err = s.Alarms(); err != nil {
				return nil, err
			}
		}
		rank := map[string]int{"ALARM": 0, "INSUFFICIENT_DATA": 1}
		raised := 0
		slices.SortStableFunc(all, func(a, b Alarm) int {
			place := func(state string) int {
				if n, known := rank[state]; known {
					return n
				}
				return len(rank)
			}
			return cmp.Or(cmp.Compare(place(a.State), place(b.State)), cmp.Compare(a.Name, b.Name))
		})
		for _, one := range all {
			if one.State == "ALARM" {
				raised++
			}
		}
		return map[string]any{"Alarms": all[:min(len(all), alarmsShown)], "All": len(all), "Raised": raised}, nil
	})
}

const alarmsShown = 500

// schedulePage lists what begins by itself.
func (s *server) schedulePage(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "schedule", "Schedule", time.Second, func(context.Context) (any, error) {
		return map[string]any{"Entries": s.Control.Scheduled(time.Now()), "Freezes": s.Control.Freezes(), "Cadences": s.Control.Cadences(time.Now())}, nil
	})
}

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
