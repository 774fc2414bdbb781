package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

//go:embed page.html
var pageTemplate string

//go:embed page.css
var pageStyle string

// page is what the template shows; it holds words, not decisions.
type page struct {
	Policy    string // content security policy: nothing is loaded, nothing runs, this one style applies
	Style     template.CSS
	Title     string
	Service   string
	Word      string
	Class     string
	Reason    string
	When      string
	Facts     []fact
	Tiles     []tile
	Story     []storyCard
	Wide      template.HTML
	Narrow    template.HTML
	HasLate   bool
	HasGaps   bool
	Steps     []stepView
	RunChecks []group
	Findings  []findingView
	Unowned   int // findings that nobody has taken care of
	Plan      []fact
	Setting   []fact
	Clocks    []clockView
	Log       string
	Head      string
	Events    int
}

type fact struct{ Name, Value string }

// tile is one figure at the top.
type tile struct{ Label, Value, Unit, Note, Class string }

type storyCard struct {
	Number                   int
	Name, Word, Class, Short string
	Sign                     string
}

type stepView struct {
	Number                    int
	Name, Word, Class, Reason string
	Sign, When, Kind, Attack  string
	Groups                    []group
	Figures                   []fact
	Canaries                  []canaryView
	Clients                   []clientView
}

// clientView is what one client of several saw.
type clientView struct{ Name, Connections, Requests, Back, Evidence string }

type canaryView struct {
	Host string
	verdict.CanaryLine
}

// findingView is a finding with who takes care of it, or that nobody does.
type findingView struct {
	ID, Severity, Class, Sign, Word string
	Check, Step, What, Action       string
	Owner, Due, Retest              owed
}

// owed is what must be said of a finding, or what stands there until it is.
type owed struct {
	Text    string
	Missing bool
}

// group is the checks of one question.
type group struct {
	Title string
	Rows  []checkView
}

type checkView struct {
	Sign, Word, Class, Name, Explanation, Measured, Allowed, Evidence string
	Bar                                                               template.HTML
}

func writeHTML(w io.Writer, in Input) error {
	tmpl, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return err
	}
	s, err := scan(in)
	if err != nil {
		return err
	}
	return tmpl.Execute(w, newPage(in, s))
}

func newPage(in Input, s *scanned) page {
	v := in.Verdict
	sum := sha256.Sum256([]byte(pageStyle))
	p := page{
		Policy:  "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'",
		Style:   template.CSS(pageStyle), //nolint:gosec // our own file
		Title:   fmt.Sprintf("%s: %s", v.Service, runWord(v)),
		Service: v.Service, Word: runWord(v), Class: outcomeClass(v.Outcome), Reason: v.Reason,
		When: v.Started.UTC().Format("2 January 2006, 15:04:05 UTC"), Wide: drawTimeline(in, s, wide), Narrow: drawTimeline(in, s, narrow),
		RunChecks: groupsOf(v.Checks), Clocks: clocksOf(s.clocks), Log: in.logName(), Head: in.Head, Events: v.Totals.Events,
	}
	p.Facts = headFacts(in, s)
	p.Tiles = tilesOf(in, s)
	p.HasLate = slices.ContainsFunc(s.clients, func(c clientRow) bool { return slices.Contains(c.cells, cellLate) })
	p.HasGaps = slices.ContainsFunc(s.alarms, func(a namedBands) bool {
		return slices.ContainsFunc(a.bands, func(b band) bool { return b.state == history.AlarmInsufficient })
	})
	for i, step := range v.Steps {
		p.Story = append(p.Story, storyCard{
			Number: i + 1, Name: step.Name, Word: stepWord(step), Class: stepClass(step), Sign: stepSign(step), Short: headline(in.Plan, step),
		})
		if step.Ran || len(step.Checks) > 1 {
			p.Steps = append(p.Steps, stepViewOf(in, i, step))
		}
	}
	for _, finding := range Findings(v, in.Annex) {
		p.Findings = append(p.Findings, findingViewOf(finding))
		if len(finding.Lacks()) > 0 {
			p.Unowned++
		}
	}
	p.Plan, p.Setting = planFacts(in.Plan), settingFacts(in, s)
	return p
}

