package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

// keptJournal is what we have of one.
type keptJournal struct {
	mu    sync.Mutex // guards the fields below
	known bool       // the fields were read from the disk
	lines int
	end   bool
	last  uint64 // place of the last part; another server that writes behind it is noticed
}

// JournalChange says that a host has told more of its part in a run.
type JournalChange struct {
	Run   string `json:"run"`
	Host  string `json:"host"`
	Lines int    `json:"lines"` // that are kept now
}

func journalSubject(host, order string) string { return "fd.kept." + host + "." + order }

// heardJournal keeps a part of a journal, and tells the host how much there is now. A part that is there already, or does not follow on, changes
// nothing: so a host may say it as often as it likes.
func (c *Control) heardJournal(message *nats.Msg) {
	member, ok := c.speaker(message)
	if !ok {
		return
	}
	part, err := fleet.Decode[fleet.Journal](message.Data)
	if err != nil {
		c.record("refused the journal of %s: %v", member.Name, err)
		c.answer(message, member.Key, fleet.Kept{Error: err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeMax)
	defer cancel()
	kept, err := c.keep(ctx, member, part)
	if err != nil {
		c.log.WarnContext(ctx, "a journal cannot be kept", "host", member.Name, "order", part.Order, "error", err)
		kept.Error = err.Error()
	}
	c.answer(message, member.Key, kept)
}

func (c *Control) keep(ctx context.Context, member fleet.Member, part fleet.Journal) (fleet.Kept, error) {
	run, at, ok := c.runs.of(member.Key, part.Order)
	if !ok && c.lead.young(time.Now()) {
		return fleet.Kept{}, errors.New("this server leads since a moment ago, and may not know of it yet")
	}
	if !ok {
		// Of an order that we never gave, or have forgotten: it is not ours to keep, and the host need not ask again.
		c.record("%s speaks of order %s, which is not one of its", member.Name, part.Order)
		return fleet.Kept{Lines: part.From + len(part.Lines), End: part.End != nil}, nil
	}
	c.mu.Lock()
	k := c.kept[part.Order]
	if k == nil {
		k = &keptJournal{}
		c.kept[part.Order] = k
	}
	c.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	subject := journalSubject(member.Key, part.Order)
	if now, _, ok := c.runs.of(member.Key, part.Order); ok {
		run = now // it may have been said twice, and have waited
	}
	if err := c.readKept(ctx, k, subject); err != nil {
		return fleet.Kept{}, err
	}
	if part.From == k.lines && !k.end && (len(part.Lines) > 0 || part.End != nil) {
		kept, err := c.store.publish(ctx, subject, encode(part), jetstream.WithExpectLastSequencePerSubject(k.last))
		if err != nil {
			k.known = false // it may be there all the same, or another server was faster
			return fleet.Kept{Lines: k.lines}, err
		}
		k.lines += len(part.Lines)
		k.end, k.last = part.End != nil, kept.Sequence
		if err := c.learn(ctx, run, at, part, k.lines); err != nil {
			return fleet.Kept{Lines: k.lines}, err // the end is not said to be kept, so the host says it again
		}
		if now, _, ok := c.runs.of(member.Key, part.Order); ok {
			run = now // as it was learned
		}
		c.handOn(part)
		c.changed("journal", JournalChange{Run: run.ID, Host: member.Name, Lines: k.lines})
	}
	if k.end && !run.Hosts[at].Final() {
		// It was kept, and who kept it went down before the run said so.
		if err := c.relearn(ctx, run, at, k.lines); err != nil {
			return fleet.Kept{Lines: k.lines}, err
		}
	}
	if k.end {
		// What is said again is answered from the disk; a run of years has more orders than should be remembered here.
		c.mu.Lock()
		delete(c.kept, part.Order)
		c.mu.Unlock()
	}
	return fleet.Kept{Lines: k.lines, End: k.end}, nil
}

// readKept reads how far a journal goes, once after each start.
func (c *Control) readKept(ctx context.Context, k *keptJournal, subject string) error {
	if k.known {
		return nil
	}
	last, err := c.journal.GetLastMsgForSubject(ctx, subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return err
	default:
		var part fleet.Journal
		if err := json.Unmarshal(last.Data, &part); err != nil {
			return err
		}
		k.lines, k.end, k.last = part.From+len(part.Lines), part.End != nil, last.Sequence
	}
	k.known = true
	return nil
}

// relearn is learn for a journal that was kept whole before.
func (c *Control) relearn(ctx context.Context, run fleet.Run, at, lines int) error {
	text, err := c.JournalText(ctx, run.Hosts[at])
	if err != nil {
		return err
	}
	last, err := c.journal.GetLastMsgForSubject(ctx, journalSubject(run.Hosts[at].Key, run.Hosts[at].Order))
	if err != nil {
		return err
	}
	var part fleet.Journal
	if err := json.Unmarshal(last.Data, &part); err != nil {
		return err
	}
	part.Lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	return c.learn(ctx, run, at, part, lines)
}

// learn takes from a part of a journal what the run should say of the host.
func (c *Control) learn(ctx context.Context, run fleet.Run, at int, part fleet.Journal, lines int) error {
	account := accountIn(part.Lines)
	if part.End == nil && account == nil {
		return nil // the run is not written for each line
	}
	chain := ""
	if part.End != nil {
		chain = "whole"
		if _, err := c.ReadJournal(ctx, run.Hosts[at]); err != nil {
			chain = err.Error()
		}
	}
	_, err := c.changeRun(run.ID, func(r *fleet.Run) {
		h := &r.Hosts[at]
		h.Lines = lines
		if account != nil {
			h.Bit, h.Reverted = account.Bit, account.Reverted
		}
		if part.End == nil {
			return
		}
		if h.State != fleet.HostRefused && h.State != fleet.HostNothing {
			h.State = fleet.HostEnded
			h.Reason = part.End.Why
		}
		h.Chain, h.Code, h.Reverted = chain, part.End.Code, part.End.Reverted
	})
	if err != nil && part.End == nil {
		c.log.WarnContext(ctx, "the account of a host cannot be kept yet", "host", run.Hosts[at].Name, "error", err)
		return nil // the end says it again
	}
	if part.End != nil && err == nil {
		c.record("%s: order %s has ended: %s; reverted %v", run.Hosts[at].Name, part.Order, part.End.Why, part.End.Reverted)
	}
	return err
}

// accountIn finds what an attack says of itself at its end.
func accountIn(lines []string) *history.AttackAccount {
	for _, line := range lines {
		if !strings.Contains(line, string(history.KindAttackAccount)) {
			continue
		}
		var event history.Event
		if json.Unmarshal([]byte(line), &event) != nil {
			continue
		}
		if account, ok := event.Fact.(*history.AttackAccount); ok {
			return account
		}
	}
	return nil
}

// JournalText is what a host wrote down about its part in a run, as far as it was sent.
func (c *Control) JournalText(ctx context.Context, host fleet.RunHost) ([]byte, error) {
	subject := journalSubject(host.Key, host.Order)
	var text bytes.Buffer
	for next, lines := uint64(1), 0; ; {
		message, err := c.journal.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return text.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		var part fleet.Journal
		if err := json.Unmarshal(message.Data, &part); err != nil {
			return nil, err
		}
		if part.From != lines {
			return text.Bytes(), fmt.Errorf("%w: lines %d to %d are missing", history.ErrAltered, lines+1, part.From)
		}
		for _, line := range part.Lines {
			text.WriteString(line)
			text.WriteByte('\n')
		}
		lines += len(part.Lines)
		next = message.Sequence + 1
	}
}

// ReadJournal reads and verifies what a host wrote down about its part in a run.
func (c *Control) ReadJournal(ctx context.Context, host fleet.RunHost) ([]history.Event, error) {
	text, err := c.JournalText(ctx, host)
	if err != nil {
		return nil, err
	}
	return history.Read(bytes.NewReader(text))
}
