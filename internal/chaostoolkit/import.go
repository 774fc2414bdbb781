package chaostoolkit

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// What became of a part of an experiment.
const (
	Carried = "carried over" // it means the same here
	Changed = "changed"      // it is there, and means something else; Reason says what
	Lost    = "lost"         // it has no counterpart; Reason says why and what to do
)

// Note says what became of one part of an experiment.
type Note struct {
	Became string `json:"became"` // Carried, Changed or Lost
	Path   string `json:"path"`   // in the experiment, as method[0].provider.arguments
	Line   int    `json:"line"`
	Column int    `json:"column"`
	What   string `json:"what"`             // the part, in short; secrets are not shown
	As     string `json:"as,omitempty"`     // what it is in the service file
	Reason string `json:"reason,omitempty"` // of Changed and Lost
}

// Result is what became of an experiment.
type Result struct {
	Title string `json:"title"`
	File  string `json:"file"` // the service file: it parses, and holds TODO where a person must write
	Notes []Note `json:"notes"`
}

// Count is how many notes say that something became this.
func (r Result) Count(became string) int {
	count := 0
	for _, note := range r.Notes {
		if note.Became == became {
			count++
		}
	}
	return count
}

// Import reads an experiment and writes it as a service file. kinds is the catalogue of attacks, which actions are turned into. An error is
// a *drill.Error of kind Invalid.
func Import(input io.Reader, kinds []drill.AttackKind) (Result, error) {
	root, err := read(input)
	if err != nil {
		return Result{}, err
	}
	m := &importer{kinds: kinds, root: root, values: map[string]value{}, used: map[string]bool{}, names: map[string]bool{}, activities: map[string]*node{}}
	m.experiment()
	m.rest(root)
	slices.SortStableFunc(m.notes, func(a, b Note) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	title := root.str("title")
	return Result{Title: title, File: m.write(title), Notes: m.notes}, nil
}

// importer turns an experiment into the parts of a service file.
type importer struct {
	kinds []drill.AttackKind
	root  *node
	notes []Note

	values     map[string]value // what ${name} stands for
	used       map[string]bool  // of them, what stood somewhere
	names      map[string]bool  // of probes that were written
	activities map[string]*node // by name, for ref

	endpoint     string
	probes       []writtenProbe
	attacks      []attack
	dependencies []dependency
	strategy     string // of the hypothesis
}

type writtenProbe struct {
	name, source string
	command      []string
	every        time.Duration
	timeout      time.Duration
	hypothesis   bool
}

type dependency struct{ name, host, port string }

func (m *importer) note(became string, n *node, as, format string, args ...any) {
	m.notes = append(m.notes, Note{Became: became, Path: n.path, Line: n.line, Column: n.column, What: m.what(n), As: as, Reason: fmt.Sprintf(format, args...)})
}

// what is a part in short: an activity by its name, a value as it is.
func (m *importer) what(n *node) string {
	last := n.path
	if i := strings.LastIndexByte(last, '.'); i >= 0 {
		last = last[i+1:]
	}
	switch name := n.str("name"); {
	case n == m.root:
		return "experiment"
	case name != "" && n.get("provider") != nil:
		return fmt.Sprintf("%s %q", orElse(n.str("type"), "activity"), name)
	case strings.HasPrefix(n.path, "secrets"), secretName().MatchString(last):
		return last + " (value not shown)"
	case n.kind == scalar:
		return last + " " + n.short()
	}
	return last
}

func orElse(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

func (m *importer) carried(n *node, as string) { n.say(); m.note(Carried, n, as, "") }

func (m *importer) changed(n *node, as, format string, args ...any) {
	n.say()
	m.note(Changed, n, as, format, args...)
}

func (m *importer) lost(n *node, format string, args ...any) {
	n.say()
	m.note(Lost, n, "", format, args...)
}

// rest names every value of which nothing was said yet.
func (m *importer) rest(n *node) {
	if n.said {
		return
	}
	if n.kind == scalar {
		if !n.empty() {
			m.lost(n, "not known to this importer")
		}
		return
	}
	for _, item := range n.items {
		m.rest(item)
	}
}

func (m *importer) experiment() {
	for _, key := range []string{"version", "title", "description"} {
		if n := m.root.get(key); !n.empty() && n.kind == scalar {
			if key == "version" {
				m.lost(n, "the version of the experiment's format: a service file has none")
				continue
			}
			m.carried(n, "a comment at the top")
		}
	}
	if n := m.root.get("tags"); !n.empty() {
		m.lost(n, "for people: name drills so that they can be found")
	}
	if n := m.root.get("contributions"); !n.empty() {
		m.lost(n, "weights for people: what a service is proven to survive is counted by firedrill stage, from evidence")
	}
	if n := m.root.get("extensions"); !n.empty() {
		m.lost(n, "extensions belong to their vendors")
	}
	m.configuration()
	m.secrets()
	m.controls(m.root)
	m.runtime()
	m.collect(m.root)
	m.hypothesis()
	m.method()
	m.rollbacks()
	m.usedValues()
}

// collect finds activities by their names, for ref.
func (m *importer) collect(n *node) {
	if name := n.str("name"); name != "" && n.get("provider") != nil && m.activities[name] == nil {
		m.activities[name] = n
	}
	for _, item := range n.items {
		m.collect(item)
	}
}

// controls are code that the Chaos Toolkit calls before and after each activity.
func (m *importer) controls(n *node) {
	controls := n.get("controls")
	if controls.empty() {
		return
	}
	for _, control := range controls.items {
		provider := control.get("provider")
		module := provider.str("module")
		m.lost(control, "a control runs Python (%s) around activities: %s", orElse(module, "no module"), controlCure(module))
	}
	controls.said = true
}

// controlCure says what does a control's work here.
func controlCure(module string) string {
	for _, known := range []struct{ part, cure string }{
		{"tracing", "the log of a run has every event with its time: firedrill report"}, {"slack", "actions: tell people when alarms move"},
		{"humio", "the log of a run is one JSON object a line, for any collector"}, {"safeguard", "write stop_when: in the drill"},
		{"prometheus", "firedrill watch serves its metrics to Prometheus"}, {"terraform", "bring infrastructure up before the drill"},
		{"interact", "a drill asks nobody in the middle; firedrill playbook run has steps for people"}, {"wiremock", "there are no stubs; attack the dependency itself"},
	} {
		if strings.Contains(module, known.part) {
			return known.cure
		}
	}
	return "nothing runs between the steps of a drill"
}

// runtime says what the strategies become; the defaults are said too, as they are what people do not see.
func (m *importer) runtime() {
	runtime := m.root.get("runtime")
	m.strategy = "default"
	if n := runtime.get("hypothesis").get("strategy"); n != nil && n.text != "" {
		m.strategy = n.text
		m.changed(n, "steady_for, steady_within", "%s", hypothesisChange(n.text))
	} else if !m.root.get("steady-state-hypothesis").empty() {
		m.note(Changed, m.root.get("steady-state-hypothesis"), "steady_for, steady_within", "%s", hypothesisChange("default"))
	}
	for _, key := range []string{"frequency", "fail_fast", "fail_fast_ratio"} {
		if n := runtime.get("hypothesis").get(key); n != nil {
			m.changed(n, "probes: every", "probes are looked at every second by themselves; a drill that shall end at a failure says so in stop_when:")
		}
	}
	const always = "a drill's attack is taken back however the run ends (a failure, Ctrl-C, SIGKILL, a lost connection), by the host itself, and that is proven"
	if n := runtime.get("rollbacks").get("strategy"); n != nil && n.text != "" {
		m.changed(n, "always", "%s", always)
	} else if method := m.root.get("method"); !method.empty() {
		m.note(Changed, method, "always", "rollbacks were left out when the run was interrupted or an activity failed (the default strategy): %s", always)
	}
}

func hypothesisChange(strategy string) string {
	const here = "here all probes must be good before and afterwards, and are looked at all the time"
	switch strategy {
	case "default":
		return "it was looked at once before and once after the method: " + here
	case "before-method-only", "after-method-only":
		return "it was looked at once (" + strategy + "): " + here
	case "during-method-only", "continuously":
		return "it was looked at between activities (" + strategy + "): " + here + ", and each must stay good"
	}
	return fmt.Sprintf("strategy %q: %s", strategy, here)
}

// hypothesis makes probes of it, which all must be good before and after a drill.
func (m *importer) hypothesis() {
	hypothesis := m.root.get("steady-state-hypothesis")
	if hypothesis.empty() {
		return
	}
	if title := hypothesis.get("title"); !title.empty() && title.kind == scalar {
		m.carried(title, "a comment at the drill")
	}
	m.controls(hypothesis)
	for _, probe := range items(hypothesis.get("probes")) {
		m.probe(probe, true)
	}
}

func items(n *node) []*node {
	if n == nil || n.kind != list {
		return nil
	}
	return n.items
}

// method makes attacks of actions, and probes of probes.
func (m *importer) method() {
	method := items(m.root.get("method"))
	for i, written := range method {
		activity := m.resolved(written)
		if activity == nil {
			continue
		}
		if activity.str("type") == "probe" {
			m.probe(activity, false)
			m.pauses(activity, "a drill samples on a schedule; an expectation says within which time")
			continue
		}
		m.action(activity, m.lengthFrom(method, i))
	}
}

// resolved follows ref. It says what became of the reference itself.
func (m *importer) resolved(written *node) *node {
	ref := written.get("ref")
	if ref.empty() {
		return written
	}
	target := m.activities[ref.text]
	if target == nil {
		m.lost(written, "no activity of the experiment has this name")
		return nil
	}
	if target.str("type") == "probe" && m.names["said "+ref.text] {
		m.carried(ref, "the same probe, which is looked at all the time")
		return nil
	}
	m.carried(ref, "the activity of that name, once more")
	return target
}

func (m *importer) pauses(activity *node, reason string) {
	for _, key := range []string{"before", "after"} {
		if n := activity.get("pauses").get(key); n != nil && !n.said {
			m.lost(n, "%s", reason)
		}
	}
	if background := activity.get("background"); background != nil && !background.said {
		if on, is := background.truth(); is && !on {
			background.say()
			return
		}
		m.lost(background, "probes all run side by side")
	}
}

// rollbacks are what attacks do by themselves; anything else is lost.
func (m *importer) rollbacks() {
	for _, written := range items(m.root.get("rollbacks")) {
		activity := m.resolved(written)
		if activity == nil {
			continue
		}
		m.controls(activity)
		words := m.processWords(activity)
		made, undo := m.undoes(words)
		switch {
		case undo && made != "":
			m.changed(activity, "the end of "+made, "needless: %s takes itself back at its deadline and however the run ends, and proves it", made)
		case undo:
			m.lost(activity, "it undoes something that could not be carried over")
		default:
			m.lost(activity, "%s: a drill takes back what it did by itself, and runs nothing else at the end; what must be repaired otherwise belongs into a playbook", m.provider(activity))
		}
	}
}

// provider is what an activity does, in a few words.
func (m *importer) provider(activity *node) string {
	provider := activity.get("provider")
	switch kind := provider.str("type"); kind {
	case "python":
		return fmt.Sprintf("Python %s.%s", provider.str("module"), provider.str("func"))
	case "process":
		return fmt.Sprintf("the program %q", provider.str("path"))
	case "http":
		return "a call over HTTP"
	default:
		return fmt.Sprintf("provider %q", kind)
	}
}
