package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
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
	auditEntriesMax = 3000     // read for one look
	auditCacheMax   = 16 << 20 // bytes of entries that are at hand
	auditReadTime   = 20 * time.Second
)

// auditCache holds entries that were read: they do not change. It is used with the lock of its share.
type auditCache struct {
	created time.Time // of the stream
	entries map[uint64]heldEntry
	order   []uint64
	size    int
}

// of empties the cache when the stream is another one.
func (a *auditCache) of(created time.Time) {
	if a.entries == nil || !a.created.Equal(created) {
		*a = auditCache{created: created, entries: map[uint64]heldEntry{}}
	}
}

func (a *auditCache) put(place uint64, held heldEntry) {
	if _, known := a.entries[place]; known || a.entries == nil {
		return
	}
	a.entries[place], a.order, a.size = held, append(a.order, place), a.size+held.size
	for a.size > auditCacheMax && len(a.order) > 1 {
		a.size -= a.entries[a.order[0]].size
		delete(a.entries, a.order[0])
		a.order = a.order[1:]
	}
}

// Audit reads the audit log of all servers backwards, from a place that a page before named. It reads no more than it shows, or some megabytes: then the
// page may be empty and name a place all the same. While the engine is away it is what this server wrote alone, and Problem says so.
func (c *Control) Audit(ctx context.Context, asked fleet.AuditRequest) (fleet.AuditPage, error) {
	asked.Count = cmp.Or(asked.Count, fleet.AuditShown)
	if asked.Count < 0 || asked.Count > fleet.AuditShownMax {
		return fleet.AuditPage{}, &drill.Error{Op: "audit", Kind: drill.Invalid, Err: fmt.Errorf("%d lines", asked.Count), Hint: fmt.Sprintf("at most %d", fleet.AuditShownMax)}
	}
	if c.shared == nil {
		return c.ownAudit(asked)
	}
	reader, err := c.shared.reader(ctx, asked)
	if err == nil {
		var page fleet.AuditPage
		if page, err = reader.page(ctx); err == nil {
			return page, nil
		}
	}
	if drill.KindOf(err) == drill.Invalid || asked.From != "" {
		return fleet.AuditPage{}, err
	}
	page, failed := c.ownAudit(asked)
	page.Next = "" // another place than those of all servers
	page.Problem = fmt.Sprintf("the audit log of the other servers cannot be read now: %v", err)
	return page, failed
}

// ownAudit is what this server wrote alone.
func (c *Control) ownAudit(asked fleet.AuditRequest) (fleet.AuditPage, error) {
	page := fleet.AuditPage{Lines: []fleet.AuditLine{}, Servers: []fleet.AuditServer{{Name: c.options.Name, Known: time.Now()}}}
	if asked.Server != "" && asked.Server != c.options.Name {
		return page, noSuchServer(asked.Server, page.Servers)
	}
	own, err := c.localAudit(asked.From, asked.Count, asked.Contains)
	for _, event := range own.Lines {
		page.Lines = append(page.Lines, fleet.AuditLine{At: event.At, Server: c.options.Name, Text: noteOf(event), Own: c.shared != nil})
	}
	page.Next = own.Next
	return page, err
}

func noSuchServer(name string, known []fleet.AuditServer) error {
	names := []string{}
	for _, one := range known {
		names = append(names, one.Name)
	}
	return &drill.Error{Op: "audit", Kind: drill.Invalid, Err: fmt.Errorf("no server is called %q", name), Hint: "there are: " + strings.Join(names, ", ")}
}

func noteOf(event history.Event) string {
	if note, ok := event.Fact.(*history.Note); ok {
		return note.Text
	}
	return string(event.Fact.Kind())
}

// auditReader reads all chains backwards at the same time, by the times of their lines.
type auditReader struct {
	s       *auditShare
	asked   fleet.AuditRequest
	cursors []*auditCursor
	own     ownCursor
	ends    map[string]heldEntry // by subject, on the first page
	entries int                  // read so far
	bytes   int
}

// auditCursor stands in one life of a chain.
type auditCursor struct {
	subject string
	place   uint64 // of the entry it stands in; 0: at the begin
	left    int    // lines of it that were not given yet; -1: all
	held    *heldEntry
	broken  *fleet.AuditLine // in place of an entry that is not what was written
	name    string
}

