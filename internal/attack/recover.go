package attack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

const (
	// A guardian that has just lost its worker is at work: that long it is waited for.
	relievePatience = 5 * time.Second
	// Past the deadline by more than this, whoever still holds a journal is frozen.
	frozenPatience = 5 * time.Second
)

// Recover takes back what attacks of this user left whose worker and guardian are both dead, or frozen past their deadline, and says
// what. What belongs to a live attack is not touched. Every start of a command that touches the host calls it first; it costs one look
// into a directory when nothing is left. It may be killed anywhere and called again.
//
// The error is of kind drill.NotReverted when something could not be taken back; the journal stays then.
func Recover(ctx context.Context, kinds []Kind) (taken []string, err error) {
	dir, err := journalDir()
	if err != nil {
		return nil, nil // a user without a home never had a journal
	}
	return recovery{dir: dir, kinds: kinds, mark: func(string) {}}.all(ctx)
}

// recovery is one round of Recover.
type recovery struct {
	dir   string
	kinds []Kind
	mark  func(string)
}

func (r recovery) all(ctx context.Context) (taken []string, err error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil, nil // where this user may not look, it never wrote: an attack that cannot write its journal does not start
	}
	if err == nil {
		err = trustDir(r.dir)
	}
	if err != nil {
		return nil, &drill.Error{Op: "recover", Kind: drill.NotReverted, Err: err, Hint: "whether something is left is not known: look into " + r.dir}
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(r.dir, e.Name())
		switch {
		case strings.HasSuffix(e.Name(), newSuffix):
			r.discard(path)
		case strings.HasSuffix(e.Name(), journalSuffix):
			done, err := r.one(ctx, path)
			taken = append(taken, done...)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", path, err))
			}
		}
	}
	if len(errs) > 0 {
		return taken, &drill.Error{Op: "recover", Kind: drill.NotReverted, Err: errors.Join(errs...),
			Hint: "the file says what was changed; take it back by hand, then remove the file"}
	}
	return taken, nil
}

// discard removes a journal that never got its name: nothing was changed under it.
func (r recovery) discard(path string) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = os.Remove(path)
	}
}

// one takes back what one journal holds, if nobody else does.
func (r recovery) one(ctx context.Context, path string) (taken []string, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, unix.EROFS) {
		file, err = os.Open(path) // what cannot be marked as done can be taken back all the same
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	j := &Journal{dir: r.dir, file: file, mark: r.mark}
	if err := j.load(); err != nil {
		return nil, err
	}
	at, err := here()
	if err != nil {
		return nil, err
	}
	if free, err := r.seize(ctx, j, at); err != nil || !free {
		return nil, err
	}
	// The last one to write may have ended between our look and our lock.
	if err := j.load(); err != nil || j.removed() {
		return nil, err
	}
	return r.settle(ctx, j, at)
}

// seize locks a journal whose attack is dead, and waits for a guardian that is at work. It reports false for a live attack.
func (r recovery) seize(ctx context.Context, j *Journal, at place) (bool, error) {
	err := unix.Flock(int(j.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return false, err
	}
	if h := j.record.header; h != nil {
		now, err := SinceBoot()
		if err != nil || at.elsewhere(*h) {
			return false, err
		}
		if now > h.Deadline+int64(frozenPatience) {
			r.endFrozen(j)
		} else if _, err := procs.Find(h.Worker); err == nil {
			return false, nil
		}
	}
	if err := lockFile(ctx, j.file, relievePatience); err != nil {
		return false, fmt.Errorf("its guardian is still at work: %w", err)
	}
	return true, nil
}

// endFrozen kills who holds a journal past its deadline.
func (r recovery) endFrozen(j *Journal) {
	holders := []procs.ID{j.record.header.Worker}
	if j.record.guardian != nil {
		holders = append(holders, *j.record.guardian)
	}
	for _, id := range holders {
		_ = procs.Signal(id, unix.SIGKILL)
	}
}

// settle undoes a journal that is ours now.
func (r recovery) settle(ctx context.Context, j *Journal, at place) (taken []string, err error) {
	h := j.record.header
	if h == nil && !j.record.damaged {
		return nil, removeFile(j)
	}
	switch {
	case h == nil:
		return nil, errors.New("the journal is damaged at its beginning")
	case h.Version != journalVersion:
		return nil, fmt.Errorf("written by another version of firedrill (%d, this one reads %d)", h.Version, journalVersion)
	case at.elsewhere(*h):
		return nil, errors.New("it belongs to another PID namespace of this host: run firedrill recover there")
	}
	kind, known := undoerOf(r.kinds, h.Attack)
	if !known {
		return nil, fmt.Errorf("this build of firedrill knows no attack %q", h.Attack)
	}
	if !j.record.damaged {
		_ = j.file.Truncate(j.record.whole) // what follows is a torn line, and ours must not be glued to it
	}
	for _, open := range j.record.open() {
		if at.before(*h) && !open.Survives {
			j.done(open.Number)
			continue
		}
		taken = append(taken, h.Attack+" "+h.GUID+": "+open.What)
	}
	if err := j.Undo(ctx, kind); err != nil {
		return taken, err
	}
	if j.record.damaged {
		return taken, errors.New("the journal is damaged: what can be read of it is taken back")
	}
	return taken, j.remove()
}

func removeFile(j *Journal) error {
	j.mark("remove the journal")
	return errors.Join(os.Remove(j.file.Name()), syncDir(j.dir))
}
