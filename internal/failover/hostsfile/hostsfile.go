package hostsfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/move"
)

const (
	fileDefault = "/etc/hosts"
	fileMode    = 0o644
	fileMax     = 4 << 20 // bytes; a list of blocked advertisers is about that long

	markBegin = "# firedrill begin "
	markEnd   = "# firedrill end "
)

// Options make a Publisher.
type Options struct {
	File string // default: /etc/hosts
	Lock string // file at which writers wait for each other; default: the file's path with .lock
}

// Publisher moves names in one hosts file. All methods may be called at once.
type Publisher struct{ options Options }

// New returns a publisher. There is nothing that could be wrong yet.
func New(options Options) *Publisher {
	if options.File == "" {
		options.File = fileDefault
	}
	if options.Lock == "" {
		options.Lock = options.File + ".lock"
	}
	return &Publisher{options: options}
}

// Publish makes the file lead the name to the addresses of the change. The same change again is nil; it also puts right what somebody else
// has changed between the marks. The error wraps failover.ErrStale when a newer change was there, or is a *drill.Error: Invalid (the name
// stands in the file outside of the marks, too, and the first line counts), or Unreachable (the file cannot be read or replaced).
func (p *Publisher) Publish(ctx context.Context, change failover.Change) error {
	change, err := change.Valid()
	if err != nil {
		return err
	}
	change.Name = strings.ToLower(strings.TrimSuffix(change.Name, "."))
	op := "publish " + change.Name
	if change.Name == "" || strings.ContainsAny(change.Name, " \t\r\n#") {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf("%q is not the name of a host", change.Name)}
	}
	yield, err := move.Take(ctx, p.options.Lock)
	if err != nil {
		return err
	}
	defer yield()
	fail := func(err error, hint string) error {
		return &drill.Error{Op: op, Host: p.options.File, Kind: drill.Unreachable, Err: err, Hint: hint}
	}
	text, err := move.Read(p.options.File, fileMax)
	if err != nil {
		return fail(err, "It must be a hosts file that we may read.")
	}
	current := parse(text, change.Name)
	if err := change.Follows(current.mark, p.options.File); err != nil {
		return err
	}
	if current.foreign > 0 {
		return &drill.Error{
			Op: op, Host: p.options.File, Kind: drill.Invalid, Err: fmt.Errorf("line %d leads the name somewhere too", current.foreign),
			Hint: "Take the name out of that line; we write our own.",
		}
	}
	fresh := current.with(block(change))
	if bytes.Equal(fresh, text) {
		return nil
	}
	if err := move.Replace(p.options.File, fresh, fileMode); err != nil {
		hint := "Its directory must be one that we may write to."
		if errors.Is(err, syscall.EBUSY) {
			hint = "It is mounted by itself, as in a container, and cannot be replaced; use another provider there."
		}
		return fail(err, hint)
	}
	return nil
}

// Served says what the file leads a name to.
func (p *Publisher) Served(_ context.Context, name string) []failover.Served {
	text, err := move.Read(p.options.File, fileMax)
	found := parse(text, strings.ToLower(strings.TrimSuffix(name, ".")))
	return []failover.Served{{Server: p.options.File, Addresses: failover.Sorted(found.addresses), Serial: failover.SerialIn(found.mark), Err: err}}
}

// block returns the lines of a change with their marks.
func block(change failover.Change) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s%s %s\n", markBegin, change.Name, change.Mark())
	for _, address := range change.Addresses {
		fmt.Fprintf(&text, "%s %s\n", address, change.Name)
	}
	fmt.Fprintf(&text, "%s%s\n", markEnd, change.Name)
	return text.Bytes()
}

// content is a hosts file as one name sees it.
type content struct {
	before, after []byte // what stands before and behind the marks, byte by byte; without marks everything is before
	mark          string
	addresses     []netip.Addr // of every line with the name
	foreign       int          // number of a line with the name that is not between the marks; 0: none
}

// with returns the file with other lines of ours.
func (c content) with(block []byte) []byte {
	before := slices.Clone(c.before)
	if len(before) > 0 && before[len(before)-1] != '\n' {
		before = append(before, '\n')
	}
	return slices.Concat(before, block, c.after)
}

func parse(text []byte, name string) content {
	var found content
	inside, seen, number := false, false, 0
	for line := range bytes.Lines(text) {
		number++
		plain := strings.TrimSpace(string(line))
		mark, begins := strings.CutPrefix(plain, markBegin+name+" ")
		ours := inside
		switch {
		case begins && !seen:
			inside, seen, ours, found.mark = true, true, true, mark
		case inside && plain == markEnd+name:
			inside = false
		}
		switch {
		case ours: // is written anew
		case seen:
			found.after = append(found.after, line...)
		default:
			found.before = append(found.before, line...)
		}
		words, _, _ := strings.Cut(plain, "#")
		fields := strings.Fields(words)
		if len(fields) < 2 || !slices.ContainsFunc(fields[1:], func(word string) bool { return strings.EqualFold(word, name) }) {
			continue
		}
		if address, err := netip.ParseAddr(fields[0]); err == nil {
			found.addresses = append(found.addresses, address)
		}
		if !ours && found.foreign == 0 {
			found.foreign = number
		}
	}
	if inside { // the end was lost: what follows may be somebody's, so only the mark itself is ours
		return unended(text, name, found)
	}
	return found
}

// unended takes a file whose second mark is missing: of the lines behind the first mark only those of the name alone are ours.
func unended(text []byte, name string, found content) content {
	found.before, found.after = nil, nil
	seen := false
	for line := range bytes.Lines(text) {
		plain := strings.TrimSpace(string(line))
		fields := strings.Fields(plain)
		ours := strings.HasPrefix(plain, markBegin+name+" ") || (seen && len(fields) == 2 && strings.EqualFold(fields[1], name))
		switch {
		case ours:
			seen = true
		case seen:
			found.after = append(found.after, line...)
		default:
			found.before = append(found.before, line...)
		}
	}
	return found
}
