package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const (
	auditVerifyWait = 2 * time.Second
	auditSilent     = 30 // of these in a row: the engine does not answer
	auditProblems   = 100
)

func decodeSigned(one signed, value any) error { return json.Unmarshal(one.Text, value) }

// auditBugs are planted.
type auditBugs struct {
	credulous bool // who signed an entry is not looked at
	uncounted bool // that entries follow on each other is not looked at
	unmindful bool // what is known of how far a chain went is not held against it
}

// VerifyAudits reads the audit logs of all servers whole, and holds them against each other: each line's chain, each entry's signature and place, that each
// chain is of a server of this fleet, and that it goes as far as it is known to have gone. What is wrong stands in Problems; an error says that it could not
// be read.
func (c *Control) VerifyAudits(ctx context.Context) (fleet.AuditProof, error) {
	proof := fleet.AuditProof{Server: c.options.Name, At: time.Now(), Chains: []fleet.AuditChain{}, Problems: []string{}}
	own, err := VerifyAudit(c.options.Directory)
	if errors.Is(err, history.ErrAltered) {
		proof.Problems = append(proof.Problems, fmt.Sprintf("server %s, in its own directory: %v", c.options.Name, err))
	} else if err != nil {
		return proof, err
	}
	if c.shared == nil {
		one := fleet.AuditChain{Server: c.options.Name, Chain: chainOf(publicHalf(c.auditKey)), Life: 1, Lines: own.Lines, From: own.From, Until: own.Until, Head: own.Head, Known: proof.At}
		if own.Removed != nil {
			one.Removed = &fleet.AuditRemoved{By: c.options.Name, Lines: own.Removed.Lines, From: own.Removed.From, Until: own.Removed.Until, At: own.Removed.At}
		}
		proof.Chains = append(proof.Chains, one)
		return proof, nil
	}
	return proof, c.shared.verify(ctx, &proof)
}

// expected is how far a chain is known to go, by what was known before it was read.
type expected struct {
	knownLife
	number uint64 // of the entry; 0: not known
	by     string // who says so
}

// verify reads all chains.
func (s *auditShare) verify(ctx context.Context, proof *fleet.AuditProof) error {
	// Before it is read: what is written meanwhile is not missed.
	wanted := map[string][]expected{}
	names := map[string]string{}
	s.mu.Lock()
	for chain, one := range s.known {
		names[chain] = one.name()
		for life, at := range one.Lives {
			subject := auditSubjectOf(chain, life)
			wanted[subject] = append(wanted[subject], expected{at, 0, "server " + s.c.options.Name + " has seen it"})
		}
	}
	s.mu.Unlock()
	kept := s.chains.values()
	stated := map[string]time.Time{}
	for _, one := range kept {
		known, err := s.of(one.Chain)
		if err != nil {
			proof.Problems = append(proof.Problems, err.Error())
			continue
		}
		names[one.Chain] = known.name()
		if len(one.Statement.Text) == 0 {
			continue
		}
		var statement auditStatement
		if err := one.Statement.open(auditStatementWords, known.Key, &statement); err != nil || statement.Chain != one.Chain {
			proof.Problems = append(proof.Problems, fmt.Sprintf("server %s: what it states about its audit log is not its own: %v", known.name(), cmp.Or(err, history.ErrAltered)))
			continue
		}
		subject := auditSubjectOf(one.Chain, statement.Life)
		stated[subject] = statement.At
		wanted[subject] = append(wanted[subject], expected{knownLife{statement.File, statement.Line, statement.Head, statement.At}, statement.Number, "it states so itself"})
	}
	subjects, err := s.subjects(ctx)
	if err != nil {
		return err
	}
	all := map[string]bool{}
	for subject := range subjects {
		all[subject] = true
		if err := s.wantFork(ctx, subject, wanted); err != nil {
			return err
		}
	}
	for subject := range wanted {
		all[subject] = true
	}
	for _, subject := range slices.Sorted(maps.Keys(all)) {
		chain, life, err := auditSubjectParts(subject)
		if err != nil {
			proof.Problems = append(proof.Problems, err.Error())
			continue
		}
		v := &chainVerifier{auditBugs: s.bugs, subject: subject, chain: chain, life: life, name: names[chain], wanted: wanted[subject], fleet: s.c.keys.now().Fleet}
		known, err := s.of(chain)
		if err != nil {
			v.unvouched = err
		}
		v.names = known.Names
		if removed, there, err := s.removedOf(kept, chain, life); err != nil {
			v.say("%v", err)
		} else if there {
			v.begins(removed)
		}
		if err := s.each(ctx, subject, subjects[subject], v.take); err != nil {
			return err
		}
		v.ends()
		one := v.result()
		one.Known = stated[subject]
		if one.Removed != nil {
			by, _ := s.of(v.removedBy)
			one.Removed.By = by.name()
		}
		proof.Chains = append(proof.Chains, one)
		proof.Problems = append(proof.Problems, v.problems...)
	}
	slices.SortStableFunc(proof.Chains, func(a, b fleet.AuditChain) int { return strings.Compare(a.Server, b.Server) })
	return nil
}

