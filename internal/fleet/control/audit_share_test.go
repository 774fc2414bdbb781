package control

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

// turnAudit has servers put before each other what they wrote, state it and learn.
func turnAudit(t *testing.T, servers ...*Control) {
	t.Helper()
	for range 2 { // what the one says the other hears with the second
		for _, c := range servers {
			for began := time.Now(); ; {
				c.shared.mu.Lock()
				c.shared.stated = time.Time{}
				c.shared.mu.Unlock()
				err := c.shared.turn(t.Context(), false)
				if err == nil {
					break
				}
				if time.Since(began) > time.Minute {
					t.Fatal(err)
				}
			}
		}
	}
	for _, c := range servers {
		if err := c.shared.chains.read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func auditPage(t *testing.T, c *Control, asked fleet.AuditRequest) fleet.AuditPage {
	t.Helper()
	page, err := c.Audit(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if page.Problem != "" {
		t.Fatal(page.Problem)
	}
	return page
}

// wholeAudit reads the log page by page, and gives it as texts, the newest first.
func wholeAudit(t *testing.T, c *Control, count int) []string {
	t.Helper()
	var all []string
	place := ""
	for range 10_000 {
		page := auditPage(t, c, fleet.AuditRequest{From: place, Count: count})
		for _, line := range page.Lines {
			all = append(all, line.Server+": "+line.Text+line.Broken)
		}
		if place = page.Next; place == "" {
			return all
		}
	}
	t.Fatal("it has no end")
	return nil
}

func verified(t *testing.T, c *Control) fleet.AuditProof {
	t.Helper()
	proof, err := c.VerifyAudits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func mustBeWhole(t *testing.T, c *Control) fleet.AuditProof {
	t.Helper()
	proof := verified(t, c)
	if len(proof.Problems) > 0 {
		t.Fatalf("%s", strings.Join(proof.Problems, "\n"))
	}
	return proof
}

func TestWhicheverServerIsAskedTheAuditLogIsThatOfAll(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	for i := range 30 {
		both[i%2].Record("act %d", i)
		<-time.After(2 * time.Millisecond) // the times of lines are their order
	}
	turnAudit(t, both[:]...)
	want := wholeAudit(t, both[0], 1000)
	if acts := slices.DeleteFunc(slices.Clone(want), func(text string) bool { return !strings.Contains(text, ": act ") }); len(acts) != 30 || acts[0] != "control1: act 29" || acts[29] != "control0: act 0" {
		t.Fatalf("%q", acts)
	}
	for _, c := range both {
		for _, count := range []int{1, 7, 1000} {
			if got := wholeAudit(t, c, count); !slices.Equal(got, want) {
				t.Errorf("%s, %d lines at a time: %q", c.options.Name, count, got)
			}
		}
		proof := mustBeWhole(t, c)
		lines := int64(0)
		for _, one := range proof.Chains {
			lines += one.Lines
		}
		if len(proof.Chains) != 2 || lines != int64(len(want)) {
			t.Errorf("%+v", proof)
		}
		page := auditPage(t, c, fleet.AuditRequest{Contains: "ACT 1", Server: "control1"})
		if len(page.Lines) != 6 || len(page.Servers) != 2 { // 1, 11, 13, 15, 17, 19
			t.Errorf("%+v", page)
		}
		for _, one := range page.Servers {
			if one.Known.IsZero() || one.Away {
				t.Errorf("%+v", one)
			}
		}
	}
	// What is not before the others yet is told by the one that wrote it, in any size of pages, while it is put there.
	for i := range 10 {
		both[0].Record("late %d", i)
	}
	page := auditPage(t, both[0], fleet.AuditRequest{Count: 4})
	if len(page.Lines) != 4 || page.Lines[0].Text != "late 9" || !page.Lines[0].Own || page.Next == "" {
		t.Fatalf("%+v", page)
	}
	turnAudit(t, both[:]...)
	rest := auditPage(t, both[0], fleet.AuditRequest{From: page.Next, Count: 1000})
	if len(rest.Lines) != 6+len(want) || rest.Lines[0].Text != "late 5" || rest.Lines[5].Text != "late 0" || rest.Lines[6].Text != "act 29" {
		t.Errorf("%d lines, %+v", len(rest.Lines), rest.Lines[:7])
	}
	for _, wrong := range []string{"x", "own@../x:0:y:0", "own@none.jsonl:0:y:0", "a.1@0.0", strings.Repeat("0", 32) + ".0@5.1", strings.Repeat("0", 32) + ".1@5", strings.Repeat("0", 32) + ".1@-5.1"} {
		if _, err := both[0].Audit(t.Context(), fleet.AuditRequest{From: wrong}); err == nil {
			t.Errorf("%q is a place", wrong)
		}
	}
	if _, err := both[0].Audit(t.Context(), fleet.AuditRequest{Server: "nobody"}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Error(err)
	}
}

// lostAnswers has an answer lost each time something is put, and says what is there in the end.
func lostAnswers(t *testing.T, blind bool) (lines []string, problems []string) {
	t.Helper()
	both := pair(t, nil)
	turnAudit(t, both[:]...)
	s := both[0].shared
	s.blind = blind
	for i := range 5 {
		lost := false
		s.lossy = func() error {
			if lost {
				return nil
			}
			lost = true
			return errors.New("the answer is lost")
		}
		both[0].Record("act %d", i)
		_ = s.turn(t.Context(), false) //nolint:errcheck // what comes of it is looked at
		turnAudit(t, both[0])
	}
	turnAudit(t, both[:]...)
	for _, line := range wholeAudit(t, both[1], 1000) {
		if strings.Contains(line, ": act ") {
			lines = append(lines, line)
		}
	}
	return lines, verified(t, both[1]).Problems
}

func TestAnAnswerThatIsLostPutsNothingTwice(t *testing.T) {
	t.Parallel()
	lines, problems := lostAnswers(t, false)
	if want := []string{"control0: act 4", "control0: act 3", "control0: act 2", "control0: act 1", "control0: act 0"}; !slices.Equal(lines, want) || len(problems) > 0 {
		t.Errorf("%q %q", lines, problems)
	}
}

func TestAServerThatPutsItsLogTwiceIsCaught(t *testing.T) {
	t.Parallel()
	lines, problems := lostAnswers(t, true)
	if !slices.ContainsFunc(problems, func(problem string) bool { return strings.Contains(problem, "put there twice") }) {
		t.Errorf("the planted bug is not noticed: %q %q", lines, problems)
	}
}

// reopened opens a server of a pair again.
func reopened(t *testing.T, c *Control, change func(*Options)) *Control {
	t.Helper()
	o := c.options
	if change != nil {
		change(&o)
	}
	fresh, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, fresh) })
	return fresh
}

func TestLogsOfBeforeAreBroughtBeforeTheOthersWhole(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	// Three starts and a power cut of a server that knew nothing of the others' logs.
	old := both[0]
	for start := range 3 {
		for i := range 4 {
			old.Record("start %d act %d", start, i)
		}
		if start == 1 {
			if _, err := old.audit.file.WriteString(`{"seq":6,"at":"2026-11-`); err != nil {
				t.Fatal(err)
			}
		}
		shut(t, old)
		old = reopened(t, old, nil)
	}
	turnAudit(t, old, both[1])
	var starts []string
	for _, line := range wholeAudit(t, both[1], 5) {
		if strings.Contains(line, ": start ") {
			starts = append(starts, line)
		}
	}
	if len(starts) != 12 || starts[0] != "control0: start 2 act 3" || starts[11] != "control0: start 0 act 0" {
		t.Errorf("%q", starts)
	}
	mustBeWhole(t, both[1])
	mustBeWhole(t, old)
	// Another start goes on where the one before was.
	old.Record("the last act")
	shut(t, old)
	old = reopened(t, old, nil)
	turnAudit(t, old, both[1])
	if got := wholeAudit(t, both[1], 100); len(slices.DeleteFunc(got, func(line string) bool {
		return !strings.Contains(line, ": start ") && !strings.Contains(line, "the last act")
	})) != 13 {
		t.Errorf("%q", got)
	}
	proof := mustBeWhole(t, both[1])
	for _, one := range proof.Chains {
		if one.Life != 1 {
			t.Errorf("%+v", one)
		}
	}
}

// A server that is killed has put lines before the others and does not know it, or has written them and not put them there.
func TestAServerThatIsKilledWhileItPutsItsLogLosesNothing(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	turnAudit(t, both[:]...)
	c := both[0]
	want := 0
	for start := range 4 {
		c.Record("start %d before", start)
		if start%2 == 0 {
			c.shared.lossy = func() error { return errors.New("it is killed here") }
			if c.shared.turn(t.Context(), false) == nil {
				t.Fatal("it was not")
			}
		}
		c.Record("start %d after", start)
		want += 2
		shut(t, c) // nothing is put there at this end: it is Run's to do
		c = reopened(t, c, nil)
		c.shared.lossy = nil
		turnAudit(t, c, both[1])
		page := auditPage(t, both[1], fleet.AuditRequest{Contains: "start "})
		texts := map[string]int{}
		for _, line := range page.Lines {
			texts[line.Text]++
		}
		if len(page.Lines) != want || len(texts) != want {
			t.Fatalf("after start %d: %v", start, texts)
		}
		mustBeWhole(t, both[1])
	}
}

// copyAudit copies all that lies in a server's directory of logs.
func copyAudit(t *testing.T, from, to string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
		t.Fatal(err)
	}
}

