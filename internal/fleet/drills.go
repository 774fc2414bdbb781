package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Words about what is there, beside those about orders.
const (
	WordLook   = "look"   // control to agent: say what is in force and what runs
	WordLooked = "looked" // agent to control: that
)

// Bounds of a look.
const (
	lookPathMax  = 4096
	lookedMax    = 4 << 10 // bytes of a reservation, a release, or an error
	releaseForm  = "releases/"
	reservedName = "reserved.json"
)

// Look asks a host what is in force there and, where a directory of releases is named, which of them runs. It changes nothing.
type Look struct {
	ID        string `json:"id"`
	Directory string `json:"directory,omitempty"` // deploy.directory of a service file; absolute
	Clock     bool   `json:"clock,omitempty"`     // only what time it is there; a host that does not know this says all
}

// Looked answers a Look. Both times are of the host's clock, so that how far it is off can be measured with a bound.
type Looked struct {
	ID       string    `json:"id"`
	Heard    time.Time `json:"heard"` // when the question came
	At       time.Time `json:"at"`    // when the answer left
	InForce  []string  `json:"in_force,omitempty"`
	Release  string    `json:"release,omitempty"`
	Revision string    `json:"revision,omitempty"`
	Reserved string    `json:"reserved,omitempty"` // the text of a reservation, as firedrill lock leaves it
	Error    string    `json:"error,omitempty"`    // why it is not known; then nothing above but the times is
}

// ReleaseLink is where a directory of releases says which runs; ReservationFile where it says who has reserved the host.
func ReleaseLink(directory string) string { return path.Join(directory, "current") }

// ReservationFile is where a directory of releases says who has reserved the host.
func ReservationFile(directory string) string { return path.Join(directory, reservedName) }

// ReleaseOf is the name of a release in the target of its link. A link that leads elsewhere is none of ours, and is not told of.
func ReleaseOf(target string) (string, error) {
	name, ours := strings.CutPrefix(target, releaseForm)
	if !ours || !nameForm.MatchString(name) {
		return "", errors.New("current leads to no release")
	}
	return name, nil
}

// RevisionOf is the git commit in the text of a REVISION file, or "".
func RevisionOf(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > 64 || strings.Trim(text, "0123456789abcdef") != "" {
		return ""
	}
	return text
}

func (l Look) check() error {
	switch {
	case !uuidForm.MatchString(l.ID):
		return errors.New("it has no name")
	case l.Directory != "" && (!path.IsAbs(l.Directory) || path.Clean(l.Directory) != l.Directory || len(l.Directory) > lookPathMax || strings.ContainsRune(l.Directory, 0)):
		return fmt.Errorf("%q is no directory of releases", l.Directory)
	}
	return nil
}

func (l Looked) check() error {
	if !uuidForm.MatchString(l.ID) || len(l.InForce) > runningMax || len(l.Release)+len(l.Revision)+len(l.Reserved)+len(l.Error) > 4*lookedMax {
		return errors.New("an answer to no look")
	}
	return nil
}

// ServiceFile is one version of a service file, as it was put on the server.
type ServiceFile struct {
	Name    string    `json:"name"`
	Version int       `json:"version"` // from 1
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Drills  []string  `json:"drills"`
	Hosts   []string  `json:"hosts"`
	Text    string    `json:"text,omitempty"`
}

// ServiceFileMax bounds the text of a service file: one message of the engine carries it.
const ServiceFileMax = 256 << 10

// PutService asks for a service file to be taken.
type PutService struct {
	Text string `json:"text"`
}

// ServiceRequest asks for a version of a service file.
type ServiceRequest struct {
	Name    string `json:"name"`
	Version int    `json:"version,omitempty"` // 0: the newest
}

// DrillRequest asks for a drill of a service, conducted by the server.
type DrillRequest struct {
	Service string `json:"service"`
	Drill   string `json:"drill"`
	On      string `json:"on,omitempty"`      // idle, active or an environment, in place of the drill's own
	Seed    int64  `json:"seed,omitempty"`    // of the choice of hosts; 0: another one
	Consent bool   `json:"consent,omitempty"` // where a host's policy or the kind of attack asks for it
	DryRun  bool   `json:"dry_run,omitempty"` // make the plan, and stop there
}

