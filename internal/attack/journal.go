package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// Undoer is a Kind whose changes the kernel does not take back by itself.
type Undoer interface {
	// Undo takes one change back, from its record alone. It may be called again, and for a change that was recorded and never made. It
	// returns nil only when the host is as it was. others are changes of the same kind that other attacks hold now: what one of them needs
	// too stays, and whoever ends last takes it back. A change that a restart of the host has undone is not asked for.
	Undo(ctx context.Context, change Change, others []Change) error
}

// Recorded is a Step whose changes the kernel does not take back by itself: it records each one in a journal first.
type Recorded interface {
	Step
	// Keep hands the journal over, before Apply. While the step is in force a guardian process watches over it.
	Keep(journal *Journal)
}

// The places of journals: of root, and of anybody else.
const (
	journalRoot   = "/var/lib/firedrill/journal"
	journalSuffix = ".journal"
	newSuffix     = ".new"
	lockName      = "lock"
)

const (
	lockTimeout = 3 * time.Second // undoing a thousand changes takes less
	lockPoll    = 2 * time.Millisecond
)

// journalDir returns where the journals of this user are. Root trusts only its own: undoing is done with the rights of the one who undoes.
func journalDir() (string, error) {
	if os.Geteuid() == 0 {
		return journalRoot, nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "firedrill"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &drill.Error{Op: "journal", Kind: drill.Unsupported, Err: err, Hint: "set XDG_STATE_HOME to a directory that survives a restart"}
	}
	return filepath.Join(home, ".local", "state", "firedrill"), nil
}

// Journal is how changes that the kernel does not take back are taken back all the same: each is written down and synced before it is
// made. It is one file for each attack, locked as long as the worker or its guardian lives. Its methods may be called from several
// goroutines. A nil Journal holds nothing.
type Journal struct {
	dir  string
	file *os.File
	mark func(string) // called before each durable effect; tests die there

	mu     sync.Mutex // guards the fields below
	record record
}

// createJournal makes the journal of an attack, complete with its header or not at all.
func createJournal(dir string, h header, mark func(string)) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := trustDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, h.GUID+journalSuffix)
	fresh := filepath.Join(dir, h.GUID+newSuffix)
	file, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, file: file, mark: mark, record: record{done: map[int]bool{}}}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = j.append(entry{Header: &h})
	}
	if err == nil {
		mark("name the journal")
		// Never over an older one, which may still hold something to undo.
		err = unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		_, _ = os.Remove(fresh), file.Close()
		return nil, err
	}
	return j, nil
}

// trustDir refuses a directory into which somebody else could put a journal for us to carry out.
func trustDir(dir string) error {
	var status unix.Stat_t
	if err := unix.Lstat(dir, &status); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if status.Mode&unix.S_IFMT != unix.S_IFDIR || int(status.Uid) != os.Geteuid() || status.Mode&0o022 != 0 {
		return fmt.Errorf("%s must be a directory that only its owner, user %d, can write", dir, os.Geteuid())
	}
	return nil
}