// ownCursor stands in what this server has not put before the others.
type ownCursor struct {
	file    string // that is read next; empty: there is nothing more
	offset  int64  // end of what was not read yet; -1: of the file
	lowFile string // what lies there, up to a line, is before the others
	lowLine int64
	read    []ownLine // and not given, the newest first
	given   ownLine   // the last one
}

type ownLine struct {
	fleet.AuditLine
	file  string
	begin int64 // in the file
}

// reader stands at the place that was asked for.
func (s *auditShare) reader(ctx context.Context, asked fleet.AuditRequest) (*auditReader, error) {
	r := &auditReader{s: s, asked: asked, ends: map[string]heldEntry{}}
	if asked.From != "" {
		return r, r.from(asked.From)
	}
	// This server's first: what it puts before the others meanwhile is then read there, and what it writes meanwhile is not read.
	names, err := auditNames(s.spool.directory)
	if err != nil {
		return nil, err
	}
	subjects, err := s.subjects(ctx)
	if err != nil {
		return nil, err
	}
	ownLife := 0
	for subject := range subjects {
		chain, life, err := auditSubjectParts(subject)
		if err != nil {
			continue // who verifies is told
		}
		held, place, err := s.lastOf(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil && !errors.Is(err, history.ErrAltered) {
			return nil, err
		}
		r.cursors = append(r.cursors, &auditCursor{subject: subject, place: place, left: -1})
		if err != nil {
			continue
		}
		r.ends[subject] = held
		if chain == s.chain && life > ownLife {
			ownLife = life
			r.own.lowFile, r.own.lowLine = held.File, held.Last
		}
	}
	slices.SortFunc(r.cursors, func(a, b *auditCursor) int { return strings.Compare(a.subject, b.subject) })
	s.mu.Lock()
	shippedFile := s.shipped.file
	s.mu.Unlock()
	if len(names) > 0 && (shippedFile != "" || ownLife == 0) {
		r.own.file, r.own.offset = names[len(names)-1], -1
	}
	return r, nil
}

// A place of all chains is written as parts with commas between: CHAIN.LIFE@PLACE.LEFT for each, and own@FILE:OFFSET:FILE:LINE.
const ownPart = "own"

func (r *auditReader) next() string {
	var parts []string
	if o := r.own; len(o.read) > 0 || o.file != "" {
		file, offset := o.file, o.offset
		if len(o.read) > 0 {
			file, offset = o.given.file, o.given.begin
			if file == "" || file != o.read[0].file { // nothing of that file was given
				file, offset = o.read[0].file, -1
			}
		}
		parts = append(parts, fmt.Sprintf("%s@%s:%d:%s:%d", ownPart, file, offset, o.lowFile, o.lowLine))
	}
	for _, cursor := range r.cursors {
		if cursor.place != 0 {
			parts = append(parts, fmt.Sprintf("%s@%d.%d", strings.TrimPrefix(cursor.subject, auditSubject+"."), cursor.place, cursor.left))
		}
	}
	return strings.Join(parts, ",")
}

func (r *auditReader) from(place string) error {
	wrong := func() error {
		return &drill.Error{Op: "audit", Kind: drill.Invalid, Err: fmt.Errorf("%q is no place in the audit log", place)}
	}
	for part := range strings.SplitSeq(place, ",") {
		name, at, cut := strings.Cut(part, "@")
		if !cut {
			return wrong()
		}
		if name == ownPart {
			fields := strings.Split(at, ":")
			names, err := auditNames(r.s.spool.directory)
			if err != nil {
				return err
			}
			if len(fields) != 4 || !slices.Contains(names, fields[0]) {
				return wrong()
			}
			offset, err1 := strconv.ParseInt(fields[1], 10, 64)
			line, err2 := strconv.ParseInt(fields[3], 10, 64)
			if errors.Join(err1, err2) != nil || offset < -1 {
				return wrong()
			}
			r.own = ownCursor{file: fields[0], offset: offset, lowFile: fields[2], lowLine: line}
			continue
		}
		seq, left, cut := strings.Cut(at, ".")
		number, err1 := strconv.ParseUint(seq, 10, 64)
		lines, err2 := strconv.Atoi(left)
		_, _, err3 := auditSubjectParts(auditSubject + "." + name)
		if !cut || errors.Join(err1, err2, err3) != nil || number == 0 || lines < -1 || len(r.cursors) > 1000 {
			return wrong()
		}
		r.cursors = append(r.cursors, &auditCursor{subject: auditSubject + "." + name, place: number, left: lines})
	}
	return nil
}

// page reads as many lines as were asked for.
func (r *auditReader) page(ctx context.Context) (fleet.AuditPage, error) {
	ctx, cancel := context.WithTimeout(ctx, auditReadTime)
	defer cancel()
	page := fleet.AuditPage{Lines: []fleet.AuditLine{}, Servers: r.s.servers(r.ends, time.Now())}
	if r.asked.Server != "" && !slices.ContainsFunc(page.Servers, func(one fleet.AuditServer) bool { return one.Name == r.asked.Server }) {
		return page, noSuchServer(r.asked.Server, page.Servers)
	}
	contains := strings.ToLower(r.asked.Contains)
	for {
		if len(page.Lines) == r.asked.Count || r.entries >= auditEntriesMax || r.bytes >= auditReadMax {
			page.Next = r.next()
			return page, nil
		}
		line, ok, err := r.take(ctx)
		if err != nil {
			return page, err
		}
		if !ok {
			return page, nil
		}
		if line.Broken != "" || (contains == "" || strings.Contains(strings.ToLower(line.Text), contains)) && (r.asked.Server == "" || line.Server == r.asked.Server) {
			page.Lines = append(page.Lines, line)
		}
	}
}

// take gives the newest line of all that were not given.
func (r *auditReader) take(ctx context.Context) (line fleet.AuditLine, ok bool, err error) {
	var from *auditCursor
	own, there, err := r.peekOwn()
	if err != nil {
		return line, false, err
	}
	if there {
		line, ok = own, true
	}
	for _, cursor := range r.cursors {
		one, there, err := r.peek(ctx, cursor)
		if err != nil {
			return line, false, err
		}
		if there && (!ok || one.At.After(line.At)) {
			line, ok, from = one, true, cursor
		}
	}
	switch {
	case !ok:
	case from == nil:
		r.own.given, r.own.read = r.own.read[0], r.own.read[1:]
	default:
		r.pass(from)
	}
	return line, ok, nil
}

// peek is the line that a cursor stands behind.
func (r *auditReader) peek(ctx context.Context, cursor *auditCursor) (line fleet.AuditLine, ok bool, err error) {
	for cursor.place != 0 {
		if cursor.held == nil && cursor.broken == nil {
			if err := r.load(ctx, cursor); err != nil {
				return line, false, err
			}
			continue
		}
		if cursor.broken != nil {
			return *cursor.broken, true, nil
		}
		if cursor.left > 0 {
			event := cursor.held.events[cursor.left-1]
			return fleet.AuditLine{At: event.At, Server: cursor.held.Server, Text: noteOf(event)}, true, nil
		}
		r.pass(cursor)
	}
	return line, false, nil
}

// pass goes on to the line before.
func (r *auditReader) pass(cursor *auditCursor) {
	switch {
	case cursor.broken != nil:
		cursor.place, cursor.broken = 0, nil
	case cursor.left > 1:
		cursor.left--
	default:
		after := cursor.held.After
		if after >= cursor.place {
			after = 0
		}
		cursor.place, cursor.left, cursor.held = after, -1, nil
	}
}

// load reads the entry in which a cursor stands.
func (r *auditReader) load(ctx context.Context, cursor *auditCursor) error {
	s := r.s
	r.entries++
	s.mu.Lock()
	held, cached := s.cache.entries[cursor.place]
	s.mu.Unlock()
	chain, life, _ := auditSubjectParts(cursor.subject)
	known, unvouched := s.of(chain)
	broken := func(at time.Time, why string) {
		cursor.broken = &fleet.AuditLine{At: at, Server: cmp.Or(cursor.name, known.name(), "chain "+chain[:8]), Broken: why + "; see: firedrill fleet audit --verify"}
	}
	if !cached || held.Chain != chain || held.Life != life {
		message, err := s.stream.GetMsg(ctx, cursor.place)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			if removed, err := s.removed(chain, life); err == nil && cursor.place <= removed.Place {
				cursor.place = 0
				return nil
			}
			broken(time.Time{}, "what this server wrote before is missing")
			return nil
		case err != nil:
			return fmt.Errorf("fleet: read the audit log: %w", err)
		}
		if held, err = openEntry(cursor.subject, message.Data); err != nil {
			broken(message.Time, "an entry is not what this server wrote: "+err.Error())
			return nil
		}
		if message.Subject != cursor.subject {
			broken(message.Time, "an entry is another's")
			return nil
		}
		s.mu.Lock()
		s.cache.put(cursor.place, held)
		s.mu.Unlock()
	}
	switch {
	case unvouched != nil:
		broken(held.Until, fmt.Sprintf("an entry says that it is of server %q: %v", held.Server, unvouched))
		return nil
	case !slices.Contains(known.Names, held.Server):
		broken(held.Until, fmt.Sprintf("an entry says that it is of server %q, and is signed by server %s", held.Server, known.name()))
		return nil
	}
	r.bytes += held.size
	cursor.held, cursor.name = &held, held.Server
	if cursor.left < 0 || cursor.left > len(held.events) {
		cursor.left = len(held.events)
	}
	return nil
}