// wantFork has the life before hold the line behind which a life goes on.
func (s *auditShare) wantFork(ctx context.Context, subject string, wanted map[string][]expected) error {
	chain, life, err := auditSubjectParts(subject)
	if err != nil || life == 1 {
		return nil //nolint:nilerr // who reads it says so
	}
	message, err := s.stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fleet: read the audit log: %w", err)
	}
	held, err := openEntry(subject, message.Data)
	if err != nil || held.Number != 1 || held.Fork == nil || held.Fork.File == "" {
		return nil //nolint:nilerr // likewise
	}
	before := auditSubjectOf(chain, held.Fork.Life)
	wanted[before] = append(wanted[before], expected{knownLife{held.Fork.File, held.Fork.Line, held.Fork.Head, held.From}, 0, fmt.Sprintf("life %d goes on behind it", life)})
	return nil
}

// removedOf is what stands for removed entries of a life, as it was kept before the chain was read.
func (s *auditShare) removedOf(kept []auditChain, chain string, life int) (removed auditRemoved, there bool, err error) {
	at := slices.IndexFunc(kept, func(one auditChain) bool { return one.Chain == chain })
	if at < 0 {
		return removed, false, nil
	}
	one, there := kept[at].Removed[strconv.Itoa(life)]
	if !there {
		return removed, false, nil
	}
	removed, err = s.openRemoved(one, chain, life)
	return removed, err == nil, err
}

// each gives all messages of a subject, in their order.
func (s *auditShare) each(ctx context.Context, subject string, count uint64, take func(place uint64, at time.Time, text []byte) (more bool)) error {
	if count == 0 {
		return nil
	}
	reader, err := s.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		return fmt.Errorf("fleet: read the audit log: %w", err)
	}
	messages, err := reader.Messages(jetstream.PullMaxMessages(recordBatch), jetstream.PullExpiry(recordExpiry), jetstream.PullHeartbeat(recordBeat))
	if err != nil {
		return fmt.Errorf("fleet: read the audit log: %w", err)
	}
	defer messages.Stop()
	silent := 0
	for left := uint64(1); left > 0; {
		message, err := messages.Next(jetstream.NextMaxWait(auditVerifyWait))
		if err != nil {
			// A machine that is busy answers late; and what was counted may be removed by now.
			if silent++; ctx.Err() != nil || silent > auditSilent {
				return fmt.Errorf("fleet: read the audit log: %w", errors.Join(err, ctx.Err(), errors.New("the engine does not answer")))
			}
			if info, failed := s.stream.Info(ctx, jetstream.WithSubjectFilter(subject)); failed == nil && info.State.Subjects[subject] == 0 {
				return nil
			}
			continue
		}
		at, err := message.Metadata()
		if err != nil {
			return fmt.Errorf("fleet: read the audit log: %w", err)
		}
		left, silent = at.NumPending, 0
		if !take(at.Sequence.Stream, at.Timestamp, message.Data()) {
			return nil
		}
	}
	return nil
}

// chainVerifier holds one life of a chain against itself, entry by entry.
type chainVerifier struct {
	auditBugs
	subject, chain string
	life           int
	name           string   // of its server
	names          []string // that it may be called by
	fleet          string
	unvouched      error
	wanted         []expected

	removed   *auditRemoved
	removedBy string
	number    uint64
	digest    string
	place     uint64
	file      string
	line      int64
	head      string
	lines     int64
	carried   int64 // of these, those that are here
	leftOut   int64
	from      time.Time
	until     time.Time
	problems  []string
}