func findingViewOf(f Finding) findingView {
	say := func(text, without string) owed {
		if text == "" {
			return owed{without, true}
		}
		return owed{text, false}
	}
	view := findingView{
		ID: f.ID, Severity: f.Severity, Class: outcomeClass(f.Outcome), Sign: sign(f.Outcome), Word: word(f.Outcome), Check: f.Check, Step: f.Step, What: f.What, Action: f.Action,
		Owner: say(f.Owner, "nobody yet"), Due: say(f.Due, "no date"), Retest: say(f.Retest, "to be done"),
	}
	if !f.Missed && f.Retest == "" {
		view.Retest = owed{"–", false}
	}
	if f.AcceptedBy != "" {
		view.Owner, view.Due = owed{"risk accepted by " + f.AcceptedBy, false}, owed{orDash(f.Due), false}
		view.Retest.Missing = false
		view.Retest.Text = orDash(f.Retest)
	}
	return view
}

func stepClass(step verdict.StepVerdict) string {
	if !step.Ran && !step.Refused {
		return "idle"
	}
	return outcomeClass(step.Outcome)
}

func stepSign(step verdict.StepVerdict) string {
	if !step.Ran {
		return "–"
	}
	return sign(step.Outcome)
}

func headFacts(in Input, s *scanned) []fact {
	v := in.Verdict
	facts := []fact{{"when", v.Started.UTC().Format("2 January 2006, 15:04:05 UTC")}, {"took", spanText(v.Finished.Sub(v.Started))}}
	if v.Revision != "" {
		facts = append(facts, fact{"revision", short(v.Revision)})
	}
	if s.first != nil && s.first.Operator != "" {
		facts = append(facts, fact{"by", s.first.Operator + " on " + s.first.Host})
	}
	if v.Run != "" {
		facts = append(facts, fact{"run", v.Run})
	}
	return facts
}

func tilesOf(in Input, s *scanned) []tile {
	v := in.Verdict
	var tiles []tile
	if v.RTO != nil {
		note := fmt.Sprintf("±%.2f s", v.RTO.Bound)
		value := fmt.Sprintf("%.2f", v.RTO.Seconds)
		switch {
		case v.RTO.Open:
			value, note = fmt.Sprintf("> %.1f", v.RTO.Seconds), "not served again"
		case v.RTO.Seconds == 0:
			value, note = "0", "no request failed"
		}
		if v.RTO.Allowed > 0 {
			note += fmt.Sprintf(", %g s allowed", v.RTO.Allowed)
		}
		tiles = append(tiles, tile{Label: "recovery time (RTO)", Value: value, Unit: "s", Note: note})
	}
	if s.acked > 0 {
		note := fmt.Sprintf("of %d, all read back", s.acked)
		if s.unread > 0 {
			note = fmt.Sprintf("of %d; %d times not read back", s.acked, s.unread)
		}
		tiles = append(tiles, tile{Label: "acknowledged writes lost", Value: fmt.Sprintf("%d", s.lost), Note: note})
	}
	if v.Totals.Samples > 0 {
		tiles = append(tiles, tile{
			Label: "requests answered", Value: fmt.Sprintf("%.1f", v.Totals.Available), Unit: "%",
			Note: fmt.Sprintf("%d of %d", v.Totals.Samples-v.Totals.FailedSample, v.Totals.Samples),
		})
	}
	if drills := drillsRun(v); drills != "" {
		tiles = append(tiles, tile{Label: "packets the kernel dropped", Value: fmt.Sprintf("%d", v.Totals.Dropped), Note: "in " + drills})
	}
	return append(tiles, tile{Label: "checks that hold", Value: fmt.Sprintf("%d", v.Totals.Passed), Note: fmt.Sprintf("of %d", v.Totals.Checks)})
}

// drillsRun counts the drills in which something was attacked.
func drillsRun(v verdict.Verdict) string {
	count := 0
	for _, step := range v.Steps {
		if step.Impact != nil && !step.Impact.From.IsZero() {
			count++
		}
	}
	switch count {
	case 0:
		return ""
	case 1:
		return "1 drill"
	}
	return fmt.Sprintf("%d drills", count)
}