// removed is what stands for entries of a life that were removed because of their age. An error: nothing does.
func (s *auditShare) removed(chain string, life int) (removed auditRemoved, err error) {
	had, _ := s.chains.get(chain)
	one, there := had.Removed[strconv.Itoa(life)]
	if !there {
		return removed, errors.New("nothing was removed")
	}
	return s.openRemoved(one, chain, life)
}

func (s *auditShare) openRemoved(one signed, chain string, life int) (removed auditRemoved, err error) {
	var said auditRemoved
	altered := func(what string) error {
		return fmt.Errorf("what stands for removed entries of chain %s: %s: %w", chain, what, history.ErrAltered)
	}
	if err := decodeSigned(one, &said); err != nil {
		return removed, altered("it cannot be read")
	}
	if _, err := s.of(chainOf(said.Key)); err != nil {
		return removed, altered("nobody vouches for who signed it")
	}
	if err := one.open(auditRemovedWords, said.Key, &removed); err != nil {
		return auditRemoved{}, altered("the signature is another's")
	}
	if removed.Chain != chain || removed.Life != life || removed.Fleet != s.c.keys.now().Fleet {
		return auditRemoved{}, altered("it is of another chain")
	}
	return removed, nil
}

// peekOwn is the newest line of this server that is not before the others and was not given.
func (r *auditReader) peekOwn() (line fleet.AuditLine, ok bool, err error) {
	o := &r.own
	for len(o.read) == 0 && o.file != "" {
		if err := r.readOwn(); err != nil {
			return line, false, err
		}
	}
	if len(o.read) == 0 {
		return line, false, nil
	}
	return o.read[0].AuditLine, true, nil
}

// ownAtOnce is how many lines are read at once of what is not before the others.
const ownAtOnce = 200

// readOwn reads on, in one file.
func (r *auditReader) readOwn() error {
	o := &r.own
	if strings.Compare(o.file, o.lowFile) < 0 {
		o.file = ""
		return nil
	}
	low := false
	left, err := auditBackwards(filepath.Join(r.s.spool.directory, o.file), o.offset, lacksText(""), func(event history.Event, begin, size int64) bool {
		if o.file == o.lowFile && event.Seq <= o.lowLine {
			low = true
			return false
		}
		o.read = append(o.read, ownLine{fleet.AuditLine{At: event.At, Server: r.s.c.options.Name, Text: noteOf(event), Own: true}, o.file, begin})
		r.bytes += int(size)
		return len(o.read) < ownAtOnce
	})
	if err != nil {
		return err
	}
	o.offset = left
	if low {
		o.file = ""
	} else if left == 0 {
		names, err := auditNames(r.s.spool.directory)
		if err != nil {
			return err
		}
		if at, _ := slices.BinarySearch(names, o.file); at > 0 {
			o.file, o.offset = names[at-1], -1
		} else {
			o.file = ""
		}
	}
	return nil
}
