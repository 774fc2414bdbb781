package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func oneOfEach() []Event {
	var events []Event
	for i, fact := range []Fact{
		&RunStarted{Run: "r", Plan: drill.Plan{Service: "bookstore", Live: "blue"}, Tool: "dev"},
		&StepStarted{Step: 1, Name: "drill"},
		&Permit{Step: 1, Granted: true, Reason: "one environment stays"},
		&AttackInForce{GUID: "g", Until: start.Add(time.Minute)},
		&AttackHits{GUID: "g", Egress: 3, Addresses: []AddressHits{{Address: "10.0.0.1", Egress: 3}}},
		&Sample{Probe: "client", Scheduled: start, OK: false, Cause: CauseTimeout, Took: drill.Seconds(time.Second)},
		&Alarm{Name: "a", From: AlarmOK, To: AlarmRaised, ReasonData: json.RawMessage(`{"version":"1.0"}`)},
		&Unknown{Name: "of.tomorrow", Data: json.RawMessage(`{"x":1}`)},
		&RunFinished{Outcome: Passed},
	} {
		events = append(events, New(start.Add(time.Duration(i)*time.Millisecond), "ci", fact))
	}
	return events
}

func written(t *testing.T, events []Event) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := NewWriter(&out)
	for i, event := range events {
		if _, err := writer.Append(event); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	return out.Bytes()
}

func TestLogReadsBackWhatWasWritten(t *testing.T) {
	want := oneOfEach()
	got, err := Read(bytes.NewReader(written(t, want)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i].Seq = int64(i + 1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestEveryKindHasItsFactory(t *testing.T) {
	for kind, factory := range factories {
		if got := factory().Kind(); got != kind {
			t.Errorf("factory of %s makes %s", kind, got)
		}
	}
}

// Every single-byte change, every dropped, doubled or swapped line must be found, and named by the line where the damage begins.
func TestAlteredLogIsFoundAndNamed(t *testing.T) {
	log := written(t, oneOfEach())
	if missed := missedAlterations(log, func(b []byte) error { _, err := Read(bytes.NewReader(b)); return err }); len(missed) > 0 {
		t.Errorf("not found: %s", strings.Join(missed, "; "))
	}
}

// The planted bug: a reader that checks each line alone, without the line before.
func TestReaderWithoutChainIsCaught(t *testing.T) {
	log := written(t, oneOfEach())
	unchained := func(b []byte) error {
		for line := range bytes.Lines(b) {
			var event Event
			if err := json.Unmarshal(line, &event); err != nil {
				return err
			}
		}
		return nil
	}
	if len(missedAlterations(log, unchained)) == 0 {
		t.Error("the check cannot tell a reader that ignores the chain")
	}
}

func missedAlterations(log []byte, read func([]byte) error) []string {
	var missed []string
	lines := bytes.SplitAfter(bytes.TrimSuffix(log, nil), []byte("\n"))
	lines = lines[:len(lines)-1]
	for i := range len(log) - 1 {
		changed := bytes.Clone(log)
		changed[i] ^= 0x01
		if read(changed) == nil {
			missed = append(missed, fmt.Sprintf("bit flip at byte %d", i))
		}
	}
	for i := range lines[:len(lines)-1] {
		dropped := append(append([][]byte{}, lines[:i]...), lines[i+1:]...)
		if read(bytes.Join(dropped, nil)) == nil {
			missed = append(missed, fmt.Sprintf("line %d dropped", i+1))
		}
		swapped := append([][]byte{}, lines...)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		if read(bytes.Join(swapped, nil)) == nil {
			missed = append(missed, fmt.Sprintf("lines %d and %d swapped", i+1, i+2))
		}
	}
	return missed
}

func TestTornLastLineKeepsWhatStandsBefore(t *testing.T) {
	log := written(t, oneOfEach())
	got, err := Read(bytes.NewReader(log[:len(log)-10]))
	if !errors.Is(err, ErrTorn) {
		t.Fatalf("error %v, want ErrTorn", err)
	}
	if len(got) != len(oneOfEach())-1 {
		t.Errorf("%d events kept, want all but the last", len(got))
	}
}

type failingWriter struct{ left int }

func (f *failingWriter) Write(p []byte) (int, error) {
	f.left--
	if f.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

func TestLogWithAHoleDoesNotGoOn(t *testing.T) {
	disk := &failingWriter{left: 1}
	writer := NewWriter(disk)
	event := New(start, "ci", &Note{Text: "x"})
	if _, err := writer.Append(event); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Append(event); err == nil {
		t.Fatal("a failed write was not reported")
	}
	disk.left = 10
	if _, err := writer.Append(event); err == nil {
		t.Error("the log went on after a failed write")
	}
}

func FuzzRead(f *testing.F) {
	var out bytes.Buffer
	writer := NewWriter(&out)
	for _, event := range oneOfEach() {
		if _, err := writer.Append(event); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(out.Bytes())
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		events, err := Read(bytes.NewReader(log))
		if err == nil && len(log) > 0 && len(events) == 0 {
			t.Error("a log that is not empty gave no event and no error")
		}
	})
}

func TestAPartOfALogIsReadBehindTheLineThatItFollows(t *testing.T) {
	text := written(t, oneOfEach())
	whole, head, err := ReadHead(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	before := Unwritten
	for i := range len(lines) - 1 {
		rest := bytes.Join(lines[i:], nil)
		events, last, err := Continue(before, int64(i), rest)
		if err != nil || last != head {
			t.Fatalf("from line %d: %s, %v", i+1, last, err)
		}
		if diff := cmp.Diff(whole[i:], events); diff != "" {
			t.Errorf("from line %d (-want +got)\n%s", i+1, diff)
		}
		for what, wrong := range map[string]func() error{
			"another line before":   func() error { _, _, err := Continue(strings.Repeat("1", 64), int64(i), rest); return err },
			"another number":        func() error { _, _, err := Continue(before, int64(i)+1, rest); return err },
			"no hash":               func() error { _, _, err := Continue("x", int64(i), rest); return err },
			"its first line is not": func() error { _, _, err := Continue(before, int64(i), append([]byte("{}\n"), rest...)); return err },
		} {
			if err := wrong(); !errors.Is(err, ErrAltered) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, _, err := Continue(before, int64(i), rest[:len(rest)-1]); !errors.Is(err, ErrTorn) {
			t.Errorf("a line without its end: %v", err)
		}
		before = StatedHash(lines[i])
	}
	if StatedHash([]byte("{}\n")) != "" {
		t.Error("a line without a hash states one")
	}
}