func stepViewOf(in Input, i int, step verdict.StepVerdict) stepView {
	view := stepView{
		Number: i + 1, Name: step.Name, Word: stepWord(step), Class: stepClass(step), Sign: stepSign(step), Reason: step.Reason, Kind: step.Kind,
		Attack: attackArgs(in.Plan, step.Step), Groups: groupsOf(step.Checks),
	}
	if step.Ran {
		view.When = fmt.Sprintf("%s to %s UTC, %s", step.Started.UTC().Format("15:04:05"), step.Finished.UTC().Format("15:04:05"), spanText(step.Finished.Sub(step.Started)))
	}
	if step.RTO != nil && step.RTO.Seconds == 0 {
		view.Figures = append(view.Figures, fact{"clients", "no request failed"})
	} else if step.RTO != nil {
		view.Figures = append(view.Figures, fact{"clients back after", rtoText(step.RTO) + " " + evidenceText(step.RTO.Evidence, 4)})
	}
	if step.Clients != nil {
		view.Figures = append(view.Figures, fact{"requests", fmt.Sprintf("%d, %d failed", step.Clients.Samples, step.Clients.Failed)})
	}
	for _, one := range step.Recoveries {
		view.Clients = append(view.Clients, clientView{one.Client, one.Connections, servedText(one), backText(one), evidenceText(one.Evidence, 4)})
	}
	if step.Impact == nil {
		return view
	}
	for _, host := range step.Impact.Hosts {
		view.Figures = append(view.Figures, hostFigures(host)...)
		for _, line := range host.Canaries {
			view.Canaries = append(view.Canaries, canaryView{host.Host, line})
		}
	}
	return view
}

func hostFigures(host verdict.HostImpact) []fact {
	if host.InForce.IsZero() {
		return []fact{{host.Host, "never attacked"}}
	}
	if host.OneWay {
		facts := []fact{{host.Host + " down", orDash(clockText(host.DownAt))}, {"back", orDash(clockText(host.UpAt))}}
		return append(facts, fact{"boot", orDash(short(host.BootBefore)) + " → " + orDash(short(host.BootAfter))})
	}
	facts := []fact{
		{host.Host + " in force", clockText(host.InForce) + " to " + orDash(clockText(host.Reverted))},
		{"packets dropped", fmt.Sprintf("%d out, %d in", host.Egress, host.Ingress)},
		{"addresses cut", fmt.Sprintf("%d", host.Targets)},
	}
	left := "nothing"
	if len(host.Residue) > 0 {
		left = strings.Join(host.Residue, ", ")
	} else if host.Reverted.IsZero() {
		left = "not known"
	}
	return append(facts, fact{"ended by", orDash(host.Why)}, fact{"left behind", left})
}

func clockText(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("15:04:05.00")
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// groupsOf keeps the order of the verdict and gathers what belongs to one question.
func groupsOf(checks []verdict.Check) []group {
	var groups []group
	for _, check := range checks {
		title := string(check.Group)
		i := slices.IndexFunc(groups, func(g group) bool { return g.Title == title })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{Title: title})
		}
		groups[i].Rows = append(groups[i].Rows, checkView{
			Sign: sign(check.Outcome), Word: word(check.Outcome), Class: outcomeClass(check.Outcome), Name: check.Name, Explanation: check.Explanation,
			Measured: quantityText(check.Measured), Allowed: allowedText(check), Evidence: evidenceText(check.Evidence, 4), Bar: barOf(check),
		})
	}
	return groups
}

// barOf draws measured against allowed: the bar is what was measured, the mark is the limit, the fine line the error bound.
func barOf(check verdict.Check) template.HTML {
	if check.Measured == nil || check.Allowed == nil || check.Measured.Unit == "packets" {
		return ""
	}
	const width, height = 120.0, 10.0
	full := max(check.Measured.Value+check.Measured.Bound, check.Allowed.Value) * 1.04
	if full <= 0 || math.IsInf(full, 0) || math.IsNaN(full) {
		return ""
	}
	var c canvas
	at := func(value float64) float64 { return width * max(0, min(1, value/full)) }
	c.raw(`<svg class="bar" viewBox="0 0 %s %s" aria-hidden="true">`, num(width), num(height))
	c.box("track", 0, 2, at(check.Allowed.Value), height-4, 2)
	c.box("fill "+outcomeClass(check.Outcome), 0, 2, at(check.Measured.Value), height-4, 2)
	if check.Measured.Bound > 0 {
		c.line("bound", at(check.Measured.Value-check.Measured.Bound), height/2, at(check.Measured.Value+check.Measured.Bound), height/2)
	}
	c.line("limit", at(check.Allowed.Value), 0, at(check.Allowed.Value), height)
	c.raw("</svg>")
	return template.HTML(c.b.String()) //nolint:gosec // numbers and our own words only
}

