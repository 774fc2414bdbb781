//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"firedrill/internal/attest"
	"firedrill/internal/stage"
)

const (
	// evidenceSettles is how long ago the last change of a file must be before what was read of it is kept: changes that are closer to each other
	// than the clock of a file system is fine look like one.
	evidenceSettles = 10 * time.Second
	// evidenceDay is after how long a log is judged again although nothing shows that it was changed: what a disk loses by itself, and what is written
	// through memory, leaves no trace. Logs come due one by one.
	evidenceDay = 24 * time.Hour
	// evidenceMax bounds the logs of which is remembered what they prove, about a kilobyte each. Those beyond are judged again each time.
	evidenceMax = 100_000
)

// evidenceBook remembers what logs below some directories prove, as long as they are as they were. Only one goroutine uses it.
type evidenceBook struct {
	log   *slog.Logger
	clock func() time.Time
	known map[string]proven // by path of the log
	read  int               // logs that were judged so far

	credulous bool // planted bug: a log that is as large and as old as before is the same
}

// proven is what a log proved when it was judged.
type proven struct {
	stamp      string
	at         time.Time
	run        *stage.Run
	rehearsals []stage.Rehearsal
}

func newEvidenceBook(log *slog.Logger) *evidenceBook {
	return &evidenceBook{log: log, clock: time.Now, known: map[string]proven{}}
}

// gather returns what the logs below directories prove, as gather does for firedrill stage, and forgets logs that are not there any more.
func (b *evidenceBook) gather(ctx context.Context, directories []string) (stage.Evidence, error) {
	var all stage.Evidence
	seen := map[string]bool{}
	for _, directory := range directories {
		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil || entry.IsDir() || entry.Name() != logName || seen[path] {
				return err
			}
			seen[path] = true
			b.one(ctx, path, &all)
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return all, err
		}
	}
	for path := range b.known {
		if !seen[path] {
			delete(b.known, path)
		}
	}
	return all, nil
}

// one adds what a log proves. One that proves nothing is read again each time, and told each time.
func (b *evidenceBook) one(ctx context.Context, path string, all *stage.Evidence) {
	now := b.clock()
	stamp, changed, unsure := b.stamp(path)
	if known, ok := b.known[path]; ok && unsure == nil && known.stamp == stamp && now.Sub(known.at) < due(path) && !now.Before(known.at) {
		known.add(all)
		return
	}
	delete(b.known, path)
	b.read++
	var found stage.Evidence
	if err := oneResult(path, &found); err != nil {
		b.log.DebugContext(ctx, "a log is no evidence", "log", path, "error", err)
		return
	}
	fresh := proven{at: now, rehearsals: found.Rehearsals}
	for _, run := range found.Runs {
		slim := run.Slim()
		fresh.run = &slim
	}
	fresh.add(all)
	after, _, err := b.stamp(path)
	if unsure != nil || err != nil || after != stamp || !b.credulous && now.Sub(changed) < evidenceSettles || len(b.known) >= evidenceMax {
		return // it is being written, or may be changed once more without a trace
	}
	fresh.stamp = stamp
	b.known[path] = fresh
}

func (p proven) add(all *stage.Evidence) {
	if p.run != nil {
		all.Runs = append(all.Runs, *p.run)
	}
	all.Rehearsals = append(all.Rehearsals, p.rehearsals...)
}

// due is when a log is judged again in any case: within a day, and not all on the same occasion.
func due(path string) time.Duration {
	part := 0
	for _, b := range []byte(path) {
		part = (part*31 + int(b)) % 1000
	}
	return evidenceDay - evidenceDay/2*time.Duration(part)/1000
}

// stamp tells whether a log, and what was attested with it, is as it was: which files these are, how large, and when they were changed. The moment of
// the change is the kernel's (ctime): unlike the date of a file, nobody sets it. It returns the last such moment, too.
func (b *evidenceBook) stamp(path string) (stamp string, changed time.Time, err error) {
	var text strings.Builder
	one := func(path string) error {
		about, err := os.Stat(path)
		if err != nil {
			return err
		}
		system, ok := about.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: the kernel does not say when it was changed", path)
		}
		if b.credulous {
			fmt.Fprintln(&text, path, about.Size(), about.ModTime().UnixNano())
			return nil
		}
		at := time.Unix(system.Ctim.Unix())
		if at.After(changed) {
			changed = at
		}
		fmt.Fprintln(&text, path, about.Mode(), about.Size(), about.ModTime().UnixNano(), at.UnixNano(), system.Dev, system.Ino)
		return nil
	}
	if err := one(path); err != nil {
		return "", changed, err
	}
	directory := filepath.Dir(path)
	if _, err := os.Stat(filepath.Join(directory, attest.FileName)); errors.Is(err, fs.ErrNotExist) {
		return text.String(), changed, nil
	}
	entries, err := os.ReadDir(directory) // an attestation is of files beside the log
	for _, entry := range entries {
		if err == nil && !entry.IsDir() {
			err = one(filepath.Join(directory, entry.Name()))
		}
	}
	return text.String(), changed, err
}
