package web

import (
	"context"
	"encoding/json"
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
	"firedrill/internal/history"
)

const (
	drillsShown   = 50
	drillToldMax  = 200 // lines of a drill that are shown, the newest
	drillLanesMax = 40
	foldsMax      = 64 // drills whose logs are remembered as read so far
	planShown     = 20 // expectations of a plan
)

// span is a time in which something was so.
type span struct {
	Class, Text string
	From, To    time.Time // To is zero while it lasts
}

// drillLane is a row in the picture of a drill.
type drillLane struct {
	Name  string
	Spans []span
}

// drillFold is what the log of a drill has told so far.
type drillFold struct {
	next   int64
	done   bool
	begun  time.Time
	last   time.Time
	told   []toldLine // the newest last
	lanes  map[string]*drillLane
	order  []string
	Step   string
	Phase  string
	Answer string
	raised map[string]bool
	recent []bool
	client map[string]bool // whether it is served
}

func newDrillFold() *drillFold {
	return &drillFold{lanes: map[string]*drillLane{}, raised: map[string]bool{}, client: map[string]bool{}}
}

// lane finds a row by its name, or adds it below those of before.
func (f *drillFold) lane(name string) *drillLane {
	if f.lanes[name] == nil {
		if len(f.order) >= drillLanesMax {
			return &drillLane{}
		}
		f.lanes[name] = &drillLane{Name: name}
		f.order = append(f.order, name)
	}
	return f.lanes[name]
}

// begin opens a span in a row, and ends the one before.
func (l *drillLane) begin(class, text string, at time.Time) {
	l.end(at)
	l.Spans = append(l.Spans, span{Class: class, Text: text, From: at})
}

func (l *drillLane) end(at time.Time) {
	if n := len(l.Spans); n > 0 && l.Spans[n-1].To.IsZero() {
		l.Spans[n-1].To = at
	}
}

const recentSamples = 20

// take folds an event in.
func (f *drillFold) take(event history.Event) {
	if f.begun.IsZero() {
		f.begun = event.At
	}
	if event.At.After(f.last) {
		f.last = event.At
	}
	switch fact := event.Fact.(type) {
	case *history.RunStarted:
		f.Answer = fact.Plan.Live
	case *history.StepStarted:
		f.Step = fact.Name
	case *history.Phase:
		f.Phase = fact.Phase
		f.lane("phase").begin("phase", fact.Phase, event.At)
	case *history.AttackInForce:
		f.lane(event.Source).begin("inforce", "in force", event.At)
	case *history.AttackReverted:
		f.lane(event.Source).end(event.At)
	case *history.Alarm:
		f.alarm(event.At, fact)
	case *history.Answer:
		f.answer(event.At, fact)
	case *history.Sample:
		f.sample(event.At, fact)
	}
	if words := sayDrill(event); words != "" {
		f.told = append(f.told, toldLine{At: event.At, Host: event.Source, Text: words})
		if over := len(f.told) - 2*drillToldMax; over > 0 {
			f.told = slices.Delete(f.told, 0, over+drillToldMax)
		}
	}
}

func (f *drillFold) alarm(at time.Time, fact *history.Alarm) {
	if fact.To == history.AlarmRaised {
		f.raised[fact.Name] = true
		f.lane("alarm "+fact.Name).begin("raised", fact.Name+" is raised", at)
	} else if f.raised[fact.Name] {
		delete(f.raised, fact.Name)
		f.lane("alarm " + fact.Name).end(at)
	}
}

func (f *drillFold) answer(at time.Time, fact *history.Answer) {
	if fact.Server == "" || fact.Environment == "" {
		return
	}
	lane := f.lane("answer")
	if fact.Environment != f.Answer || len(lane.Spans) == 0 {
		f.Answer = fact.Environment
		lane.begin("answer", fact.Environment, at)
	}
}

