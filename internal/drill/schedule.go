//go:build !attackpart

package drill

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v4"
)

// Scheduled is one entry of `schedule:`: what runs by itself, and when it may.
type Scheduled struct {
	Drill    string   `yaml:"drill" json:"drill,omitempty"`              // a drill, with its place if need be: "lose-host on active"
	Pipeline bool     `yaml:"pipeline" json:"pipeline,omitempty"`        // true: the pipeline of the file; exactly one of drill and pipeline
	Cron     string   `yaml:"cron,required" json:"cron"`                 // "0 10 * * TUE", with a time zone if need be; default the window's
	Window   string   `yaml:"window" json:"window,omitempty"`            // "Mon-Fri 09:00-15:00 Europe/Berlin": no start outside of it
	Freeze   []string `yaml:"freeze" json:"freeze,omitempty"`            // "2026-12-18..2027-01-04": no start on these dates
	Jitter   Seconds  `yaml:"jitter" json:"jitter_seconds,omitempty"`    // each start is put off by a part of this; up to 12h
	CatchUp  CatchUp  `yaml:"catch_up" json:"catch_up_seconds,omitzero"` // never (default), or how late a missed start may still be
}

// CatchUp is how late a start may be that was missed; 0 stands for never.
type CatchUp Seconds

// Limits of an entry.
const (
	jitterMax  = Seconds(12 * time.Hour)     // more, and it is another day
	catchUpMax = Seconds(7 * 24 * time.Hour) // more, and it is another week's run
	cronEvery  = Seconds(5 * time.Minute)    // more often, and no run ends before the next
	cronLook   = 2000                        // moments that are held against the window
	cronYears  = 5 * 366 * 24 * time.Hour    // so that a 29th of February is seen
	never      = "never"                     // of catch_up
)

// DecodeNode reads "never" or a duration.
func (c *CatchUp) DecodeNode(node *yaml.Node) error {
	if node.Value == never {
		*c = 0
		return nil
	}
	value, err := ParseSeconds(node.Value)
	if err != nil || value == 0 || value > catchUpMax {
		return fmt.Errorf("%q is neither never nor a duration of at most 7d; write how late a missed start may still be, such as 2h", node.Value)
	}
	*c = CatchUp(value)
	return nil
}

// MarshalJSON writes a number of seconds.
func (c CatchUp) MarshalJSON() ([]byte, error) { return Seconds(c).MarshalJSON() }

// UnmarshalJSON reads a number of seconds.
func (c *CatchUp) UnmarshalJSON(text []byte) error { return (*Seconds)(c).UnmarshalJSON(text) }

// Item is the entry as an item of a pipeline; "pipeline" stands for all of them.
func (s Scheduled) Item() string {
	if s.Pipeline {
		return "pipeline"
	}
	return "drill " + s.Drill
}

// Name tells the entry from the others of its file, also after the file was put in another order.
func (s Scheduled) Name() string { return s.Item() + " @ " + s.Cron }

// Calendar is a Scheduled read: when it comes, and when it may not.
type Calendar struct {
	Cron    Cron
	Window  Window
	Freezes []Freeze
}

// Calendar reads the texts of the entry and the freezes that hold for the whole service. After ParseService there is no error.
func (s Scheduled) Calendar(shared []string) (Calendar, error) {
	window, err := ParseWindow(s.Window)
	if err != nil {
		return Calendar{}, err
	}
	when, err := ParseCron(s.Cron, window.Zone())
	if err != nil {
		return Calendar{}, err
	}
	calendar := Calendar{Cron: when, Window: window}
	// The dates that the whole service shares are the same for a deployment, which has no time zone of its own.
	for _, of := range []struct {
		texts []string
		zone  *time.Location
	}{{shared, time.UTC}, {s.Freeze, when.Zone()}} {
		for _, text := range of.texts {
			freeze, err := ParseFreeze(text, of.zone)
			if err != nil {
				return Calendar{}, err
			}
			calendar.Freezes = append(calendar.Freezes, freeze)
		}
	}
	return calendar, nil
}

// schedule checks the entries of `schedule:` and the freezes of the service.
func (c *checker) schedule() {
	for i, text := range c.service.Freeze {
		if _, err := ParseFreeze(text, time.UTC); err != nil {
			c.mistake(fmt.Sprintf("freeze[%d]", i), "%v", err)
		}
	}
	seen := map[string]bool{}
	for i, entry := range c.service.Schedule {
		c.scheduled(fmt.Sprintf("schedule[%d]", i), entry)
		if seen[entry.Name()] {
			c.mistake(fmt.Sprintf("schedule[%d]", i), "the same thing at the same moments stands above already")
		}
		seen[entry.Name()] = true
	}
}

func (c *checker) scheduled(path string, entry Scheduled) {
	switch {
	case entry.Pipeline == (entry.Drill != ""):
		c.mistake(path, "write exactly one of drill: NAME and pipeline: true")
	case entry.Pipeline && len(c.service.Pipeline) == 0:
		c.mistake(path+".pipeline", "the file has no pipeline")
	case !entry.Pipeline:
		if _, err := parseItem(entry.Item(), c.service); err != nil {
			c.mistake(path+".drill", "%v", err)
		}
	}
	if entry.Jitter > jitterMax {
		c.mistake(path+".jitter", "%s is too long; 12h is the most", entry.Jitter)
	}
	window, err := ParseWindow(entry.Window)
	if err != nil {
		c.mistake(path+".window", "%v", err)
		return
	}
	for i, text := range entry.Freeze {
		if _, err := ParseFreeze(text, time.UTC); err != nil {
			c.mistake(fmt.Sprintf("%s.freeze[%d]", path, i), "%v", err)
		}
	}
	when, err := ParseCron(entry.Cron, window.Zone())
	if err != nil {
		c.mistake(path+".cron", "%v", err)
		return
	}
	if problem := unusable(when, window, entry.CatchUp); problem != "" {
		c.mistake(path+".cron", "%s", problem)
	}
}

// unusable says what is wrong with moments that no run could ever start at. It looks at some years of them, from a fixed day on, so that
// the same file is right or wrong on every day.
func unusable(when Cron, window Window, catchUp CatchUp) string {
	begin := time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)
	at, inside := begin, false
	for range cronLook {
		next := when.Next(at)
		if next.IsZero() || next.Sub(begin) > cronYears {
			break
		}
		if at != begin && next.Sub(at) < cronEvery.Duration() {
			return fmt.Sprintf("comes again after %s; %s is the least, or no run ends before the next", next.Sub(at), cronEvery)
		}
		at = next
		opens := window.Opens(next)
		if !opens.IsZero() && opens.Sub(next) <= Seconds(catchUp).Duration() {
			inside = true
		}
	}
	switch {
	case at == begin:
		return "never comes"
	case !inside:
		return fmt.Sprintf("never comes while the window %s is open", window)
	}
	return ""
}
