package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const (
	auditKnownFile = "known.json"           // beside the logs
	auditBatch     = 256 << 10              // bytes of lines in one entry
	auditGather    = 50 * time.Millisecond  // lines that are written at the same time go together
	auditState     = 20 * time.Second       // between statements of a server that does nothing
	auditAway      = 3 * auditState         // a server that states nothing for so long is away
	auditAgain     = 500 * time.Millisecond // between tries, and longer with each
	auditAgainMax  = 15 * time.Second
	auditLast      = 3 * time.Second // for what is left when a server is stopped
	auditAsk       = 5 * time.Second // one question to the engine
)

// auditShare puts what this server writes down before all servers, and reads what they do. What a server writes lies in its own directory first: nothing
// waits for the engine.
type auditShare struct {
	c      *Control
	chain  string
	stream jetstream.Stream
	chains *shelf[auditChain]

	shipping sync.Mutex // one that ships at a time; guards the fields up to mu
	located  bool
	end      auditEntry // the last one of this server's life; Number 0: there is none
	digest   string
	place    uint64 // of it
	fork     *auditFork
	spool    spool

	bugs  auditBugs
	lossy func() error // tests: an answer that is lost on its way
	blind bool         // planted bug: an answer that is lost is taken for an entry that is not there, and no place is expected

	mu      sync.Mutex // guards the fields below
	known   map[string]knownChain
	unsaved bool
	stated  time.Time // when this server stated last how far it has written
	failing string    // why nothing is put before the others; empty: everything is
	cache   auditCache
	shipped struct { // as of the last entry that was put
		file string
		line int64
	}
}

// openAuditShare finds what the servers have put before each other. One server alone has nobody to put it before.
func (c *Control) openAuditShare(ctx context.Context) error {
	if c.options.alone() {
		return nil
	}
	s := &auditShare{c: c, chain: chainOf(publicHalf(c.auditKey)), known: map[string]knownChain{}, spool: spool{directory: filepath.Join(c.options.Directory, auditDirectory)}}
	if err := durable.Load(s.knownPath(), &s.known); err != nil {
		return &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "bring the file back from a backup, or remove it: then it is not missed what was taken out of the engine before today"}
	}
	var err error
	if s.chains, err = openShelf[auditChain](ctx, c.store, "audit", nil); err != nil {
		return err
	}
	if s.stream, err = c.store.stream(ctx, jetstream.StreamConfig{Name: auditStream, Subjects: []string{auditSubject + ".>"}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew}); err != nil {
		return err
	}
	c.shared = s
	return nil
}

func (s *auditShare) knownPath() string {
	return filepath.Join(s.c.options.Directory, auditDirectory, auditKnownFile)
}

// keep puts before all servers what this one writes, soon, until ctx ends; then what is left.
func (s *auditShare) keep(ctx context.Context) {
	tick := time.NewTicker(auditState / 4)
	defer tick.Stop()
	wait := auditAgain
	for {
		err := s.turn(ctx, false)
		var again <-chan time.Time // nothing comes here when all went well, or at the end
		rest := func() {           // an engine that is away is not asked more often
			select {
			case <-again:
			case <-ctx.Done():
			}
		}
		if err != nil && ctx.Err() == nil {
			s.complain(err)
			again, wait = time.After(wait), min(2*wait, auditAgainMax)
		} else if ctx.Err() == nil {
			s.complain(nil)
			wait = auditAgain
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditLast)
			defer cancel()
			if err := errors.Join(s.turn(last, true), s.save()); err != nil {
				s.c.log.WarnContext(ctx, "the end of the audit log is not before the other servers yet; it follows with the next start", "error", err)
			}
			return
		case <-again:
		case <-tick.C:
			if err != nil {
				rest()
			}
		case <-s.c.audit.wrote:
			if err != nil {
				rest()
				continue
			}
			gather := time.NewTimer(auditGather)
			select {
			case <-gather.C:
			case <-ctx.Done():
				gather.Stop()
			}
		}
	}
}

// complain says once that nothing can be put before the others, and once that it can again.
func (s *auditShare) complain(err error) {
	s.mu.Lock()
	was := s.failing
	s.failing = text(err)
	s.mu.Unlock()
	switch {
	case err != nil && was == "":
		s.c.log.Warn("the audit log is not before the other servers yet", "error", err) //nolint:sloglint // no request to carry
	case err == nil && was != "":
		s.c.log.Info("the audit log is before the other servers again") //nolint:sloglint // likewise
	}
}