func (f *drillFold) sample(at time.Time, fact *history.Sample) {
	f.recent = append(f.recent, fact.OK)
	f.recent = f.recent[max(0, len(f.recent)-recentSamples):]
	was, known := f.client[fact.Probe]
	f.client[fact.Probe] = fact.OK
	lane := f.lane("client " + fact.Probe)
	switch {
	case !fact.OK && (was || !known):
		lane.begin("failing", "not served: "+fact.Cause, at)
	case fact.OK && known && !was:
		lane.end(at)
	}
}

// Served is the share of the last samples that were good, in percent; -1 without any.
func (f *drillFold) Served() int {
	if len(f.recent) == 0 {
		return -1
	}
	good := 0
	for _, ok := range f.recent {
		if ok {
			good++
		}
	}
	return 100 * good / len(f.recent)
}

// Raised are the alarms that are raised.
func (f *drillFold) Raised() []string { return slices.Sorted(maps.Keys(f.raised)) }

// sayDrill is an event of a drill in words; empty: it is not for people.
func sayDrill(event history.Event) string {
	switch fact := event.Fact.(type) {
	case *history.StepStarted:
		return fact.Name + " begins"
	case *history.StepFinished:
		return fmt.Sprintf("%s: %s", fact.Outcome, fact.Reason)
	case *history.Phase:
		return "phase: " + fact.Phase
	case *history.Permit:
		if fact.Granted {
			return "permit: " + fact.Reason
		}
		return "refused: " + fact.Reason + "; " + fact.Cure
	case *history.Stop:
		return "stop: " + fact.Condition + ": " + fact.Detail
	case *history.Check:
		if fact.OK {
			return strings.TrimSuffix("check "+fact.Name+": ok, "+fact.Detail, ", ")
		}
		return "check " + fact.Name + ": NOT OK, " + fact.Detail
	case *history.Alarm:
		if fact.From == "" {
			return "" // as it was before
		}
		return fmt.Sprintf("alarm %s: %s to %s", fact.Name, fact.From, fact.To)
	case *history.Clock:
		return fmt.Sprintf("the clock of %s is %.3f s off, within %.3f s", fact.Host, fact.Offset.Duration().Seconds(), fact.Error.Duration().Seconds())
	case *history.Ledger:
		return fmt.Sprintf("ledger: %d writes acknowledged, %d lost, %d in doubt", fact.Acked, fact.Lost, fact.InDoubt)
	case *history.RunFinished:
		return strings.TrimSuffix("over: "+string(fact.Outcome)+": "+fact.Reason, ": ")
	}
	return sayEvent(event)
}

// folded reads on in the log of a drill. Logs that are read by several pages are read once.
func (s *server) folded(id string) (drillFold, error) {
	s.mu.Lock()
	fold := s.folds[id]
	if fold == nil {
		if len(s.folds) >= foldsMax {
			clear(s.folds) // they are read again
		}
		fold = newDrillFold()
		s.folds[id] = fold
	}
	s.mu.Unlock()
	s.folding.Lock()
	defer s.folding.Unlock()
	for !fold.done {
		part, err := s.Control.DrillLog(fleet.LogRequest{ID: id, From: fold.next})
		if err != nil {
			return drillFold{}, err
		}
		for line := range strings.Lines(part.Text) {
			var event history.Event
			if json.Unmarshal([]byte(line), &event) == nil {
				fold.take(event)
			}
		}
		fold.next, fold.done = part.Next, part.Done && part.Text == ""
		if part.Text == "" {
			break
		}
	}
	copied := *fold
	copied.told = slices.Clone(fold.told[max(0, len(fold.told)-drillToldMax):])
	slices.Reverse(copied.told)
	copied.lanes = map[string]*drillLane{}
	for name, lane := range fold.lanes {
		copied.lanes[name] = &drillLane{Name: lane.Name, Spans: slices.Clone(lane.Spans)}
	}
	copied.raised = maps.Clone(fold.raised)
	return copied, nil
}

