package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"firedrill/internal/drill"
)

// DisasterRecovery is what a playbook is for that is not about one dependency: the loss of the platform that the service runs on.
const DisasterRecovery = "disaster recovery"

// Playbook is one file.
type Playbook struct {
	File   string `json:"file"`
	Hash   string `json:"hash"` // of its bytes, SHA-256 in hex: what people agree to
	Head   Head   `json:"head"`
	Parts  []Part `json:"parts"`
	prose  map[string]bool
	places map[string]int
}

// Head is the YAML between the two lines of dashes that open the file.
type Head struct {
	Title        string        `yaml:"playbook,required" json:"playbook"`
	For          string        `yaml:"for,required" json:"for"`                      // a dependency of the service file, or DisasterRecovery
	Severity     string        `yaml:"severity,required" json:"severity"`            // in the team's own words
	Leads        []string      `yaml:"leads,required" json:"leads"`                  // roles of contacts: who leads, and who does when they cannot
	Contacts     []Contact     `yaml:"contacts,required" json:"contacts"`            //
	Notification []Notice      `yaml:"notification,required" json:"notification"`    //
	Platform     string        `yaml:"platform,required" json:"platform"`            // where the function runs afterwards
	RTO          drill.Seconds `yaml:"rto,required" json:"rto_seconds"`              // longest time until the function is back
	RPO          drill.Seconds `yaml:"rpo,required" json:"rpo_seconds"`              // longest span of data that may be lost
	Workaround   string        `yaml:"workaround" json:"workaround,omitempty"`       // what people do meanwhile
	Children     []string      `yaml:"children" json:"children,omitempty"`           // what the dependency depends on itself
	Confirm      int           `yaml:"confirmations" json:"confirmations,omitempty"` // how often a person may be asked in a run that counts as automatic
}

// Contact is a role with a way to reach whoever has it.
type Contact struct {
	Role      string   `yaml:"role,required" json:"role"`
	Reach     string   `yaml:"reach,required" json:"reach"`
	Services  []string `yaml:"services" json:"services,omitempty"`
	Available string   `yaml:"available" json:"available,omitempty"`
}

// Notice says who is told.
type Notice struct {
	Who  string `yaml:"who,required" json:"who"`
	When string `yaml:"when,required" json:"when"`
	How  string `yaml:"how,required" json:"how"`
}

// The parts that have steps, by their headings.
const (
	Procedure = "procedure" // what to do when it happens
	Test      = "test"      // how to see that it worked
	Resume    = "resume"    // how to come back to normal
)

// Part is a part of the playbook with steps.
type Part struct {
	Name  string `json:"name"`
	Steps []Step `json:"steps"`
}

// Step is one heading of the third level with what stands below it.
type Step struct {
	Title   string        `json:"title"`
	Text    string        `json:"text,omitempty"`    // what a person reads before it is run
	Command string        `json:"command,omitempty"` // read by sh; empty: a person does it by hand
	Host    string        `json:"host,omitempty"`    // of the service file, or a name that ssh knows; empty: where firedrill runs
	Within  drill.Seconds `json:"within_seconds"`    // longer is a failure; 0: as long as it takes
	Ask     bool          `json:"ask,omitempty"`     // a person confirms it, also in a run that goes by itself
	Expect  *Expect       `json:"expect,omitempty"`
	Line    int           `json:"line"` // of the heading
}

// Expect is what a command must print and how it must end.
type Expect struct {
	Exit  int      `json:"exit"`
	Lines []string `json:"lines,omitempty"` // each must be found in a line of the output, in this order; /…/ is a pattern
}

// ByHand says whether a person has to do the step.
func (s Step) ByHand() bool { return s.Command == "" }

// Part returns a part by its name, with ok false when the playbook has none.
func (p Playbook) Part(name string) (Part, bool) {
	for _, part := range p.Parts {
		if part.Name == name {
			return part, true
		}
	}
	return Part{}, false
}

// Executable counts the steps of all parts, and those that need no hands.
func (p Playbook) Executable() (executable, all int) {
	for _, part := range p.Parts {
		for _, step := range part.Steps {
			all++
			if !step.ByHand() {
				executable++
			}
		}
	}
	return executable, all
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Met says whether output and exit code are what the step expects, and if not, what is missing.
func (s Step) Met(exit int, output string) error {
	want := Expect{}
	if s.Expect != nil {
		want = *s.Expect
	}
	if exit != want.Exit {
		return fmt.Errorf("it ended with exit code %d, not %d", exit, want.Exit)
	}
	lines := strings.Split(output, "\n")
	next := 0
	for _, expected := range want.Lines {
		found := false
		for ; next < len(lines) && !found; next++ {
			found = lineMatches(lines[next], expected)
		}
		if !found {
			return fmt.Errorf("it did not print %s", expected)
		}
	}
	return nil
}

func lineMatches(line, expected string) bool {
	pattern, isPattern := patternOf(expected)
	if !isPattern {
		return strings.Contains(line, expected)
	}
	compiled, err := regexp.Compile(pattern)
	return err == nil && compiled.MatchString(line)
}

// patternOf returns what stands between slashes.
func patternOf(expected string) (string, bool) {
	if len(expected) > 2 && strings.HasPrefix(expected, "/") && strings.HasSuffix(expected, "/") {
		return expected[1 : len(expected)-1], true
	}
	return "", false
}