// turn ships what there is, vouches, states and learns.
func (s *auditShare) turn(ctx context.Context, stopped bool) error {
	s.shipping.Lock()
	defer s.shipping.Unlock()
	began := time.Now()
	if err := s.ship(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	due := stopped || time.Since(s.stated) >= auditState
	s.mu.Unlock()
	if !due {
		return nil
	}
	if err := s.vouch(ctx); err != nil {
		return err
	}
	if err := s.state(ctx, began, stopped); err != nil {
		return err
	}
	s.mu.Lock()
	s.stated = time.Now()
	s.mu.Unlock()
	return errors.Join(s.learn(ctx), s.save())
}

// ship puts all that is written, and not there yet, before the others. shipping is held.
func (s *auditShare) ship(ctx context.Context) error {
	if !s.located {
		if err := s.locate(ctx); err != nil {
			return err
		}
	}
	for {
		read, err := s.spool.next(s.most())
		if errors.Is(err, errSpool) {
			return s.leave(err)
		}
		if err != nil || len(read.events) == 0 {
			return err
		}
		if err := s.put(ctx, read); err != nil {
			s.located = false // it may be there all the same
			return err
		}
	}
}

// most is how many bytes of lines go into one entry.
func (s *auditShare) most() int {
	return min(auditBatch, max(1<<10, int(s.c.conn.MaxPayload())/2))
}

// leave goes on behind a file that is not as it was written: what is written from now on is in another one.
func (s *auditShare) leave(problem error) error {
	if s.spool.file == s.c.audit.current() {
		if err := s.c.audit.onward(time.Now()); err != nil {
			return errors.Join(problem, err)
		}
	}
	names, err := auditNames(s.spool.directory)
	if err != nil {
		return errors.Join(problem, err)
	}
	left := s.spool.file
	at := slices.IndexFunc(names, func(name string) bool { return name > left })
	if at < 0 {
		return problem
	}
	s.spool.file, s.spool.offset, s.spool.line, s.spool.head = names[at], 0, 0, history.Unwritten
	s.c.record("the audit log of this server cannot be put before the others as it lies in %s, behind line %d: %v", left, s.end.Last, problem)
	return nil
}

// put puts lines before the others. It counts on the place where this server's log ends there: nothing is put twice, or behind what somebody else has put.
func (s *auditShare) put(ctx context.Context, read spooled) error {
	e := auditEntry{Fleet: s.c.keys.now().Fleet, Server: s.c.options.Name, Chain: s.chain, Key: publicHalf(s.c.auditKey), Life: max(1, s.end.Life), Number: s.end.Number + 1, After: s.place, Before: s.digest,
		File: read.file, First: read.first, Last: read.last, Start: read.start, Head: read.head, Lines: s.end.Lines + int64(len(read.events)), From: read.events[0].At, Until: read.events[len(read.events)-1].At}
	lines := read.text
	if len(lines) > s.most() { // one line
		e.LeftOut, lines = true, nil
	}
	if e.Number == 1 {
		e.Fork = s.fork
		removed, ok, err := loadCheckpoint(s.spool.directory)
		if err != nil {
			return err
		}
		if ok && e.Fork == nil {
			e.Removed = &removed
		}
	}
	message, digest := e.packed(s.c.auditKey, lines)
	options := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(s.place)}
	if s.blind {
		options = nil
	}
	kept, err := s.c.store.publish(ctx, auditSubjectOf(e.Chain, e.Life), message, options...)
	if err == nil && s.lossy != nil {
		err = s.lossy()
	}
	if err != nil {
		if s.blind {
			return nil
		}
		return fmt.Errorf("fleet: put the audit log before the others: %w", err)
	}
	s.end, s.digest, s.place = e, digest, kept.Sequence
	s.spool.taken(read)
	s.mu.Lock()
	s.shipped.file, s.shipped.line = e.File, e.Last
	s.mu.Unlock()
	s.knows(e)
	return nil
}

// locate finds where this server's log ends before the others, and goes on there. shipping is held.
func (s *auditShare) locate(ctx context.Context) error {
	if s.blind && s.end.Number > 0 {
		s.located = true
		return nil
	}
	subjects, err := s.subjects(ctx)
	if err != nil {
		return err
	}
	life := 0
	for subject := range subjects {
		if chain, number, err := auditSubjectParts(subject); err == nil && chain == s.chain {
			life = max(life, number)
		}
	}
	s.end, s.digest, s.place, s.fork = auditEntry{}, "", 0, nil
	s.spool = spool{directory: s.spool.directory}
	if life == 0 {
		s.located = true
		return nil
	}
	held, place, err := s.lastOf(ctx, auditSubjectOf(s.chain, life))
	if err == nil {
		var there bool
		if there, err = s.spool.find(held.File, held.Last, held.Head); err != nil {
			return err
		}
		if there {
			s.end, s.digest, s.place, s.located = held.auditEntry, held.digest, place, true
			s.mu.Lock()
			s.shipped.file, s.shipped.line = held.File, held.Last
			s.mu.Unlock()
			return nil
		}
	} else if !errors.Is(err, history.ErrAltered) {
		return err
	}
	// What stands there is not what lies here: this directory was brought back from an older copy, or somebody else has put it there. It stays, and this
	// server begins another life from the last line that both have.
	fork, err := s.common(ctx, life, held, place)
	if err != nil {
		return err
	}
	s.fork, s.end, s.located = &fork, auditEntry{Life: life + 1}, true
	s.c.record("what this server has put before the others is not what lies here; was its directory brought back from an older copy? It goes on as life %d of its audit log, behind line %d of %s", life+1, fork.Line, cmp.Or(fork.File, "nothing"))
	return nil
}