// drills lists the drills that the server conducted, the newest first.
func (s *server) drills(w http.ResponseWriter, r *http.Request, v *visit) {
	q := r.URL.Query()
	service, what, verdict, before := q.Get("service"), q.Get("drill"), q.Get("verdict"), q.Get("before")
	fits := func(run fleet.DrillRun) bool {
		return (service == "" || run.Request.Service == service) && strings.Contains(run.Request.Item(), what) && (verdict == "" || drillOutcome(run).Word == verdict)
	}
	s.show(w, r, v, "drills", "Drills", lookedThrough(service+what+verdict+before), func(context.Context) (any, error) {
		drills, all, rest := s.Control.LookDrills(before, drillsShown+1, fits)
		next := ""
		if rest != "" {
			next = address("/drills", "service", service, "drill", what, "verdict", verdict, "before", rest)
		}
		if len(drills) > drillsShown {
			drills = drills[:drillsShown]
			next = address("/drills", "service", service, "drill", what, "verdict", verdict, "before", drills[drillsShown-1].ID)
		}
		services := slices.DeleteFunc(s.Control.Services(), func(file fleet.ServiceFile) bool { return service != "" && file.Name != service })
		more := max(0, len(services)-filesShown)
		return map[string]any{"Drills": drills, "All": all, "Next": next, "Further": rest != "", "Before": before, "Service": service, "What": what, "Verdict": verdict, "Verdicts": drillVerdicts, "First": address("/drills", "service", service, "drill", what, "verdict", verdict),
			"Services": services[:len(services)-more], "MoreServices": more}, nil
	})
}

// filesShown is of how many services drills can be started on the page of all drills; those of others are on the page of their service.
const filesShown = 20

// drillVerdicts are the words of drillOutcome.
var drillVerdicts = []string{fleet.DrillRunning, "passed", "failed", inconclusive, fleet.OutcomeSkipped, notReverted}

// drill shows one drill while it happens and afterwards.
func (s *server) drill(w http.ResponseWriter, r *http.Request, v *visit) {
	id := r.PathValue("drill")
	s.show(w, r, v, "drill", "Drill "+shortID(id), 500*time.Millisecond, func(context.Context) (any, error) {
		run, err := s.Control.FindDrill(id)
		if err != nil {
			return nil, err
		}
		fold, err := s.folded(run.ID)
		if err != nil {
			return nil, err
		}
		return map[string]any{"Drill": run, "Fold": &fold, "Told": fold.told, "Picture": drawDrill(run, &fold, time.Now()), "Runs": s.Control.RunsOfDrill(run, drillsShown), "Said": sayDrillRun(run, &fold)}, nil
	})
}

// sayDrillRun is a drill in a sentence, for who hears the page.
func sayDrillRun(run fleet.DrillRun, fold *drillFold) string {
	if run.Done() {
		return run.Request.Item() + " has ended: " + run.Outcome
	}
	return strings.TrimSuffix(run.Request.Item()+" is under way, "+fold.Phase, ", ")
}