// Item is the drill as an item of a pipeline.
func (r DrillRequest) Item() string {
	if r.On == "" {
		return "drill " + r.Drill
	}
	return "drill " + r.Drill + " on " + r.On
}

// States of a drill that the server conducts.
const (
	DrillRunning = "running"
	DrillBroken  = "broken off" // the server ended in the middle; its hosts are being waited for
	DrillEnded   = "ended"
)

// DrillRun is a drill that the server conducts, or has conducted.
type DrillRun struct {
	ID      string            `json:"id"`
	Request DrillRequest      `json:"request"`
	Version int               `json:"version"` // of the service file
	By      string            `json:"by"`
	Trigger string            `json:"trigger"`           // person, schedule
	Entry   string            `json:"entry,omitempty"`   // of the schedule, which began it
	Moment  time.Time         `json:"moment,omitzero"`   // at which it was due there
	Server  string            `json:"server"`            // that conducts it, and keeps its log and reports
	Hosts   []string          `json:"hosts"`             // that it attacks
	Kinds   []string          `json:"kinds"`             // of its attacks
	Groups  []string          `json:"groups,omitempty"`  // redundancy groups of its service, whose permits it holds too
	Clients map[string]string `json:"clients,omitempty"` // hosts that sample as clients of its file, by the client's name
	Started time.Time         `json:"started"`
	Until   time.Time         `json:"until"` // over by then; for so long it holds the permit of its service
	State   string            `json:"state"`
	Stopped string            `json:"stopped,omitempty"` // who ended it early, or what
	Result  string            `json:"result"`            // the name under which its log and reports are kept
	Ended   time.Time         `json:"ended,omitzero"`
	Outcome string            `json:"outcome,omitempty"` // passed, failed or inconclusive
	Reason  string            `json:"reason,omitempty"`
	Left    bool              `json:"not_reverted,omitempty"` // impact may still be in force
	Head    string            `json:"log,omitempty"`          // hash of the last line of its log
	Untold  bool              `json:"untold,omitempty"`       // whoever is to be told how it ended was not yet
	Plan    json.RawMessage   `json:"plan,omitempty"`         // of a dry run
}

// Planned is the plan of a dry run.
func (d DrillRun) Planned() (plan drill.Plan, err error) { return plan, json.Unmarshal(d.Plan, &plan) }

// Done reports whether nothing more will become of it.
func (d DrillRun) Done() bool { return d.State == DrillEnded }

// DrillsRequest asks for drills, the newest first. Its zero value asks for the newest of all services.
type DrillsRequest struct {
	Service string `json:"service,omitempty"` // empty: of all
	Before  string `json:"before,omitempty"`  // only older ones than the drill of this name; empty: from the newest on
}

// LogRequest asks for a part of the log of a drill.
type LogRequest struct {
	ID   string `json:"id"`
	From int64  `json:"from"` // byte
}

// LogPart is a part of a log: whole lines.
type LogPart struct {
	Text string `json:"text"`
	Next int64  `json:"next"` // byte behind it
	Done bool   `json:"done"` // the drill has ended, and this is the last part
}

// DrillFile is one of the files that a drill has left where it was conducted.
type DrillFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
}

// FileRequest asks for a part of such a file.
type FileRequest struct {
	ID   string `json:"id"` // of the drill
	Name string `json:"name"`
	From int64  `json:"from"` // byte
}

// FilePart is a part of a file.
type FilePart struct {
	Data []byte `json:"data"`
	Size int64  `json:"size"` // bytes of the whole file
	Next int64  `json:"next"` // byte behind the part; the whole is had when that is its size
}

// DrillFilesMax is how many files of a drill are handed out; one leaves ten, and one more for each run that it went on with.
const DrillFilesMax = 200

var drillFileForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// CheckDrillFile refuses what is no name of a file that a drill leaves: whoever writes or opens it stays within one directory.
func CheckDrillFile(name string) error {
	if !drillFileForm.MatchString(name) {
		return fmt.Errorf("%.120q is no name of a file of a drill", name)
	}
	return nil
}