func (v *chainVerifier) say(format string, args ...any) {
	if len(v.problems) < auditProblems {
		v.problems = append(v.problems, fmt.Sprintf("server %s (chain %s, life %d): ", cmp.Or(v.name, "that nobody knows"), v.chain[:8], v.life)+fmt.Sprintf(format, args...))
	}
}

// begins has the chain begin behind what was removed.
func (v *chainVerifier) begins(removed auditRemoved) {
	v.removed, v.removedBy = &removed, chainOf(removed.Key)
	v.number, v.digest, v.place, v.file, v.line, v.head, v.lines = removed.Number, removed.Digest, removed.Place, removed.File, removed.Line, removed.Head, removed.Lines
}

// take takes the next entry.
func (v *chainVerifier) take(place uint64, at time.Time, text []byte) bool {
	if v.removed != nil && place <= v.removed.Place {
		return true // a server that went down while it removed them
	}
	held, err := openEntry(v.subject, text)
	when := at.UTC().Format(time.RFC3339)
	if err != nil && !v.credulous {
		v.say("entry at place %d, put there at %s: %v", place, when, err)
		return len(v.problems) < auditProblems
	}
	e := held.auditEntry
	if !v.credulous {
		switch {
		case v.unvouched != nil:
			v.say("entry %d, put there at %s, says that it is of server %q: %v", e.Number, when, e.Server, v.unvouched)
			return false
		case !slices.Contains(v.names, e.Server):
			v.say("entry %d, put there at %s, says that it is of server %q, and is signed by server %s: a forged name", e.Number, when, e.Server, v.name)
		case e.Fleet != v.fleet:
			v.say("entry %d, put there at %s, is of another fleet, %s", e.Number, when, e.Fleet)
		}
	}
	if !v.uncounted {
		v.follows(e, when)
		if e.First == 1 && !e.LeftOut {
			v.firstLine(held)
		}
	}
	v.number, v.digest, v.place, v.file, v.line, v.head, v.lines = e.Number, held.digest, place, e.File, e.Last, e.Head, e.Lines
	v.carried += int64(len(held.events))
	if e.LeftOut {
		v.leftOut++
	}
	if v.from.IsZero() {
		v.from = e.From
	}
	v.until = e.Until
	for i, want := range v.wanted {
		if head := held.hashAt(want.File, want.Line); head != "" {
			if head != want.Head {
				v.say("line %d of %s is not the one that it was: %s", want.Line, want.File, want.by)
			}
			v.wanted[i].File = "" // found
		}
	}
	return len(v.problems) < auditProblems
}

// follows holds an entry against the one before.
func (v *chainVerifier) follows(e auditEntry, when string) {
	switch {
	case e.Number == v.number+2:
		v.say("entry %d is missing, before the one that was put there at %s", v.number+1, when)
	case e.Number > v.number+1:
		v.say("entries %d to %d are missing, before the one that was put there at %s", v.number+1, e.Number-1, when)
	case e.Number <= v.number:
		v.say("entry %d, put there at %s, stands behind entry %d: it was moved, or put there twice", e.Number, when, v.number)
	case e.Before != v.digest || e.After != v.place:
		v.say("entry %d, put there at %s, does not follow on the one that stands before it", e.Number, when)
	case e.File == v.file && (e.First != v.line+1 || e.Start != v.head):
		v.say("entry %d: line %d of %s does not follow on line %d", e.Number, e.First, e.File, v.line)
	case e.Number == 1 && e.First != 1 && (e.Fork == nil || e.Fork.File != e.File || e.Fork.Line != e.First-1 || e.Fork.Head != e.Start):
		v.say("it begins with line %d of %s: what was before is left out", e.First, e.File)
	case e.File != v.file && e.Number > 1 && (e.First != 1 || strings.Compare(e.File, v.file) < 0):
		v.say("entry %d begins with line %d of %s, behind %s", e.Number, e.First, e.File, v.file)
	}
}

// firstLine holds the first line of a file against the end of the file before. A log of an older version says nothing there.
func (v *chainVerifier) firstLine(held heldEntry) {
	note := noteOf(held.events[0])
	if !strings.HasPrefix(note, auditFollows) {
		return
	}
	if held.Number == 1 && held.Removed != nil {
		v.file, v.line, v.head = held.Removed.Last, held.Removed.LastLines, held.Removed.Head
	}
	if v.file == "" && held.Fork != nil {
		return // what it has in common with the life before is nothing
	}
	if want := auditFollows + fmt.Sprintf("%s, which ends with line %d, %s", v.file, v.line, v.head); note != want {
		v.say("%s says that it %q, and that would be %q", held.File, note, want)
	}
}