// common is the last line that a life has in common with what lies here; the spool goes on behind it.
func (s *auditShare) common(ctx context.Context, life int, held heldEntry, place uint64) (auditFork, error) {
	subject := auditSubjectOf(s.chain, life)
	for held.Number > 0 {
		if text, err := readWhole(s.spool.directory, held.File); err == nil {
			hashes := []string{}
			for line := range bytes.Lines(text) {
				hashes = append(hashes, history.StatedHash(line))
			}
			for line := min(held.Last, int64(len(hashes))); line >= held.First; line-- {
				if head := held.hashAt(held.File, line); head == hashes[line-1] {
					if there, err := s.spool.find(held.File, line, head); err != nil || there {
						return auditFork{Life: life, File: held.File, Line: line, Head: head}, err
					}
				}
			}
		}
		if held.After == 0 || held.After >= place {
			break
		}
		place = held.After
		message, err := s.stream.GetMsg(ctx, place)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break // removed because of its age
		}
		if err != nil {
			return auditFork{}, err
		}
		if held, err = openEntry(subject, message.Data); err != nil {
			break
		}
	}
	s.spool = spool{directory: s.spool.directory}
	return auditFork{Life: life}, nil
}

// subjects are those in the stream.
func (s *auditShare) subjects(ctx context.Context) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, auditAsk)
	defer cancel()
	info, err := s.stream.Info(ctx, jetstream.WithSubjectFilter(auditSubject+".>"))
	if err != nil {
		return nil, fmt.Errorf("fleet: read the audit log: %w", err)
	}
	s.mu.Lock()
	s.cache.of(info.Created)
	s.mu.Unlock()
	return info.State.Subjects, nil
}

// lastOf is the last entry of a subject, and its place.
func (s *auditShare) lastOf(ctx context.Context, subject string) (heldEntry, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, auditAsk)
	defer cancel()
	message, err := s.stream.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return heldEntry{}, 0, fmt.Errorf("fleet: read the audit log: %w", err)
	}
	held, err := openEntry(subject, message.Data)
	return held, message.Sequence, err
}

