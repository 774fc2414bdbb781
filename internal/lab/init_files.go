package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// topologyFiles puts the files and mounts of the topology file into place.
func (i *hostInit) topologyFiles() error {
	for _, m := range i.host.Mounts {
		if err := showMount(m); err != nil {
			return &drill.Error{Op: "mount " + m.Target, Host: i.host.Name, Kind: drill.Invalid, Err: err}
		}
	}
	for _, f := range i.host.Files {
		if !i.config.First && !volatile(f.Path) {
			continue
		}
		err := os.MkdirAll(filepath.Dir(f.Path), 0o755)
		if err == nil && f.Source == "" {
			err = replaceFile(f.Path, f.Text, f.Mode)
		} else if err == nil {
			err = copyTree(hostOld+worldMachine+f.Source, f.Path)
		}
		if err != nil {
			return &drill.Error{Op: "file " + f.Path, Host: i.host.Name, Kind: drill.Invalid, Err: err}
		}
	}
	return nil
}

func showMount(m Mount) error {
	from := hostOld + worldMachine + m.Source
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(m.Target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(m.Target), 0o755); err == nil {
		var f *os.File
		if f, err = os.OpenFile(m.Target, os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return err
	}
	if m.ReadOnly {
		return bindReadOnly(from, m.Target)
	}
	return unix.Mount(from, m.Target, "", unix.MS_BIND|unix.MS_REC, "")
}

// replaceFile writes a new file in place of what is there, which may be a link to the machine's.
func replaceFile(path, text string, mode os.FileMode) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text), mode.Perm()); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	// The mode as asked for, whatever the umask.
	if err := os.Chmod(path, mode.Perm()); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// copyTree copies a file or directory, with modes and links; the owner is root.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		part, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, part)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
			return os.Chmod(target, info.Mode().Perm())
		case info.Mode()&os.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			_ = os.Remove(target)
			return os.Symlink(link, target)
		case info.Mode().IsRegular():
			return copyFile(path, target, info.Mode().Perm())
		}
		return nil // sockets and devices are of no use on another host
	})
}

func copyFile(from, to string, mode os.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		_ = target.Close()
		return err
	}
	return target.Close()
}

// writeFrom writes what comes out of files[0] to m.Path: beside it first, so that nobody sees half of it.
func writeFrom(m message, files []*os.File) error {
	if len(files) != 1 || !filepath.IsAbs(m.Path) {
		return &drill.Error{Kind: drill.Invalid, Err: fmt.Errorf("write %q: an absolute path and its content are needed", m.Path)}
	}
	if err := os.MkdirAll(filepath.Dir(m.Path), 0o755); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	beside, err := os.CreateTemp(filepath.Dir(m.Path), ".write-*")
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	_, err = io.Copy(beside, files[0])
	if err == nil {
		err = beside.Chmod(m.Mode.Perm())
	}
	if closed := beside.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(beside.Name(), m.Path)
	}
	if err != nil {
		_ = os.Remove(beside.Name())
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func (i *hostInit) serveRead(c *wire, m message) {
	f, err := os.OpenFile(m.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe without a writer must not hold us
	if err != nil {
		kind := drill.Internal
		if errors.Is(err, os.ErrNotExist) {
			kind = drill.Invalid
		}
		_ = c.send(failure(opDone, &drill.Error{Kind: kind, Err: err}))
		return
	}
	defer func() { _ = f.Close() }()
	_ = c.send(message{Op: opDone}, f)
}