// ends holds the chain against how far it is known to have gone.
func (v *chainVerifier) ends() {
	if v.unmindful {
		return
	}
	for _, want := range v.wanted {
		switch {
		case want.number > v.number:
			v.say("its end is missing: it went to entry %d at least, as of %s (%s), and ends with entry %d", want.number, want.At.UTC().Format(time.RFC3339), want.by, v.number)
		case want.File == "", v.removed != nil && notBehind(want.File, want.Line, v.removed.File, v.removed.Line):
		default:
			v.say("line %d of %s, of %s, is missing: %s", want.Line, want.File, want.At.UTC().Format(time.RFC3339), want.by)
		}
	}
}

func (v *chainVerifier) result() fleet.AuditChain {
	one := fleet.AuditChain{Server: v.name, Chain: v.chain, Life: v.life, Lines: v.carried, From: v.from, Until: v.until, Head: v.head, LeftOut: v.leftOut}
	if r := v.removed; r != nil {
		one.Removed = &fleet.AuditRemoved{Lines: r.Lines, From: r.From, Until: r.Until, At: r.At}
	}
	return one
}

// prune removes entries of which the newest line is older than a time, of all chains, and keeps in their place what stands for them. What is not as it was
// written is not removed, nor the last entry of a chain: its server goes on there.
func (s *auditShare) prune(ctx context.Context, before time.Time, dry bool) (count int, err error) {
	subjects, err := s.subjects(ctx)
	if err != nil {
		return 0, err
	}
	for _, subject := range slices.Sorted(maps.Keys(subjects)) {
		removed, err := s.pruneChain(ctx, subject, subjects[subject], before, dry)
		count += removed
		if err != nil {
			return count, err
		}
	}
	return count, nil
}

func (s *auditShare) pruneChain(ctx context.Context, subject string, entries uint64, before time.Time, dry bool) (count int, err error) {
	chain, life, err := auditSubjectParts(subject)
	if err != nil {
		return 0, err
	}
	known, err := s.of(chain)
	if err != nil {
		return 0, err
	}
	v := &chainVerifier{subject: subject, chain: chain, life: life, name: known.name(), names: known.Names, fleet: s.c.keys.now().Fleet}
	had, _ := s.chains.get(chain)
	start, pruned, err := s.removedOf([]auditChain{had}, chain, life)
	if err != nil {
		return 0, err
	}
	if pruned {
		v.begins(start)
	}
	var last auditRemoved
	one := func(place uint64, at time.Time, text []byte) bool {
		if entries--; entries == 0 {
			return false
		}
		held, err := openEntry(subject, text)
		if err != nil || !held.Until.Before(before) {
			return false
		}
		if !v.take(place, at, text) || len(v.problems) > 0 {
			return false
		}
		if pruned && place <= start.Place {
			return true
		}
		count++
		from := cmp.Or(start.From, v.from)
		last = auditRemoved{Fleet: v.fleet, Chain: chain, Life: life, Key: publicHalf(s.c.auditKey), Number: v.number, Digest: v.digest, Place: place, File: v.file, Line: v.line, Head: v.head, Lines: v.lines, From: from, Until: v.until, At: time.Now()}
		return true
	}
	if err := s.each(ctx, subject, entries, one); err != nil {
		return 0, err
	}
	if len(v.problems) > 0 {
		return 0, &drill.Error{Op: "prune", Kind: drill.Refused, Err: fmt.Errorf("the audit log is not as it was written, and is not removed: %s", v.problems[0]), Hint: "see: firedrill fleet audit --verify"}
	}
	if dry || count == 0 {
		return count, nil
	}
	if !s.c.options.Untold {
		if _, err := s.chains.change(ctx, chain, func(had auditChain, _ bool) (auditChain, error) {
			had.Chain = chain
			had.Removed = maps.Clone(had.Removed)
			if had.Removed == nil {
				had.Removed = map[string]signed{}
			}
			had.Removed[strconv.Itoa(life)] = sign(auditRemovedWords, last, s.c.auditKey)
			return had, nil
		}); err != nil {
			return 0, err
		}
	}
	if err := s.stream.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(last.Place+1)); err != nil {
		return 0, fmt.Errorf("fleet: remove what is old of the audit log: %w", err)
	}
	return count, nil
}
