package control

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const keptDrill = "01900000-0000-7000-8000-0000000a1b2c"

// keepDrill has a server keep a drill, with a log of a size and what does not belong beside it.
func keepDrill(t *testing.T, c *Control, state string, size int) []byte {
	t.Helper()
	run := fleet.DrillRun{ID: keptDrill, Request: fleet.DrillRequest{Service: "shop", Drill: "cut"}, Server: c.options.Name, State: state, Result: "20261129T100000Z-0a1b2c", Started: time.Now()}
	directory := filepath.Join(c.DrillsDirectory(), run.Result)
	if err := os.MkdirAll(filepath.Join(directory, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	log := bytes.Repeat([]byte("{\"n\":1}\n"), size/8)
	for name, text := range map[string][]byte{"run.jsonl": log, "report.html": []byte("<p>"), ".report.html-123": []byte("half"), "empty.txt": nil} {
		if err := os.WriteFile(filepath.Join(directory, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link.jsonl": "../../identity.json", "near.jsonl": "run.jsonl"} {
		if err := os.Symlink(to, filepath.Join(directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(directory, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.drills.put(t.Context(), run.ID, run); err != nil {
		t.Fatal(err)
	}
	return log
}

func viewer() fleet.Member { return fleet.Member{Name: "vera", Role: fleet.RoleViewer} }

// reached are the files outside of a drill, or none of it, that its call for files hands out.
func reached(t *testing.T, loose bool) (got []string) {
	t.Helper()
	c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(o *Options) { o.Loose = loose })
	defer shut(t, c)
	keepDrill(t, c, fleet.DrillEnded, 64)
	for _, name := range []string{"../../admin.json", "../../identity.json", filepath.Join(c.options.Directory, "admin.json"), "folder/../../../admin.json", ".report.html-123", "link.jsonl", "near.jsonl", "", "run.jsonl\x00", "nothing", strings.Repeat("a", 101)} {
		part, err := c.Call(t.Context(), viewer(), "drillfile", encode(fleet.FileRequest{ID: keptDrill, Name: name}))
		if err == nil && len(part.(fleet.FilePart).Data) > 0 {
			got = append(got, name)
		}
		if err != nil && !loose && drill.KindOf(err) != drill.Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{".", "folder", "..", "pipe"} {
		if part, err := c.DrillFile(fleet.FileRequest{ID: keptDrill, Name: name}); !loose && (err == nil || len(part.Data) > 0) {
			t.Errorf("%q is handed out: %v", name, part)
		}
		if loose {
			break // a pipe that is opened without care is waited for
		}
	}
	return got
}

func TestOnlyFilesOfADrillAreHandedOut(t *testing.T) {
	t.Parallel()
	if got := reached(t, false); len(got) > 0 {
		t.Errorf("handed out: %q", got)
	}
	if got := reached(t, true); len(got) == 0 {
		t.Error("the planted bug is not noticed")
	}
}

func TestTheFilesOfADrillAreReadInParts(t *testing.T) {
	t.Parallel()
	c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(*Options) {})
	defer shut(t, c)
	log := keepDrill(t, c, fleet.DrillEnded, 2*filePartMax+80)
	listed, err := c.Call(t.Context(), viewer(), "drillfiles", encode("0a1b2c"))
	if want := fmt.Sprint([]fleet.DrillFile{{Name: "empty.txt"}, {Name: "report.html", Size: 3}, {Name: "run.jsonl", Size: int64(len(log))}}); err != nil || fmt.Sprint(listed) != want {
		t.Errorf("%v %v, want %s", listed, err, want)
	}
	var got []byte
	parts := 0
	for next, size := int64(0), int64(len(log)); next < size; parts++ {
		part, err := c.DrillFile(fleet.FileRequest{ID: keptDrill, Name: "run.jsonl", From: next})
		if err != nil || part.Size != size || part.Next <= next {
			t.Fatal(part.Next, part.Size, err)
		}
		got, next = append(got, part.Data...), part.Next
	}
	if !bytes.Equal(got, log) || parts != 3 {
		t.Errorf("%d bytes in %d parts", len(got), parts)
	}
	if part, err := c.DrillFile(fleet.FileRequest{ID: keptDrill, Name: "empty.txt"}); err != nil || part.Size != 0 || part.Next != 0 {
		t.Errorf("an empty file: %+v %v", part, err)
	}
	for _, from := range []int64{-1, int64(len(log)) + 1} {
		if _, err := c.DrillFile(fleet.FileRequest{ID: keptDrill, Name: "run.jsonl", From: from}); drill.KindOf(err) != drill.Invalid {
			t.Errorf("from %d: %v", from, err)
		}
	}
	if _, err := c.DrillFiles("nothing"); drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), "firedrill fleet drill list") {
		t.Errorf("a drill that is not there: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(c.DrillsDirectory(), "20261129T100000Z-0a1b2c")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DrillFiles(keptDrill); drill.KindOf(err) != drill.Unproven || !strings.Contains(drill.HintOf(err), c.options.Name) {
		t.Errorf("a drill without files: %v", err)
	}
}

func TestFilesOfADrillThatGoesOnAreNotHandedOut(t *testing.T) {
	t.Parallel()
	for _, hasty := range []bool{false, true} {
		c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(o *Options) { o.Unready = hasty })
		keepDrill(t, c, fleet.DrillRunning, 64)
		_, listed := c.DrillFiles(keptDrill)
		_, read := c.DrillFile(fleet.FileRequest{ID: keptDrill, Name: "run.jsonl"})
		for _, err := range []error{listed, read} {
			if refused := drill.KindOf(err) == drill.Unproven && strings.Contains(drill.HintOf(err), "fleet drill follow "+keptDrill); refused == hasty {
				t.Errorf("hasty %v: %v", hasty, err)
			}
		}
		shut(t, c)
	}
}

func TestWhoFetchesMuchIsHeldBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	var p pace
	if wait, err := p.take("vera", filesAtOnce, now); wait != 0 || err != nil {
		t.Errorf("at once: %v %v", wait, err)
	}
	if wait, err := p.take("vera", filesPerSecond, now); wait != time.Second || err != nil {
		t.Errorf("a second's worth more: %v %v", wait, err)
	}
	if _, err := p.take("vera", 10*filesPerSecond, now); drill.KindOf(err) != drill.Refused {
		t.Errorf("ten times that: %v", err)
	}
	if wait, err := p.take("otto", filesAtOnce, now); wait != 0 || err != nil {
		t.Errorf("somebody else: %v %v", wait, err)
	}
	if wait, err := p.take("vera", filesPerSecond, now.Add(2*time.Second)); wait != 0 || err != nil {
		t.Errorf("two seconds later: %v %v", wait, err)
	}
	if p.take("olga", 1, now.Add(time.Hour)); len(p.due) != 1 {
		t.Errorf("remembered are %v", p.due)
	}
	for _, unpaced := range []bool{false, true} {
		c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(o *Options) { o.Unpaced = unpaced })
		keepDrill(t, c, fleet.DrillEnded, 64)
		c.pace.due = map[string]time.Time{"vera": time.Now().Add(time.Hour)}
		_, file := c.Call(t.Context(), viewer(), "drillfile", encode(fleet.FileRequest{ID: keptDrill, Name: "run.jsonl"}))
		_, log := c.Call(t.Context(), viewer(), "drilllog", encode(fleet.LogRequest{ID: keptDrill}))
		for _, err := range []error{file, log} {
			if refused := drill.KindOf(err) == drill.Refused && err != nil; refused == unpaced {
				t.Errorf("unpaced %v: %v", unpaced, err)
			}
		}
		shut(t, c)
	}
}

// Logs and files lie with the server that conducted the drill: any other one has them from it, and says so when it is not there.
func TestTheServerThatKeepsADrillAnswersForIt(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	leads(t, both[1], 0) // it leads, and keeps nothing of this
	log := keepDrill(t, both[0], fleet.DrillEnded, 64)
	known := func(id string) {
		for began := time.Now(); ; <-time.After(time.Millisecond) {
			if _, err := both[1].FindDrill(id); err == nil {
				return
			} else if time.Since(began) > time.Minute {
				t.Fatal(err)
			}
		}
	}
	known(keptDrill)
	files, err := both[1].Call(t.Context(), viewer(), "drillfiles", encode(keptDrill))
	if all, is := files.([]fleet.DrillFile); err != nil || !is || len(all) != 3 {
		t.Errorf("its files: %v %v", files, err)
	}
	part, err := both[1].Call(t.Context(), viewer(), "drillfile", encode(fleet.FileRequest{ID: keptDrill, Name: "run.jsonl"}))
	if got, is := part.(fleet.FilePart); err != nil || !is || !bytes.Equal(got.Data, log) {
		t.Errorf("its log as a file: %v %v", part, err)
	}
	lines, err := both[1].Call(t.Context(), viewer(), "drilllog", encode(fleet.LogRequest{ID: keptDrill}))
	if got, is := lines.(fleet.LogPart); err != nil || !is || got.Text != string(log) || !got.Done {
		t.Errorf("its log: %v %v", lines, err)
	}
	if _, err := both[1].Call(t.Context(), viewer(), "drillfile", encode(fleet.FileRequest{ID: keptDrill, Name: "../x"})); drill.KindOf(err) != drill.Invalid {
		t.Errorf("a name that is none: %v", err)
	}
	other := fleet.DrillRun{ID: "01900000-0000-7000-8000-0000000ffffe", Server: "away", State: fleet.DrillEnded, Result: "x"}
	if err := both[0].drills.put(t.Context(), other.ID, other); err != nil {
		t.Fatal(err)
	}
	known(other.ID)
	if _, err := both[1].Call(t.Context(), viewer(), "drillfiles", encode(other.ID)); drill.KindOf(err) != drill.Unproven || !strings.Contains(drill.HintOf(err), "away") {
		t.Errorf("of a server that nobody knows: %v", err)
	}
	if err := both[1].servers.put(t.Context(), "gone", fleet.Server{Name: "away", Boot: "gone"}); err != nil {
		t.Fatal(err)
	}
	if _, err := both[1].Call(t.Context(), viewer(), "drillfiles", encode(other.ID)); drill.KindOf(err) != drill.Unreachable || !strings.Contains(fmt.Sprint(err), "server away keeps it, and does not answer") {
		t.Errorf("of a server that is away: %v", err)
	}
}
