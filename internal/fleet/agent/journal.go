package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const (
	journalDirectory = "journal"
	sentDirectory    = "journal/sent"
	sentMax          = 1000 // journals that the control plane has, kept here as a second copy
	shipEvery        = 2 * time.Second
	shipIdle         = time.Minute // while there is no journal here, and no order that writes one
	shipMax          = 10 * time.Second
	partMax          = 200 << 10 // bytes of lines in one message
)

// journal is what a host writes down about an order: a hash-chained log, and beside it how it ended. Without the second the order is under
// way, or the agent died with it.
type journal struct {
	path   string // without ending
	file   *os.File
	writer *history.Writer
	host   string
}

func openJournal(directory, order string) (*journal, error) {
	path := filepath.Join(directory, journalDirectory, order)
	file, err := os.OpenFile(path+".jsonl", os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent: journal: %w", err)
	}
	host, _ := os.Hostname()
	return &journal{path: path, file: file, writer: history.NewWriter(file), host: host}, nil
}

// append writes an event. A write that fails is seen at the end: the attack goes on to its own end, and its journal is not whole.
func (j *journal) append(event history.Event) { _, _ = j.writer.Append(event) }

func (j *journal) note(format string, args ...any) {
	j.append(history.New(time.Now(), j.host, &history.Note{Text: fmt.Sprintf(format, args...)}))
}

// end closes the journal; the log is on the disk before it is said to be whole.
func (j *journal) end(end fleet.End) error {
	j.note("ended: %s; reverted: %v", end.Why, end.Reverted)
	return errors.Join(j.file.Sync(), j.file.Close(), durable.Save(j.path+".end", end))
}

// recover ends the journals of an agent that died: its attacks ended with it, because their input and output did. What is in force is looked at
// all the same.
func (a *Agent) recover(ctx context.Context) error {
	open, err := a.unended()
	if err != nil || len(open) == 0 {
		return err
	}
	for _, order := range open {
		// An attack notices within a fraction of a second that its agent is gone, and reverts.
		var left []string
		for until := time.Now().Add(killGrace); ; {
			if left, err = a.leftOf(order); err == nil && len(left) == 0 || time.Now().After(until) || !sleep(ctx, termGrace/4) {
				break
			}
		}
		end := fleet.End{Why: "the agent or its host went down while it was under way", Reverted: err == nil && len(left) == 0, Code: -1}
		if !end.Reverted {
			end.Why = fmt.Sprintf("%s; left: %v %v", end.Why, left, err)
		}
		a.log.WarnContext(ctx, "an order was broken off", "order", order, "reverted", end.Reverted, "why", end.Why)
		if err := durable.Save(filepath.Join(a.options.Directory, journalDirectory, order)+".end", end); err != nil {
			return err
		}
	}
	return nil
}

// unended lists the orders whose journals have no end.
func (a *Agent) unended() ([]string, error) {
	all, err := a.journals()
	return slices.DeleteFunc(all, func(order string) bool {
		_, err := os.Stat(filepath.Join(a.options.Directory, journalDirectory, order) + ".end")
		return err == nil
	}), err
}

// journals lists the orders whose journals the control plane does not have whole, oldest first: their names sort by time.
func (a *Agent) journals() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(a.options.Directory, journalDirectory))
	if err != nil {
		return nil, err
	}
	var orders []string
	for _, entry := range entries {
		if order, ok := strings.CutSuffix(entry.Name(), ".jsonl"); ok {
			orders = append(orders, order)
		}
	}
	return orders, nil
}

// kick has the journals told soon.
func (a *Agent) kick() {
	select {
	case a.shipping <- struct{}{}:
	default:
	}
}

// ship tells the control plane what was written down, for as long as it does not have it.
func (a *Agent) ship(ctx context.Context) {
	again := time.NewTimer(shipEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-a.shipping:
		}
		next := shipEvery
		if all := a.shipOnce(ctx); all && !a.busy() {
			next = shipIdle
		}
		again.Reset(next)
	}
}

