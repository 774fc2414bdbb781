//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"firedrill/internal/attest"
	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// farProof is of commands that bring the files of a drill here, to prove by them what it was.
type farProof struct {
	fleetOptions
	out string // where what came is kept; empty: nowhere
}

// fetchTellEvery is between lines that say how far fetching is.
const fetchTellEvery = 5 * time.Second

// brought is a drill of a server with its files, as they came.
type brought struct {
	asked     string // by which name
	run       fleet.DrillRun
	directory string // that holds them, below the one for what is kept
}

// bring fetches the files of a drill into a directory of its own. What else is to be done with them is for whoever calls; discard removes them, and
// does nothing after keep.
func (p farProof) bring(ctx context.Context, s streams, id string) (brought, error) {
	b := brought{asked: id}
	c, _, err := p.connect()
	if err != nil {
		return b, err
	}
	defer c.Close()
	if p.out != "" {
		if err := os.MkdirAll(p.out, 0o755); err != nil {
			return b, &drill.Error{Op: "make the directory of the drill", Kind: drill.Invalid, Err: err, Hint: "Name another one with --out."}
		}
	}
	if b.directory, err = os.MkdirTemp(p.out, hiddenPrefix+"fetched-*"); err != nil {
		return b, &drill.Error{Op: "fetch drill " + id, Kind: drill.Invalid, Err: err, Hint: "Make room, or name another directory with --out."}
	}
	ctx, cancel := context.WithTimeout(ctx, fleetFetchMax)
	defer cancel()
	said := time.Now()
	b.run, err = c.FetchDrill(ctx, id, b.directory, func(come, of int64) {
		if now := time.Now(); now.Sub(said) >= fetchTellEvery {
			said = now
			fmt.Fprintf(s.err, "firedrill: fetched %d of %d MiB\n", come>>20, of>>20)
		}
	})
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		err = &drill.Error{Op: "fetch drill " + id, Kind: drill.Interrupted, Err: errors.New("ended before it was whole; nothing of it is kept")}
	}
	if err == nil {
		if _, is := os.Stat(filepath.Join(b.directory, logName)); is != nil {
			err = &drill.Error{Op: "drill " + b.run.ID, Kind: drill.Unproven, Err: fmt.Errorf("its server has no log of it: %s", drillOutcomeText(b.run)), Hint: "it is kept by the server that conducted it: " + orDash(b.run.Server)}
		}
	}
	if err == nil {
		err = p.free(b)
	}
	if err != nil {
		return b, errors.Join(err, b.discard())
	}
	return b, nil
}

// hiddenPrefix is of what is being written and is no result yet.
const hiddenPrefix = "."

// kept is where the files of a drill are kept; that its name leads nowhere else was looked at when it came.
func (p farProof) kept(b brought) string { return filepath.Join(p.out, b.run.Result) }

// free refuses a drill that is kept already: what lies there may have been signed, and is not written over.
func (p farProof) free(b brought) error {
	if p.out == "" {
		return nil
	}
	if _, err := os.Lstat(p.kept(b)); !errors.Is(err, os.ErrNotExist) {
		return &drill.Error{Op: "keep drill " + b.run.ID, Kind: drill.Invalid, Err: errors.Join(fmt.Errorf("%s is there already", p.kept(b)), err), Hint: "go on with what lies there, without --server; or name another directory with --out"}
	}
	return nil
}

// keep gives the files their name, all at once.
func (p farProof) keep(b *brought) error {
	err := errors.Join(os.Chmod(b.directory, 0o755), os.Rename(b.directory, p.kept(*b)))
	if err != nil {
		return &drill.Error{Op: "keep drill " + b.run.ID, Kind: drill.Invalid, Err: err, Hint: "Name another directory with --out."}
	}
	b.directory = ""
	return nil
}

func (b brought) discard() error {
	if b.directory == "" {
		return nil
	}
	return os.RemoveAll(b.directory)
}

// verify asks every question about what came, and whether it is what was asked for and what the server says of it: files that hold together may be
// those of another drill.
func (b brought) verify(s streams, key trust) (verified, error) {
	found, err := verifyRun(s, b.directory, key.keys, key.unsigned)
	if err != nil {
		return found, err
	}
	found.check("drill", b.isWhatWasAsked(found), "it is the drill that was asked for, "+b.run.ID)
	found.check("server", b.saysTheSame(found), fmt.Sprintf("it says the same: %s, by %s on %s", b.run.Outcome, b.run.By, b.run.Started.UTC().Format("2006-01-02 15:04:05 UTC")))
	return found, nil
}

func (b brought) isWhatWasAsked(found verified) error {
	if !strings.HasSuffix(found.Run, b.asked) || found.Run != b.run.ID || found.Service != b.run.Request.Service {
		return fmt.Errorf("its files are of run %q of %q; asked for was %q, which the server says is %q of %q", found.Run, found.Service, b.asked, b.run.ID, b.run.Request.Service)
	}
	return nil
}

func (b brought) saysTheSame(found verified) error {
	if b.run.Outcome != string(found.Outcome) || b.run.Head != "" && b.run.Head != found.head {
		return fmt.Errorf("it says %s, with a log that ends with %s; the log proves %s, and ends with %s", b.run.Outcome, orDash(b.run.Head), found.Outcome, orDash(found.head))
	}
	return nil
}

// verifyFar verifies a drill of a server by its files, here.
func (p farProof) verifyFar(ctx context.Context, s streams, id string, key trust) (verified, error) {
	b, err := p.bring(ctx, s, id)
	if err != nil {
		return verified{}, err
	}
	found, err := b.verify(s, key)
	if err == nil && p.out != "" { // what was altered is worth keeping too
		err = p.keep(&b)
	}
	if err == nil && b.directory == "" {
		found.Kept = p.kept(b)
	}
	return found, errors.Join(err, b.discard())
}

// attestFar makes the reports of a drill of a server again, here, from its log, and signs them with a key that stays here. Nothing is signed for that
// does not hold, and nothing is kept then.
func (p farProof) attestFar(ctx context.Context, s streams, id, keyFile string) (attestDone, error) {
	key, err := loadSigner(s, keyFile)
	if err != nil {
		return attestDone{}, err
	}
	b, err := p.bring(ctx, s, id)
	if err != nil {
		return attestDone{}, err
	}
	done, err := p.attestBrought(streams{out: io.Discard, err: s.err}, &b, key)
	return done, errors.Join(err, b.discard())
}

func (p farProof) attestBrought(s streams, b *brought, key *attest.PrivateKey) (attestDone, error) {
	found, err := b.verify(s, trust{unsigned: true})
	if err != nil {
		return attestDone{}, err
	}
	var wrong []error
	for _, f := range found.Findings {
		if f.Answer == broken {
			wrong = append(wrong, fmt.Errorf("%s: %s", f.Name, f.Detail))
		}
	}
	if len(wrong) > 0 {
		return attestDone{}, &drill.Error{Op: "attest drill " + b.run.ID, Kind: drill.Invalid, Err: errors.Join(wrong...), Hint: "What does not hold is not signed for. See all of it, and keep it: firedrill verify " + b.run.ID + " --unsigned --out DIRECTORY --server ..."}
	}
	done, err := attestAgain(s, b.directory, key)
	if err == nil {
		err = p.keep(b)
	}
	done.Directory = p.kept(*b)
	return done, err
}