func TestADirectoryOfAnOlderCopyGoesOnAsAnotherLife(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	logs := filepath.Join(both[0].options.Directory, auditDirectory)
	copied := filepath.Join(t.TempDir(), "copy")
	both[0].Record("before the copy")
	turnAudit(t, both[:]...)
	both[0].Record("before the copy, and not before the others")
	shut(t, both[0])
	copyAudit(t, logs, copied)
	again := reopened(t, both[0], nil)
	again.Record("after the copy")
	turnAudit(t, again, both[1])
	shut(t, again)
	copyAudit(t, copied, logs)
	again = reopened(t, both[0], nil)
	again.Record("from the copy")
	turnAudit(t, again, both[1])
	want := []string{"control0: from the copy", "control0: after the copy", "control0: before the copy, and not before the others", "control0: before the copy"}
	for _, c := range []*Control{again, both[1]} {
		got := slices.DeleteFunc(wholeAudit(t, c, 3), func(line string) bool {
			return !strings.Contains(line, "the copy") || strings.Contains(line, "older copy")
		})
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		proof := mustBeWhole(t, c)
		if len(proof.Chains) != 3 {
			t.Errorf("%+v", proof.Chains)
		}
	}
	if page := auditPage(t, both[1], fleet.AuditRequest{Contains: "brought back from an older copy"}); len(page.Lines) != 1 {
		t.Errorf("%+v", page.Lines)
	}
}