// busy reports whether an order is carried out.
func (a *Agent) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.tasks) > 0
}

// shipOnce tells what the control plane does not have yet, and reports whether there was nothing.
func (a *Agent) shipOnce(ctx context.Context) (nothing bool) {
	if a.conn == nil || !a.conn.IsConnected() {
		return false
	}
	orders, err := a.journals()
	if err != nil {
		a.log.WarnContext(ctx, "the journals cannot be read", "error", err)
		return false
	}
	for _, order := range orders {
		if err := a.shipOne(ctx, order); err != nil {
			a.log.DebugContext(ctx, "a journal is told later", "order", order, "error", err)
			if ctx.Err() != nil || !a.conn.IsConnected() || errors.Is(err, context.DeadlineExceeded) {
				return false
			}
		}
	}
	return len(orders) == 0
}

// shipOne tells one journal from where the control plane has it, and puts it aside once it is there with its end.
func (a *Agent) shipOne(ctx context.Context, order string) error {
	path := filepath.Join(a.options.Directory, journalDirectory, order)
	// The end is looked for first: what is read after it is whole.
	var end *fleet.End
	if _, err := os.Stat(path + ".end"); err == nil {
		end = &fleet.End{}
		if err := durable.Load(path+".end", end); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(path + ".jsonl")
	if err != nil {
		return err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // a torn line is no line
	lines := slices.Collect(strings.Lines(string(text)))
	have := a.has(order)
	for {
		part := fleet.Journal{Order: order, From: have, Lines: []string{}}
		size := 0
		for _, line := range lines[min(have, len(lines)):] {
			if size += len(line); size > partMax && len(part.Lines) > 0 {
				break
			}
			part.Lines = append(part.Lines, strings.TrimSuffix(line, "\n"))
		}
		last := have+len(part.Lines) == len(lines)
		if last {
			part.End = end
		}
		if len(part.Lines) == 0 && part.End == nil {
			return nil
		}
		kept, err := a.tell(ctx, part)
		if err != nil {
			return err
		}
		if kept.End {
			return a.putAside(order)
		}
		if kept.Lines == have && len(part.Lines) > 0 {
			return errors.New("it was not taken")
		}
		have = min(kept.Lines, len(lines))
		a.hasNow(order, have)
		if last && end == nil && have == len(lines) {
			return nil
		}
	}
}

func (a *Agent) tell(ctx context.Context, part fleet.Journal) (fleet.Kept, error) {
	ctx, cancel := context.WithTimeout(ctx, shipMax)
	defer cancel()
	reply, err := a.conn.RequestWithContext(ctx, fleet.FromAgent(a.id.Key, fleet.WordJournal), encode(part))
	if err != nil {
		return fleet.Kept{}, err
	}
	kept, err := fleet.Decode[fleet.Kept](reply.Data)
	if err == nil && kept.Error != "" {
		err = errors.New(kept.Error)
	}
	return kept, err
}

func (a *Agent) has(order string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.shipped[order]
}

func (a *Agent) hasNow(order string, lines int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shipped[order] = lines
}

// putAside keeps a journal that was told whole, and lets the oldest of those go.
func (a *Agent) putAside(order string) error {
	a.mu.Lock()
	delete(a.shipped, order)
	a.mu.Unlock()
	from, to := filepath.Join(a.options.Directory, journalDirectory, order), filepath.Join(a.options.Directory, sentDirectory, order)
	if err := errors.Join(os.Rename(from+".jsonl", to+".jsonl"), os.Rename(from+".end", to+".end")); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(a.options.Directory, sentDirectory))
	if err != nil {
		return err
	}
	for _, entry := range entries[:max(0, len(entries)-2*sentMax)] { // two files each
		err = errors.Join(err, os.Remove(filepath.Join(a.options.Directory, sentDirectory, entry.Name())))
	}
	return err
}
