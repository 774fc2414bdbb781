package ready

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"
	"time"

	"firedrill/drills"
	"firedrill/internal/drill"
)

// Drill is a ready-made drill: a page about it, and the drill itself as a template that is filled from a service file.
type Drill struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Page    string `json:"page"` // Markdown: what a healthy service does, what to expect, what it needs, the template
	pattern string
}

// Choices are what a service file does not tell. All may be empty.
type Choices struct {
	Dependency, Process, Directory, Connect string
}

const folder = "ready"

// All returns the ready-made drills, by name.
func All() ([]Drill, error) {
	entries, err := fs.ReadDir(drills.Files(), folder)
	if err != nil {
		return nil, err
	}
	var all []Drill
	for _, entry := range entries {
		text, err := fs.ReadFile(drills.Files(), path.Join(folder, entry.Name()))
		if err != nil {
			return nil, err
		}
		d, err := parse(strings.TrimSuffix(entry.Name(), ".md"), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func parse(name, page string) (Drill, error) {
	_, rest, ok := strings.Cut(page, "```yaml\n")
	pattern, _, closed := strings.Cut(rest, "```")
	title, _, _ := strings.Cut(strings.TrimPrefix(page, "# "), "\n")
	if !ok || !closed || !strings.HasPrefix(pattern, name+":\n") {
		return Drill{}, fmt.Errorf("ready-made drill %s: there is no YAML of it on its page", name)
	}
	return Drill{Name: name, Title: title, Page: page, pattern: pattern}, nil
}

// Find returns the drill with this name.
func Find(name string) (Drill, error) {
	all, err := All()
	if err != nil {
		return Drill{}, err
	}
	var names []string
	for _, d := range all {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return Drill{}, &drill.Error{Op: "drills", Kind: drill.Invalid, Err: fmt.Errorf("no ready-made drill %q", name), Hint: drill.Suggest(name, names)}
}

// Fill makes the drill concrete for a service: YAML as it stands below drills:. The error says what is missing.
func (d Drill) Fill(service drill.Service, choices Choices) (string, error) {
	pattern, err := template.New(d.Name).Parse(d.pattern)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if err := pattern.Execute(&text, &scene{service: service, choices: choices}); err != nil {
		var wanting *missing
		if errors.As(err, &wanting) {
			return "", &drill.Error{Op: "drills add " + d.Name, Kind: drill.Invalid, Err: errors.New(wanting.what), Hint: wanting.cure}
		}
		return "", err
	}
	return text.String(), nil
}

// missing is something that a drill needs and the service file does not have.
type missing struct{ what, cure string }

func (m *missing) Error() string { return m.what }

// scene is what templates ask.
type scene struct {
	service drill.Service
	choices Choices
}

// Dependency is the dependency that is taken away: the one that was chosen, or the first that an alarm watches.
func (s *scene) Dependency() (string, error) {
	if name := s.choices.Dependency; name != "" {
		if s.service.Dependency(name) == nil {
			var names []string
			for _, known := range s.service.Dependencies {
				names = append(names, known.Name)
			}
			return "", &missing{fmt.Sprintf("no dependency %q", name), drill.Suggest(name, names)}
		}
		return name, nil
	}
	for _, known := range s.service.Dependencies {
		if len(s.alarmsOn(known.Name)) > 0 {
			return known.Name, nil
		}
	}
	return "", &missing{"no dependency has an alarm on its metric", "Add dependencies:, a metric with connect: DEPENDENCY, and an alarm on it."}
}

// Database is the dependency that is the database.
func (s *scene) Database() (string, error) {
	if s.choices.Dependency != "" {
		return s.Dependency()
	}
	for _, known := range s.service.Dependencies {
		if slices.Contains([]string{"db", "database", "postgres", "postgresql", "mysql"}, known.Name) {
			return known.Name, nil
		}
	}
	return "", &missing{"which dependency is the database?", "Name it with --dependency."}
}

// Server is the database of the service file whose primary is lost: the only one, or the one that was chosen; "" when there is none.
func (s *scene) Server() (string, error) {
	if s.choices.Dependency != "" && s.service.Database(s.choices.Dependency) != nil {
		return s.choices.Dependency, nil
	}
	switch len(s.service.Databases) {
	case 0:
		return "", nil
	case 1:
		return s.service.Databases[0].Name, nil
	}
	return "", &missing{"the service file has several databases", "Name one with --dependency."}
}

// ServerAlarms are those that order its promotion.
func (s *scene) ServerAlarms() ([]string, error) {
	name, err := s.Server()
	if err != nil || name == "" {
		return nil, err
	}
	return s.service.Database(name).PromoteWhen, nil
}

// alarmsOn are the names of the alarms on the metrics that connect to a dependency.
func (s *scene) alarmsOn(dependency string) []string {
	var names []string
	for _, alarm := range s.service.Alarms {
		if metric := s.service.Metric(alarm.Metric); metric != nil && metric.Connect == dependency {
			names = append(names, alarm.Name)
		}
	}
	return names
}

// Alarms are those on the dependency.
func (s *scene) Alarms() ([]string, error) {
	name, err := s.Dependency()
	return s.alarmsOn(name), err
}

// DatabaseAlarms are those on the database.
func (s *scene) DatabaseAlarms() ([]string, error) {
	name, err := s.Database()
	return s.alarmsOn(name), err
}

// AllAlarms are those on all dependencies.
func (s *scene) AllAlarms() ([]string, error) {
	var names []string
	for _, known := range s.service.Dependencies {
		names = append(names, s.alarmsOn(known.Name)...)
	}
	if len(names) == 0 {
		return nil, &missing{"no dependency has an alarm on its metric", "Add dependencies:, a metric with connect: DEPENDENCY, and an alarm on it."}
	}
	return names, nil
}

// HostAlarm is the alarm on a heartbeat.
func (s *scene) HostAlarm() (string, error) {
	for _, alarm := range s.service.Alarms {
		if metric := s.service.Metric(alarm.Metric); metric != nil && metric.Heartbeat {
			return alarm.Name, nil
		}
	}
	return "", &missing{"no alarm watches whether a host is alive", "Add a metric with heartbeat: true, and an alarm on it with missing: breaching."}
}

// Several says that environments have more than one host.
func (s *scene) Several() bool {
	return slices.ContainsFunc(s.service.Environments, func(e drill.Environment) bool { return len(e.Hosts) > 1 })
}

// Ledger says that a client keeps one.
func (s *scene) Ledger() bool {
	return slices.ContainsFunc(s.service.Clients, func(c drill.Client) bool { return c.Ledger != "" })
}

// slack is added to what an alarm needs by its own rule: samples travel, and evaluations wait for their period to end.
const slack = 5 * time.Second

// AlarmWithin is how long the slowest alarm may need by its own rule, twice, and slack.
func (s *scene) AlarmWithin() string {
	longest := time.Duration(0)
	for _, alarm := range s.service.Alarms {
		longest = max(longest, alarm.Period.Duration()*time.Duration(alarm.Datapoints.N))
	}
	return (2*longest + slack).String()
}

const rtoDefault = 30 * time.Second

// RTO is the recovery time objective.
func (s *scene) RTO() string { return cmp.Or(s.service.Objectives.RTO.Duration(), rtoDefault).String() }

// Length is long enough for alarms and failover to be seen.
func (s *scene) Length() string {
	longest, _ := time.ParseDuration(s.AlarmWithin()) // our own words
	return (longest + 2*cmp.Or(s.service.Objectives.RTO.Duration(), rtoDefault)).Round(time.Second).String()
}

func (s *scene) chosen(value, what, flag string) (string, error) {
	if value == "" {
		return "", &missing{what + " is not known", "Name it with " + flag + "."}
	}
	return value, nil
}

// Process is a part of the command line of what is to hang.
func (s *scene) Process() (string, error) {
	return s.chosen(s.choices.Process, "the process that is to hang", "--process")
}

// Directory lies on the volume that is to be full.
func (s *scene) Directory() (string, error) {
	return s.chosen(s.choices.Directory, "the directory whose volume is to be full", "--directory")
}

// Connect is the endpoint whose certificate is looked at.
func (s *scene) Connect() (string, error) {
	return s.chosen(s.choices.Connect, "the endpoint whose certificate is looked at", "--connect")
}