func syncDir(dir string) error {
	opened, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

// load reads what the file says now: the worker, its guardian and a later start may each have written.
func (j *Journal) load() error {
	text, err := io.ReadAll(io.NewSectionReader(j.file, 0, 1<<62))
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.record = parseJournal(text)
	return nil
}

// append writes entries and syncs them; after an error none of them is in the file.
func (j *Journal) append(entries ...entry) error {
	var text []byte
	for _, e := range entries {
		encoded, err := encodeEntry(e)
		if err != nil {
			return err
		}
		text = append(text, encoded...)
	}
	j.mark("write the journal")
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	_, err = j.file.Write(text)
	if err == nil {
		j.mark("sync the journal")
		err = j.file.Sync()
	}
	if err != nil {
		return errors.Join(err, j.file.Truncate(info.Size()))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range entries {
		j.record.add(e)
	}
	return nil
}

// Record writes down the changes that make returns, and has them on disk when it returns nil: only then may they be made. make is told
// what other attacks of the same kind hold; nobody of them records or undoes anything meanwhile. When ctx is over it returns its error: a
// host that was held up, or a slow disk, must not let a change be made past the deadline.
func (j *Journal) Record(ctx context.Context, make func(others []Change) ([]Change, error)) error {
	release, err := lockDir(ctx, j.dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer release()
	changes, err := make(j.Others())
	if err != nil || len(changes) == 0 {
		return err
	}
	entries := []entry{}
	j.mu.Lock()
	next := len(j.record.changes) + 1
	j.mu.Unlock()
	for i, change := range changes {
		entries = append(entries, entry{Change: &numbered{Number: next + i, Change: change}})
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.append(entries...); err != nil {
		return unwritable(j.dir, err)
	}
	return ctx.Err()
}

func unwritable(dir string, err error) error {
	return &drill.Error{Op: "journal", Kind: drill.Refused, Err: fmt.Errorf("what cannot be written down first is not changed: %w", err),
		Hint: "make room, or make " + dir + " writable"}
}

// Undo takes back every change that is open, the last one first, and marks it done. It goes on after an error and returns all of them.
func (j *Journal) Undo(ctx context.Context, kind Undoer) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	open := j.record.open()
	j.mu.Unlock()
	if len(open) == 0 {
		return nil
	}
	// Without the lock two attacks that end at once could each leave it to the other; but a lock that cannot be had must not stop us.
	release, err := lockDir(ctx, j.dir)
	if err == nil {
		defer release()
	}
	others := j.Others()
	var errs []error
	for i := len(open) - 1; i >= 0; i-- {
		j.mark("undo")
		if err := kind.Undo(ctx, open[i].Change, others); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", open[i].What, err))
			continue
		}
		j.done(open[i].Number)
	}
	return errors.Join(errs...)
}

// done marks a change as taken back. A full disk does not matter: taking it back again changes nothing.
func (j *Journal) done(number int) {
	if err := j.append(entry{Done: number}); err != nil {
		j.mu.Lock()
		j.record.done[number] = true
		j.mu.Unlock()
	}
}

// Others returns what other attacks of the same kind hold now.
func (j *Journal) Others() []Change {
	if j == nil {
		return nil
	}
	var others []Change
	for _, name := range journalNames(j.dir) {
		if strings.TrimSuffix(name, journalSuffix) == j.record.header.GUID {
			continue
		}
		text, err := os.ReadFile(filepath.Join(j.dir, name))
		if err != nil {
			continue // it has just ended
		}
		r := parseJournal(text)
		if r.header == nil || r.header.Attack != j.record.header.Attack {
			continue
		}
		for _, open := range r.open() {
			others = append(others, open.Change)
		}
	}
	return others
}

func journalNames(dir string) []string {
	entries, _ := os.ReadDir(dir) // no directory, no journals
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), journalSuffix) {
			names = append(names, e.Name())
		}
	}
	return names
}

// remove ends a journal that holds nothing any more.
func (j *Journal) remove() error {
	j.mark("remove the journal")
	err := os.Remove(filepath.Join(j.dir, j.record.header.GUID+journalSuffix))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(j.dir))
}

// removed reports whether somebody has ended the journal.
func (j *Journal) removed() bool {
	var status unix.Stat_t
	return unix.Fstat(int(j.file.Fd()), &status) == nil && status.Nlink == 0
}

// lockDir keeps all other attacks of this user from recording and undoing, for a moment. The kernel releases it when we die.
func lockDir(ctx context.Context, dir string) (release func(), err error) {
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(ctx, file, lockTimeout); err != nil {
		_ = file.Close()
		return nil, err
	}
	return func() { _ = file.Close() }, nil
}

func lockFile(ctx context.Context, file *os.File, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is held by another process: %w", file.Name(), err)
		}
		if err := wait(ctx, lockPoll); err != nil {
			return err
		}
	}
}

// headerFor says whose journal it is going to be.
func headerFor(plan Plan, deadline time.Time) (header, error) {
	at, err1 := here()
	now, err2 := SinceBoot()
	self, err3 := procs.Stat(os.Getpid())
	if err := errors.Join(err1, err2, err3); err != nil {
		return header{}, err
	}
	return header{Version: journalVersion, GUID: plan.GUID, Attack: plan.Attack, Boot: at.boot, PIDs: at.pids, Worker: self.ID,
		Made: now, Deadline: now + int64(time.Until(deadline))}, nil
}