// tampered rebuilds the stream with a change of its messages, as who rules the engine could.
func tampered(t *testing.T, c *Control, with func([]*jetstream.RawStreamMsg) []*jetstream.RawStreamMsg) {
	t.Helper()
	ctx := t.Context()
	info, err := c.shared.stream.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for place := info.State.FirstSeq; place <= info.State.LastSeq; place++ {
		message, err := c.shared.stream.GetMsg(ctx, place)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, message)
	}
	if err := c.store.js.DeleteStream(ctx, info.Config.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.js.CreateStream(ctx, info.Config); err != nil {
		t.Fatal(err)
	}
	place := uint64(0)
	for _, message := range with(all) {
		// Everything is put where it was, as far as it can be.
		for ; place+1 < message.Sequence; place++ {
			if _, err := c.store.js.Publish(ctx, auditSubject+".nothing", nil); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := c.store.js.Publish(ctx, message.Subject, message.Data)
		if err != nil {
			t.Fatal(err)
		}
		place = kept.Sequence
	}
	if err := c.shared.stream.Purge(ctx, jetstream.WithPurgeSubject(auditSubject+".nothing")); err != nil {
		t.Fatal(err)
	}
}

// auditedPair are two servers with some entries each, of which the second one's are tampered with and the first one verifies.
func auditedPair(t *testing.T) (both [2]*Control, subject string) {
	t.Helper()
	both = pair(t, nil)
	for i := range 6 {
		both[0].Record("act %d", i)
		both[1].Record("deed %d", i)
		turnAudit(t, both[:]...)
	}
	mustBeWhole(t, both[0])
	return both, auditSubjectOf(both[1].shared.chain, 1)
}

func indexesOf(all []*jetstream.RawStreamMsg, subject string) (found []int) {
	for i, message := range all {
		if message.Subject == subject {
			found = append(found, i)
		}
	}
	return found
}

func TestWhatIsDoneToTheAuditLogOfAllIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	type messages = []*jetstream.RawStreamMsg
	without := func(all messages, at int) messages { return slices.Delete(all, at, at+1) }
	for _, one := range []struct {
		name string
		do   func(all messages, of []int, both [2]*Control) messages
		says string
		bugs auditBugs // that would not notice
	}{
		{"a word is changed", func(all messages, of []int, _ [2]*Control) messages {
			all[of[2]].Data = []byte(strings.Replace(string(all[of[2]].Data), "deed 2", "deed 7", 1))
			return all
		}, "server control1", auditBugs{credulous: true, uncounted: true, unmindful: true}},
		{"an entry is taken out", func(all messages, of []int, _ [2]*Control) messages { return without(all, of[2]) }, "server control1 (chain CHAIN, life 1): entry 3 is missing", auditBugs{uncounted: true, unmindful: true}},
		{"the first entries are cut off", func(all messages, of []int, _ [2]*Control) messages { return without(without(all, of[1]), of[0]) }, "entries 1 to 2 are missing", auditBugs{uncounted: true, unmindful: true}},
		{"the last entry is cut off", func(all messages, of []int, _ [2]*Control) messages { return without(all, of[len(of)-1]) }, "its end is missing", auditBugs{unmindful: true}},
		{"a whole log is taken out", func(all messages, of []int, _ [2]*Control) messages {
			subject := all[of[0]].Subject
			return slices.DeleteFunc(all, func(m *jetstream.RawStreamMsg) bool { return m.Subject == subject })
		}, "server control1 (chain CHAIN, life 1): ", auditBugs{unmindful: true}},
		{"two entries are swapped", func(all messages, of []int, _ [2]*Control) messages {
			all[of[2]].Data, all[of[3]].Data = all[of[3]].Data, all[of[2]].Data
			return all
		}, "it was moved, or put there twice", auditBugs{uncounted: true}},
		{"an entry is put there twice", func(all messages, of []int, _ [2]*Control) messages {
			twice := *all[of[2]]
			twice.Sequence = 0
			return append(all, &twice)
		}, "it was moved, or put there twice", auditBugs{uncounted: true, unmindful: true}},
		{"an entry of one server lies as another's", func(all messages, of []int, both [2]*Control) messages {
			other := indexesOf(all, auditSubjectOf(both[0].shared.chain, 1))
			all[of[2]].Data = all[other[2]].Data
			return all
		}, "and lies as", auditBugs{credulous: true, uncounted: true, unmindful: true}},
		{"a server signs in another one's name", func(all messages, of []int, both [2]*Control) messages {
			// Whoever has the key of control0's log writes in control1's name: at the end of its own chain.
			s := both[0].shared
			e := s.end
			e.Server, e.Number, e.After, e.Before = "control1", e.Number+1, s.place, s.digest
			forged, lines := forgedLines(e, "control1 does something")
			text, _ := forged.packed(both[0].auditKey, lines)
			return append(all, &jetstream.RawStreamMsg{Subject: auditSubjectOf(s.chain, 1), Data: text})
		}, `says that it is of server "control1", and is signed by server control0: a forged name`, auditBugs{credulous: true}},
		{"a stranger signs in a server's name", func(all messages, of []int, both [2]*Control) messages {
			_, key, _ := strangerKey()
			e := auditEntry{Fleet: both[0].keys.now().Fleet, Server: "control1", Chain: chainOf(publicHalf(key)), Key: publicHalf(key), Life: 1, Number: 1, File: "20261129T000000.000000000Z-00000000.jsonl"}
			forged, lines := forgedLines(e, "control1 does something")
			text, _ := forged.packed(key, lines)
			return append(all, &jetstream.RawStreamMsg{Subject: auditSubjectOf(e.Chain, 1), Data: text})
		}, `says that it is of server "control1": nobody vouches for chain`, auditBugs{credulous: true}},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			both, subject := auditedPair(t)
			tampered(t, both[0], func(all messages) messages { return one.do(all, indexesOf(all, subject), both) })
			says := strings.ReplaceAll(one.says, "CHAIN", both[1].shared.chain[:8])
			found := verified(t, both[0]).Problems
			if !slices.ContainsFunc(found, func(problem string) bool { return strings.Contains(problem, says) }) {
				t.Errorf("nothing says %q: %q", says, found)
			}
			for _, problem := range found {
				if !strings.HasPrefix(problem, "server ") {
					t.Errorf("%q names no server", problem)
				}
			}
			both[0].shared.bugs = one.bugs
			if found := verified(t, both[0]).Problems; len(found) > 0 {
				t.Errorf("the planted bug still finds %q", found)
			}
		})
	}
}

