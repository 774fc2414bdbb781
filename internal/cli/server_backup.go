//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/backup"
	"firedrill/internal/drill"
)

// serverLockName is held for as long as a server, or a backup, has the directory.
const serverLockName = "server.lock"

// holdData makes the server's directory this process's alone until release.
func holdData(data string) (release func(), err error) {
	const op = "server"
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name another directory with --data."}
	}
	file, err := hold(filepath.Join(data, serverLockName))
	if file == nil {
		return nil, &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name another directory with --data."}
	}
	if err != nil {
		return nil, errors.Join(&drill.Error{Op: op, Kind: drill.Refused, Err: fmt.Errorf("%s is in use by another server, or is being backed up", data), Hint: "Stop that one first, or name another directory with --data."}, file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// backupDone is what backup and restore print with --json.
type backupDone struct {
	File  string    `json:"file"`
	Data  string    `json:"data"`
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"` // of the files, before compression
	Made  time.Time `json:"made"`
	Tool  string    `json:"tool"` // version of the program that made the backup
}

const backupExitStatus = `

EXIT STATUS
  0    done
  2    usage, or the backup is none
  4    refused: a server runs there, or there is something already
  70   our own fault
  130  interrupted; nothing is left half done`

type backupOptions struct {
	data string
	json bool
}

func (o *backupOptions) flags(command *cobra.Command) {
	command.Flags().StringVar(&o.data, "data", serverStateOf, "the server's directory")
	command.Flags().BoolVar(&o.json, "json", false, "print JSON")
	_ = command.MarkFlagDirname("data")
}

func (o *backupOptions) done(s streams, word, file string, about backup.Manifest) error {
	done := backupDone{File: file, Data: o.data, Files: len(about.Files), Bytes: about.Bytes(), Made: about.Made, Tool: about.Tool}
	if o.json {
		return printJSON(s, done)
	}
	fmt.Fprintf(s.out, "%s: %d files, %.1f MB, as of %s\n", word, done.Files, float64(done.Bytes)/1e6, done.Made.Format(time.RFC3339))
	return nil
}

func newServerBackupCommand(s streams) *cobra.Command {
	var o backupOptions
	command := &cobra.Command{
		Use: "backup FILE", Short: "Put all that a server keeps into one file", Args: cobra.ExactArgs(1),
		Long: `Writes the directory of a server that is stopped into one compressed file, with a digest of each file in it: members, runs, verdicts, logs, the
schedule, alarms, zones, users and keys. Of several servers one may be stopped for it while the others go on.

The file holds the keys of the fleet: who has it can lead it. It is readable for its owner alone; keep it like a password.` + backupExitStatus,
		Example: "  firedrill server backup /var/backups/firedrill-2026-11-29.tar.gz",
		RunE:    func(command *cobra.Command, args []string) error { return runBackup(command.Context(), s, o, args[0]) },
	}
	o.flags(command)
	return command
}

func runBackup(ctx context.Context, s streams, o backupOptions, file string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	const op = "backup"
	if _, err := os.Stat(o.data); err != nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name the server's directory with --data."}
	}
	if _, err := os.Lstat(file); err == nil {
		return &drill.Error{Op: op, Kind: drill.Refused, Err: fmt.Errorf("%s is there already", file), Hint: "Name a file that is not."}
	}
	within, err := inside(o.data, file)
	if err == nil && within {
		err = fmt.Errorf("%s lies in the directory that is backed up", file)
	}
	if err != nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name a file elsewhere."}
	}
	release, err := holdData(o.data)
	if err != nil {
		return err
	}
	defer release()
	out, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*") // for its owner alone
	if err != nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name a file in a directory that can be written to."}
	}
	about, err := backup.Pack(ctx, o.data, out, func(name string) bool { return name == serverLockName }, backup.Manifest{Made: time.Now().UTC().Truncate(time.Second), Tool: version()})
	if err = errors.Join(err, out.Sync(), out.Close()); err == nil {
		err = os.Rename(out.Name(), file)
	}
	if err != nil {
		return errors.Join(&drill.Error{Op: op, Kind: interruptedOr(ctx, drill.Invalid), Err: err, Hint: "No backup was made."}, os.Remove(out.Name()))
	}
	return o.done(s, "backed up to "+file, file, about)
}

// interruptedOr is the kind of an error that came when ctx had ended, or another.
func interruptedOr(ctx context.Context, other drill.ErrorKind) drill.ErrorKind {
	if ctx.Err() != nil {
		return drill.Interrupted
	}
	return other
}

// inside reports whether a file that is to be made lies below a directory.
func inside(directory, file string) (bool, error) {
	directory, err1 := filepath.EvalSymlinks(directory)
	below, err2 := filepath.EvalSymlinks(filepath.Dir(file))
	if err := errors.Join(err1, err2); err != nil {
		return false, err
	}
	directory, err1 = filepath.Abs(directory)
	below, err2 = filepath.Abs(below)
	return below == directory || strings.HasPrefix(below, directory+string(filepath.Separator)), errors.Join(err1, err2)
}

func newServerRestoreCommand(s streams) *cobra.Command {
	var o backupOptions
	command := &cobra.Command{
		Use: "restore FILE", Short: "Make a server's directory from a backup", Args: cobra.ExactArgs(1),
		Long: `Makes the directory of a server from a file of firedrill server backup, only if each file in it is what it was. The directory must not be there, or be
empty. Run it as the user that the server runs as.

Agents and people know the server by its key, which is in the backup: they need not join again. What was ordered after the backup was made is not
known to it; hosts refuse orders of a term that they have heard a later one of, and reverted by themselves.` + backupExitStatus,
		Example: "  firedrill server restore --data /var/lib/firedrill-server /var/backups/firedrill-2026-11-29.tar.gz",
		RunE:    func(command *cobra.Command, args []string) error { return runRestore(command.Context(), s, o, args[0]) },
	}
	o.flags(command)
	return command
}

func runRestore(ctx context.Context, s streams, o backupOptions, file string) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	const op = "restore"
	in, err := os.Open(file)
	if err != nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name a file that firedrill server backup made."}
	}
	defer in.Close()
	entries, err := os.ReadDir(o.data)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name a directory with --data."}
	}
	if len(entries) > 0 {
		return &drill.Error{Op: op, Kind: drill.Refused, Err: fmt.Errorf("%s is not empty", o.data), Hint: "Move it away first, or name another directory with --data."}
	}
	parent := filepath.Dir(filepath.Clean(o.data))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name another directory with --data."}
	}
	fresh, err := os.MkdirTemp(parent, "."+filepath.Base(o.data)+"-restored-*")
	if err != nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Run it as a user who may write there."}
	}
	about, err := backup.Unpack(ctx, io.Reader(in), fresh)
	if err == nil {
		if err = os.Remove(o.data); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(fresh, o.data)
	}
	if err != nil {
		return errors.Join(&drill.Error{Op: op, Kind: interruptedOr(ctx, drill.Invalid), Err: fmt.Errorf("%s: %w", file, err), Hint: "Nothing was restored. Take another backup."}, os.RemoveAll(fresh))
	}
	return o.done(s, "restored to "+o.data, file, about)
}