func planFacts(plan drill.Plan) []fact {
	facts := []fact{{"endpoint", plan.Endpoint}}
	var promises []string
	if plan.Objectives.RTO > 0 {
		promises = append(promises, "RTO "+plan.Objectives.RTO.String())
	}
	if plan.Objectives.RPO != nil {
		promises = append(promises, "RPO "+plan.Objectives.RPO.String())
	}
	if level := plan.Objectives.Level; level != nil {
		promises = append(promises, fmt.Sprintf("%g %% over %s, of which a drill may cost %s", float64(level.Target), level.Window, level.DrillBudget().Round(time.Millisecond)))
	}
	if plan.Objectives.Availability > 0 {
		promises = append(promises, fmt.Sprintf("availability %g %%", float64(plan.Objectives.Availability)))
	}
	if len(promises) > 0 {
		facts = append(facts, fact{"objectives", strings.Join(promises, ", ")})
	}
	for _, environment := range plan.Environments {
		var hosts []string
		for _, host := range environment.Hosts {
			hosts = append(hosts, fmt.Sprintf("%s (%s)", host.Name, host.Address))
		}
		facts = append(facts, fact{environment.Name, strings.Join(hosts, ", ")})
	}
	for _, dependency := range plan.Dependencies {
		facts = append(facts, fact{"needs " + dependency.Name, dependency.Address})
	}
	for _, failover := range plan.Failover {
		facts = append(facts, fact{"name", fmt.Sprintf("%s: %s, else %s; failback %s", failover.Name, failover.Primary, failover.Secondary, orDash(failover.Failback))})
	}
	for _, client := range plan.Clients {
		kind := ""
		if client.Keep {
			kind = ", keeps its connections"
		}
		if client.Agent != "" {
			kind += ", on agent " + client.Agent
		}
		facts = append(facts, fact{"client " + client.Name, fmt.Sprintf("every %s, timeout %s%s", client.Every, client.Timeout, kind)})
	}
	return facts
}

func settingFacts(in Input, s *scanned) []fact {
	var facts []fact
	if s.first != nil {
		facts = append(facts, fact{"run", s.first.Run}, fact{"tool", s.first.Tool}, fact{"ran on", s.first.Host}, fact{"kernel", orDash(s.first.Kernel)},
			fact{"started by", orDash(s.first.Operator)})
	}
	facts = append(facts, fact{"events in the log", fmt.Sprintf("%d", in.Verdict.Totals.Events)})
	if in.Verdict.Totals.Unmeasured != "" {
		facts = append(facts, fact{"not measured", in.Verdict.Totals.Unmeasured})
	}
	return facts
}

// clocksMax bounds the table of clocks.
const clocksMax = 50

// clockView is the measured difference of one clock.
type clockView struct{ Host, Offset, Error string }

// clocksOf keeps the last measurement of each host.
func clocksOf(all []history.Clock) []clockView {
	var last []history.Clock
	for _, clock := range all {
		i := slices.IndexFunc(last, func(c history.Clock) bool { return c.Host == clock.Host })
		if i >= 0 {
			last[i] = clock
		} else if len(last) < clocksMax {
			last = append(last, clock)
		}
	}
	millis := func(s drill.Seconds) float64 { return float64(s.Duration()) / float64(time.Millisecond) }
	var views []clockView
	for _, clock := range last {
		views = append(views, clockView{clock.Host, fmt.Sprintf("%+.2f ms", millis(clock.Offset)), fmt.Sprintf("±%.2f ms", millis(clock.Error))})
	}
	return views
}

// attackArgs are the attacks of a step as they would be typed.
func attackArgs(plan drill.Plan, step int) string {
	if step >= len(plan.Steps) || plan.Steps[step].Drill == nil {
		return ""
	}
	var all []string
	for _, order := range plan.Steps[step].Drill.Orders() {
		all = append(all, strings.Join(append([]string{"firedrill attack", order.Attack}, order.Args...), " "))
	}
	joint := "; then "
	if plan.Steps[step].Drill.Together {
		joint = "; together with "
	}
	return strings.Join(all, joint)
}