// drawDrill is the picture of a drill: phases, what was in force on which host, alarms, answers, and when clients were not served.
func drawDrill(run fleet.DrillRun, fold *drillFold, now time.Time) template.HTML {
	from, to := fold.begun, now
	if run.Done() || fold.last.After(to) {
		to = fold.last
	}
	if from.IsZero() {
		from = run.Started
	}
	if !to.After(from) {
		to = from.Add(time.Second)
	}
	to = to.Add(to.Sub(from) / 50)
	height := pictureHead + laneHeight*float64(len(fold.order)) + 8
	x := func(at time.Time) float64 {
		share := at.Sub(from).Seconds() / to.Sub(from).Seconds()
		return pictureGutter + min(max(share, 0), 1)*(pictureWidth-pictureGutter-12)
	}
	p := &svg{}
	p.add(`<svg class="timeline" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, pictureWidth, height, html.EscapeString("Timeline. "+sayDrillRun(run, fold)))
	for _, at := range ticks(from, to.Add(-to.Sub(from)/30)) {
		p.add(`<line class="tick" x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f"/>`, x(at), x(at), pictureHead-6, height-8)
		p.text("axis", x(at), pictureHead-12, "middle", at.UTC().Format(time.TimeOnly))
	}
	p.text("axis", 4, pictureHead-12, "start", "UTC")
	for i, name := range fold.order {
		y := pictureHead + laneHeight*float64(i)
		p.text("row", pictureGutter-10, y+16, "end", clipped(name, 20))
		p.add(`<line class="base" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, pictureGutter, pictureWidth-12, y+11, y+11)
		drawn := struct {
			Class string
			until float64
		}{}
		for _, s := range fold.lanes[name].Spans {
			end := s.To
			if end.IsZero() {
				end = to
			}
			class := s.Class
			if class == "inforce" && !s.To.IsZero() {
				class = "wasforce"
			}
			if s.Class == drawn.Class && x(end) < drawn.until { // what flaps is one where nobody could tell it apart
				continue
			}
			width := max(2, x(end)-x(s.From))
			drawn.Class, drawn.until = s.Class, x(s.From)+width
			p.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="16" rx="3"><title>%s</title></rect>`, class, x(s.From), y+3, width, html.EscapeString(s.Text))
			if width > 8*float64(len(s.Text))+8 {
				p.text("inside", x(s.From)+6, y+15, "start", s.Text)
			}
		}
	}
	p.add(`</svg>`)
	return p.done()
}

// drillForm is what stands in the form; all as it was written.
type drillForm struct {
	Drill, On, Seed string
	Consent         bool

	Entry, Cron, Window, Jitter, CatchUp string // of the schedule
}

// drillView is the form with what can be chosen, and what came of it.
type drillView struct {
	Service       fleet.ServiceFile
	Environments  []string
	Form          drillForm
	May           bool
	Problem, Hint string
	Planned       *fleet.DrillRun // of a dry run
	Expect        []string
}

func (s *server) drillView(v *visit, service string, form drillForm) (drillView, error) {
	file, err := s.Control.Service(service, 0)
	if err != nil {
		return drillView{}, err
	}
	view := drillView{Service: file, Form: form, May: v.May("drill")}
	if parsed, err := drill.ParseService([]byte(file.Text), file.Name); err == nil {
		for _, environment := range parsed.Environments {
			view.Environments = append(view.Environments, environment.Name)
		}
	}
	return view, nil
}

func (s *server) drillPage(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "startdrill", "Start a drill", 0, func(context.Context) (any, error) {
		return s.drillView(v, r.PathValue("service"), drillForm{Drill: r.URL.Query().Get("drill")})
	})
}

// scheduleDrill puts a drill on the schedule, leashed.
func (s *server) scheduleDrill(ctx context.Context, v *visit, form drillForm, request fleet.DrillRequest) error {
	asked := fleet.ScheduleRequest{Name: form.Entry, Cron: form.Cron, Window: form.Window, Drill: &request}
	for _, span := range []struct {
		what, text string
		into       *drill.Seconds
	}{{"put off by a part of", form.Jitter, &asked.Jitter}, {"late by at most", form.CatchUp, &asked.CatchUp}} {
		if span.text == "" {
			continue
		}
		var err error
		if *span.into, err = drill.ParseSeconds(span.text); err != nil {
			return &drill.Error{Op: span.what, Kind: drill.Invalid, Err: err}
		}
	}
	_, err := s.call(ctx, v, "schedule", asked)
	return err
}

