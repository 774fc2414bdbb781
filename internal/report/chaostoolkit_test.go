package report_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"firedrill/internal/history"
	"firedrill/internal/report"
	"firedrill/internal/verdict/verdicttest"
)

type journalEntry struct {
	Activity struct {
		Type, Name string
		Provider   struct{ Type, Path string }
	}
	Status   string
	Start    string
	End      string
	Duration *float64
	Met      *bool `json:"tolerance_met"`
}

type journalState struct {
	Met    *bool `json:"steady_state_met"`
	Probes []journalEntry
}

type journalFile struct {
	Version    string         `json:"chaoslib-version"`
	Experiment map[string]any `json:"experiment"`
	Status     string
	Deviated   *bool
	Start, End string
	Duration   *float64
	States     struct{ Before, After journalState } `json:"steady_states"`
	Run        []journalEntry
	Rollbacks  []journalEntry
}

func (e journalEntry) wrong(kind string) bool {
	_, errStart := time.Parse("2006-01-02T15:04:05.000000", e.Start)
	_, errEnd := time.Parse("2006-01-02T15:04:05.000000", e.End)
	return errors.Join(errStart, errEnd) != nil || e.Activity.Type != kind || e.Activity.Name == "" || e.Activity.Provider.Type != "process" || e.Duration == nil || e.Status != "succeeded" && e.Status != "failed"
}

// What the specification of the journal demands must be there, and nothing may read better than it was.
func TestTheJournalHoldsWhatItsReadersAskFor(t *testing.T) {
	for twist, want := range map[verdicttest.Twist]struct {
		status               string
		deviated, taken, bit bool
	}{
		verdicttest.NoTwist: {"completed", false, true, true}, verdicttest.FrozenDNS: {"failed", true, true, true},
		verdicttest.Toothless: {"aborted", false, true, false}, verdicttest.Residue: {"failed", true, false, true},
	} {
		var j journalFile
		if err := json.Unmarshal([]byte(render(t, report.ChaosToolkit, told(twist))), &j); err != nil {
			t.Fatal(err)
		}
		if j.Version == "" || j.Deviated == nil || j.Duration == nil || j.States.Before.Met == nil || j.States.After.Met == nil || j.Experiment["title"] == "" || j.Experiment["method"] == nil || j.Experiment["steady-state-hypothesis"] == nil {
			t.Errorf("%q: something is missing: %+v", twist, j)
			continue
		}
		if j.Status != want.status || *j.Deviated != want.deviated {
			t.Errorf("%q: %s, deviated %t", twist, j.Status, *j.Deviated)
		}
		taken, bit := true, true
		for _, entry := range j.Run {
			bit = bit && entry.Status == "succeeded"
			if entry.wrong("action") {
				t.Errorf("%q: %+v", twist, entry)
			}
		}
		for _, entry := range j.Rollbacks {
			taken = taken && entry.Status == "succeeded"
			if entry.wrong("action") {
				t.Errorf("%q: %+v", twist, entry)
			}
		}
		for _, entry := range append(j.States.Before.Probes, j.States.After.Probes...) {
			if entry.wrong("probe") || entry.Met == nil || *entry.Met != (entry.Status == "succeeded") {
				t.Errorf("%q: %+v", twist, entry)
			}
		}
		if taken != want.taken || bit != want.bit || len(j.Run) == 0 || len(j.Rollbacks) == 0 {
			t.Errorf("%q: taken back %t, bit %t", twist, taken, bit)
		}
	}
}

// A report of a log that is read again says what one of a log in memory says.
func TestReadAgainTheReportIsTheSame(t *testing.T) {
	in := told(verdicttest.NoTwist)
	again, reads := in, 0
	again.Log, again.Events = nil, func(take func(history.Event) error) error {
		reads++
		for _, event := range in.Log {
			if err := take(event); err != nil {
				return err
			}
		}
		return nil
	}
	for _, format := range report.Formats {
		if render(t, format, again) != render(t, format, in) {
			t.Errorf("%s differs", format)
		}
	}
	if reads == 0 {
		t.Error("the log was never read")
	}
	torn := errors.New("torn")
	again.Events = func(func(history.Event) error) error { return torn }
	if err := report.Write(discard{}, report.HTML, again); !errors.Is(err, torn) {
		t.Errorf("a log that cannot be read again: %v", err)
	}
}

type discard struct{}

// Write forgets.
func (discard) Write(p []byte) (int, error) { return len(p), nil }