// forgedLines are an entry with a line of its own behind what is there.
func forgedLines(e auditEntry, text string) (auditEntry, []byte) {
	var out strings.Builder
	_, _ = history.NewWriter(&out).Append(history.New(time.Now(), "control", &history.Note{Text: text}))
	e.File = "29990101T000000.000000000Z-00000000" + auditSuffix
	e.First, e.Last, e.Start, e.Head = 1, 1, history.Unwritten, history.StatedHash([]byte(out.String()))
	e.Lines++
	e.From, e.Until = time.Now(), time.Now()
	return e, []byte(out.String())
}

// Of another server's log nothing is left in the engine; one that has seen it misses it all the same.
func TestWhatAServerHasSeenIsMissedThoughTheEngineForgetsIt(t *testing.T) {
	t.Parallel()
	both, subject := auditedPair(t)
	shut(t, both[1])
	bucket, err := both[0].store.js.KeyValue(t.Context(), both[0].store.prefix+"audit")
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Purge(t.Context(), both[1].shared.chain); err != nil {
		t.Fatal(err)
	}
	tampered(t, both[0], func(all []*jetstream.RawStreamMsg) []*jetstream.RawStreamMsg {
		return slices.DeleteFunc(all, func(m *jetstream.RawStreamMsg) bool { return m.Subject == subject })
	})
	shut(t, both[0])
	again := reopened(t, both[0], nil)
	found := verified(t, again).Problems
	if !slices.ContainsFunc(found, func(problem string) bool {
		return strings.HasPrefix(problem, "server control1 ") && strings.Contains(problem, "server control0 has seen it")
	}) {
		t.Errorf("%q", found)
	}
	if err := os.Remove(again.shared.knownPath()); err != nil {
		t.Fatal(err)
	}
	shut(t, again)
	if found := verified(t, reopened(t, both[0], nil)).Problems; len(found) > 0 {
		t.Errorf("without its own file it is missed all the same: %q", found)
	}
}