// startDrill starts a drill, puts it on the schedule, or with "look" only shows what it would do. What is refused is shown above the form as it was written.
func (s *server) startDrill(r *http.Request, v *visit) (string, error) {
	form := drillForm{Drill: r.PostFormValue("drill"), On: r.PostFormValue("on"), Seed: r.PostFormValue("seed"), Consent: r.PostFormValue("consent") != "",
		Entry: r.PostFormValue("entry"), Cron: r.PostFormValue("cron"), Window: r.PostFormValue("window"), Jitter: r.PostFormValue("jitter"), CatchUp: r.PostFormValue("catch_up")}
	view, err := s.drillView(v, r.PathValue("service"), form)
	if err != nil {
		return "", err
	}
	request := fleet.DrillRequest{Service: view.Service.Name, Drill: form.Drill, On: form.On, Consent: form.Consent, DryRun: r.PostFormValue("do") == "look"}
	if form.Seed != "" {
		if request.Seed, err = strconv.ParseInt(form.Seed, 10, 64); err != nil {
			err = &drill.Error{Op: "seed", Kind: drill.Invalid, Err: fmt.Errorf("%q is not a number", form.Seed)}
		}
	}
	var run fleet.DrillRun
	if err == nil && r.PostFormValue("do") == "schedule" {
		if err = s.scheduleDrill(r.Context(), v, form, request); err == nil {
			return "/schedule", nil
		}
	} else if err == nil {
		var result any
		// What was begun is not taken back because somebody closed the page.
		result, err = s.call(context.WithoutCancel(r.Context()), v, "drill", request)
		run, _ = result.(fleet.DrillRun)
	}
	if err == nil && !request.DryRun {
		return "/drills/" + run.ID, nil
	}
	status := http.StatusOK
	if err != nil {
		view.Problem, view.Hint, status = err.Error(), drill.HintOf(err), statusOf(err)
		if !v.May("drill") {
			status = http.StatusForbidden
		}
	} else {
		view.Planned = &run
		view.Expect = expectationsOf(run)
	}
	return "", &formError{func(w http.ResponseWriter) {
		s.looks.render(w, status, "startdrill", s.head(r, v, "Start a drill"), view)
	}}
}

func expectationsOf(run fleet.DrillRun) []string {
	plan, err := run.Planned()
	if err != nil {
		return nil
	}
	var all []string
	for _, step := range plan.Steps {
		for _, order := range step.Drill.Orders() {
			all = append(all, step.Name+": "+order.Attack+" "+strings.Join(order.Args, " "))
		}
		for _, e := range step.Drill.Expectations {
			all = append(all, "expects: "+e.Text)
		}
	}
	return all[:min(len(all), planShown)]
}

// stopDrill ends a drill.
func (s *server) stopDrill(r *http.Request, v *visit) (string, error) {
	id := r.PathValue("drill")
	_, err := s.call(r.Context(), v, "stopdrill", id)
	return "/drills/" + id, err
}

// putPage is the form for a service file.
type putPage struct {
	Text, Problem, Hint string
	May                 bool
}

func (s *server) putPage(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "putservice", "Service file", 0, func(context.Context) (any, error) {
		page := putPage{May: v.May("putservice")}
		if name := r.URL.Query().Get("service"); name != "" {
			file, err := s.Control.Service(name, 0)
			if err != nil {
				return nil, err
			}
			page.Text = file.Text
		}
		return page, nil
	})
}

func (s *server) putService(r *http.Request, v *visit) (string, error) {
	text := strings.ReplaceAll(r.PostFormValue("text"), "\r\n", "\n")
	result, err := s.call(r.Context(), v, "putservice", fleet.PutService{Text: text})
	if file, ok := result.(fleet.ServiceFile); ok && err == nil {
		return "/services/" + file.Name, nil
	}
	page := putPage{Text: text, May: v.May("putservice")}
	status := http.StatusInternalServerError
	if err != nil {
		page.Problem, page.Hint, status = err.Error(), drill.HintOf(err), statusOf(err)
		if !page.May {
			status = http.StatusForbidden
		}
	}
	return "", &formError{func(w http.ResponseWriter) {
		s.looks.render(w, status, "putservice", s.head(r, v, "Service file"), page)
	}}
}

// drillOutcome is how a drill ended, or stands, in a word.
func drillOutcome(run fleet.DrillRun) outcome {
	switch {
	case !run.Done():
		return outcome{run.State, "going"}
	case run.Left:
		return outcome{notReverted, "failed"}
	}
	return outcome{run.Outcome, verdictClass(run.Outcome)}
}
