package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestAJournalIsShownWithTheTimesOfThen(t *testing.T) {
	begin := time.Date(2026, 11, 30, 12, 0, 0, 0, time.Local)
	var log bytes.Buffer
	w := history.NewWriter(&log)
	for _, event := range []history.Event{
		history.New(begin, "web1", &history.Note{Text: "order 7 taken"}),
		history.New(begin.Add(1500*time.Millisecond), "web1", &history.AttackInForce{GUID: "g", Until: begin.Add(time.Minute)}),
		history.New(begin.Add(61*time.Second), "web1", &history.AttackReverted{GUID: "g", Why: "the length is over"}),
	} {
		if _, err := w.Append(event); err != nil {
			t.Fatal(err)
		}
	}
	var out, errOut bytes.Buffer
	s := streams{out: &out, err: &errOut}
	if err := printJournal(s, "0a1b", "web1", log.String()); err != nil {
		t.Fatal(err)
	}
	want := `run 0a1b on web1, from 2026-11-30 12:00:00
   0.0s note       order 7 taken
   1.5s in force   on web1 until 12:01:00 at the latest
  61.0s reverted   on web1 (the length is over); nothing is left
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}

	// What was changed later is not shown as what the host wrote; what stands before it is.
	out.Reset()
	err := printJournal(s, "0a1b", "web1", strings.Replace(log.String(), "the length is over", "nobody knows", 1))
	if drill.KindOf(err) != drill.Failed || !strings.Contains(drill.HintOf(err), "fleet journal --json 0a1b web1") || strings.Contains(out.String(), "nobody knows") || !strings.Contains(out.String(), "in force") {
		t.Errorf("%v (%s), and it shows\n%s", err, drill.HintOf(err), out.String())
	}
}