func TestTheAuditLogOfAllIsProvableAcrossWhatWasRemoved(t *testing.T) {
	t.Parallel()
	for _, planted := range []bool{false, true} {
		both := pair(t, func(o *Options) { o.Untold = planted })
		leads(t, both[0], 0)
		for i := range 6 {
			both[0].Record("act %d", i)
			both[1].Record("deed %d", i)
			turnAudit(t, both[:]...)
		}
		before := mustBeWhole(t, both[1])
		s := both[0].shared
		if count, err := s.prune(t.Context(), time.Now().Add(time.Hour), true); err != nil || count < 10 {
			t.Fatal(count, err)
		}
		mustBeWhole(t, both[1])
		count, err := s.prune(t.Context(), time.Now().Add(time.Hour), false)
		if err != nil || count < 10 {
			t.Fatal(count, err)
		}
		turnAudit(t, both[:]...)
		proof := verified(t, both[1])
		if planted {
			if len(proof.Problems) == 0 {
				t.Error("the planted bug is not caught")
			}
			continue
		}
		proof = mustBeWhole(t, both[1])
		left := map[string]int64{}
		for _, one := range proof.Chains {
			if one.Removed == nil || one.Removed.By != "control0" {
				t.Fatalf("%+v", one)
			}
			left[one.Chain] = one.Lines + one.Removed.Lines
		}
		for _, one := range before.Chains {
			if left[one.Chain] < one.Lines {
				t.Errorf("%d lines of %d", left[one.Chain], one.Lines)
			}
		}
		for _, c := range both {
			if lines := wholeAudit(t, c, 3); len(lines) == 0 || slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "missing") }) {
				t.Errorf("%q", lines)
			}
			c.Record("goes on")
		}
		turnAudit(t, both[:]...)
		mustBeWhole(t, both[0])
		if count, err := s.prune(t.Context(), time.Now().Add(time.Hour), false); err != nil || count == 0 {
			t.Error(count, err)
		}
		turnAudit(t, both[:]...)
		mustBeWhole(t, both[1])
	}
}

func TestAnAlteredAuditLogOfAllIsNotRemoved(t *testing.T) {
	t.Parallel()
	both, subject := auditedPair(t)
	leads(t, both[0], 0)
	tampered(t, both[0], func(all []*jetstream.RawStreamMsg) []*jetstream.RawStreamMsg {
		return slices.Delete(all, indexesOf(all, subject)[2], indexesOf(all, subject)[2]+1)
	})
	if _, err := both[0].shared.pruneChain(t.Context(), subject, 5, time.Now().Add(time.Hour), false); err == nil || !strings.Contains(err.Error(), "not as it was written") {
		t.Error(err)
	}
	if found := verified(t, both[1]).Problems; !slices.ContainsFunc(found, func(problem string) bool { return strings.Contains(problem, "entry 3 is missing") }) {
		t.Errorf("%q", found)
	}
}