// vouch has a voucher for this server's chain, and by the one that leads for all that are known, with the key of orders that counts now.
func (s *auditShare) vouch(ctx context.Context) error {
	id := s.c.keys.now()
	s.mu.Lock()
	own := s.known[s.chain].clone()
	own.Key = publicHalf(s.c.auditKey)
	if own.name() != s.c.options.Name {
		own.Names = append(slices.DeleteFunc(own.Names, func(name string) bool { return name == s.c.options.Name }), s.c.options.Name)
		s.known[s.chain], s.unsaved = own, true
	}
	all := map[string]knownChain{s.chain: own}
	if s.c.lead.leads() {
		for chain, one := range s.known {
			all[chain] = one.clone()
		}
	}
	s.mu.Unlock()
	for chain, one := range all {
		had, _ := s.chains.get(chain)
		if voucher, err := s.vouched(had, id); err == nil && slices.Equal(voucher.Names, one.Names) && voucher.Serial == id.OrderSerial {
			continue
		}
		if _, err := s.chains.change(ctx, chain, func(had auditChain, _ bool) (auditChain, error) {
			had.Chain = chain
			had.Voucher = sign(auditVoucherWords, auditVoucher{Fleet: id.Fleet, Chain: chain, Key: one.Key, Names: one.Names, Serial: id.OrderSerial}, id.orderKey())
			return had, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// vouched opens the voucher of a chain, if a key of orders that counts has signed it.
func (s *auditShare) vouched(chain auditChain, id identity) (voucher auditVoucher, err error) {
	keys := []ed25519.PrivateKey{id.orderKey()}
	if len(id.OrderBefore) > 0 && time.Now().Before(id.OrderEnds) {
		keys = append(keys, ed25519.NewKeyFromSeed(id.OrderBefore))
	}
	for _, key := range keys {
		if err = chain.Voucher.open(auditVoucherWords, publicHalf(key), &voucher); err == nil {
			break
		}
	}
	if err == nil && (voucher.Fleet != id.Fleet || voucher.Chain != chain.Chain || chainOf(voucher.Key) != chain.Chain || len(voucher.Names) == 0) {
		err = fmt.Errorf("the voucher is for another: %w", history.ErrAltered)
	}
	return voucher, err
}

// state says how far this server has written: whoever reads knows then that nothing is missing up to here.
func (s *auditShare) state(ctx context.Context, at time.Time, stopped bool) error {
	if s.c.audit.waits() || s.end.Number == 0 {
		return nil // a full disk
	}
	_, err := s.chains.change(ctx, s.chain, func(had auditChain, _ bool) (auditChain, error) {
		had.Chain = s.chain
		had.Statement = sign(auditStatementWords, auditStatement{Fleet: s.c.keys.now().Fleet, Chain: s.chain, Life: s.end.Life, Number: s.end.Number, File: s.end.File, Line: s.end.Last, Head: s.end.Head, At: at, Stopped: stopped}, s.c.auditKey)
		return had, nil
	})
	return err
}

// of is what is known of a chain: what was learnt here, with what is vouched for now.
func (s *auditShare) of(chain string) (knownChain, error) {
	s.mu.Lock()
	one, known := s.known[chain]
	one = one.clone()
	s.mu.Unlock()
	had, there := s.chains.get(chain)
	voucher, err := s.vouched(had, s.c.keys.now())
	switch {
	case err == nil:
		one.Key = voucher.Key
		one.Names = voucher.Names
	case !known && !there:
		return one, fmt.Errorf("nobody vouches for chain %s: %w", chain, history.ErrAltered)
	case !known:
		return one, fmt.Errorf("nobody vouches for chain %s: %w", chain, err)
	}
	return one, nil
}

// learn remembers how far the chains go, and whose they are.
func (s *auditShare) learn(ctx context.Context) error {
	subjects, err := s.subjects(ctx)
	if err != nil {
		return err
	}
	for _, subject := range slices.Sorted(maps.Keys(subjects)) {
		if chain, _, err := auditSubjectParts(subject); err != nil || chain == s.chain {
			continue
		}
		held, _, err := s.lastOf(ctx, subject)
		switch {
		case errors.Is(err, history.ErrAltered), errors.Is(err, jetstream.ErrMsgNotFound):
			continue // who verifies is told
		case err != nil:
			return err
		}
		if one, err := s.of(held.Chain); err == nil && slices.Contains(one.Names, held.Server) {
			s.knows(held.auditEntry)
		}
	}
	return nil
}

// knows remembers an entry whose chain is vouched for.
func (s *auditShare) knows(e auditEntry) {
	one, err := s.of(e.Chain)
	if err != nil && e.Chain != s.chain {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(one.Key) == 0 {
		one.Key, one.Names = e.Key, []string{e.Server}
	}
	if had := one.Lives[e.Life]; !notBehind(e.File, e.Last, had.File, had.Line) {
		one.Lives[e.Life] = knownLife{e.File, e.Last, e.Head, e.Until}
		s.known[e.Chain], s.unsaved = one, true
	}
}

func (s *auditShare) save() error {
	s.mu.Lock()
	if !s.unsaved {
		s.mu.Unlock()
		return nil
	}
	copied := map[string]knownChain{}
	for chain, one := range s.known {
		copied[chain] = one.clone()
	}
	s.unsaved = false
	s.mu.Unlock()
	err := durable.Save(s.knownPath(), copied)
	if err != nil {
		s.mu.Lock()
		s.unsaved = true
		s.mu.Unlock()
	}
	return err
}

// hasShipped reports whether a file of this server was put before the others to its end.
func (s *auditShare) hasShipped(file string) bool {
	if s == nil {
		return true // there is nobody
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Compare(file, s.shipped.file) < 0
}

// servers say how far the log of each server is known: of its newest chain, as that states it, or as its last entry says.
func (s *auditShare) servers(ends map[string]heldEntry, now time.Time) []fleet.AuditServer {
	newest := map[string]fleet.AuditServer{}
	note := func(name string, known time.Time, stopped bool) {
		if had, is := newest[name]; name != "" && (!is || had.Known.Before(known)) {
			newest[name] = fleet.AuditServer{Name: name, Known: known, Stopped: stopped, Away: now.Sub(known) > auditAway}
		}
	}
	for _, one := range s.chains.values() {
		known, err := s.of(one.Chain)
		if err != nil {
			continue
		}
		var statement auditStatement
		if one.Statement.open(auditStatementWords, known.Key, &statement) == nil && statement.Chain == one.Chain {
			note(known.name(), statement.At, statement.Stopped)
		} else {
			note(known.name(), time.Time{}, false)
		}
	}
	for _, held := range ends {
		if known, err := s.of(held.Chain); err == nil {
			note(known.name(), held.Until, false)
		}
	}
	return slices.SortedFunc(maps.Values(newest), func(a, b fleet.AuditServer) int { return strings.Compare(a.Name, b.Name) })
}