// hastily has the retention remove logs that are not before the others, and counts what is there afterwards.
func hastily(t *testing.T, hasty bool) int {
	t.Helper()
	both := pair(t, func(o *Options) { o.Hasty = hasty })
	turnAudit(t, both[:]...)
	for i := range 3 {
		both[0].Record("act %d", i)
	}
	if err := both[0].audit.onward(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := both[0].pruneAudit(time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_ = both[0].shared.turn(t.Context(), false) //nolint:errcheck // what comes of it is counted
	}
	return len(auditPage(t, both[1], fleet.AuditRequest{Contains: "act "}).Lines)
}

func TestWhatIsNotBeforeTheOthersIsNotRemoved(t *testing.T) {
	t.Parallel()
	if got := hastily(t, false); got != 3 {
		t.Errorf("%d lines", got)
	}
	if got := hastily(t, true); got == 3 {
		t.Error("the planted bug is not noticed")
	}
}

func TestAServerReadsItsOwnAuditLogWhileTheEngineIsAway(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	both[0].Record("act")
	turnAudit(t, both[:]...)
	if err := both[0].store.js.DeleteStream(t.Context(), strings.ToUpper(externalPrefix)+auditStream); err != nil {
		t.Fatal(err)
	}
	page, err := both[0].Audit(t.Context(), fleet.AuditRequest{Contains: "act"})
	if err != nil || page.Problem == "" || len(page.Lines) != 1 || !page.Lines[0].Own {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestALogThatWasChangedOnTheDiskIsNotPassedOnAsWritten(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	turnAudit(t, both[:]...)
	both[0].Record("an act")
	path := filepath.Join(both[0].options.Directory, auditDirectory, both[0].audit.current())
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(text), "an act", "no act", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	both[0].Record("another act")
	_ = both[0].shared.turn(t.Context(), false) //nolint:errcheck // it goes on in another file
	both[0].Record("the next act")
	turnAudit(t, both[:]...)
	if page := auditPage(t, both[1], fleet.AuditRequest{Contains: "no act"}); len(page.Lines) > 0 {
		t.Errorf("%+v", page.Lines)
	}
	if page := auditPage(t, both[1], fleet.AuditRequest{Contains: "the next act"}); len(page.Lines) != 1 {
		t.Errorf("%+v", page.Lines)
	}
	found := verified(t, both[1]).Problems
	if !slices.ContainsFunc(found, func(problem string) bool { return strings.HasPrefix(problem, "server control0 ") }) {
		t.Errorf("%q", found)
	}
}

func TestALineThatIsTooLongToBeCarriedIsNamed(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	both[0].Record("%s", strings.Repeat("x", auditBatch+1))
	both[0].Record("short")
	turnAudit(t, both[:]...)
	if page := auditPage(t, both[1], fleet.AuditRequest{Contains: "too long to be carried"}); len(page.Lines) != 1 {
		t.Errorf("%+v", page.Lines)
	}
	proof := mustBeWhole(t, both[1])
	if !slices.ContainsFunc(proof.Chains, func(one fleet.AuditChain) bool { return one.LeftOut == 1 }) {
		t.Errorf("%+v", proof.Chains)
	}
}

func TestVouchersFollowTheKeysOfTheFleet(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	leads(t, both[0], 0)
	turnAudit(t, both[:]...)
	for range 2 {
		if err := both[0].turnOrders(t.Context(), fleet.Member{Name: "ann"}, 0); err != nil {
			t.Fatal(err)
		}
		for both[1].keys.now().Turn != both[0].keys.now().Turn {
			<-time.After(time.Millisecond)
		}
	}
	turnAudit(t, both[0]) // the one that leads vouches for all that it knows
	// A server that knows nothing of its own.
	if err := os.Remove(both[1].shared.knownPath()); err != nil {
		t.Fatal(err)
	}
	shut(t, both[1])
	again := reopened(t, both[1], nil)
	if proof := mustBeWhole(t, again); len(proof.Chains) != 2 {
		t.Errorf("%+v", proof.Chains)
	}
}

func strangerKey() (ed25519.PublicKey, ed25519.PrivateKey, error) {
	return ed25519.GenerateKey(rand.Reader)
}
