package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// base is what hosts share of the machine.
type base struct {
	links map[string]string
	trees []string
}

// baseNames are the machine's top-level entries that programs need; /nix and /gnu are where some distributions keep all of them.
var baseNames = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix", "gnu"}

// worldMounts moves the world into a tmpfs of its own:
//
//	/machine  the machine's file system, as it was        /hosts/NAME  the disk of a host, a tmpfs that outlives its boots
//	/base     its programs, read-only                     /state/NAME  the private layer over the machine's /etc
//	/proc     of the lab's PID namespace
func worldMounts(config worldConfig) (base, error) {
	unix.Umask(0)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return base{}, unsupported(fmt.Errorf("private mounts: %w", err))
	}
	at, err := mountPoint()
	if err != nil {
		return base{}, err
	}
	if err := unix.Mount("firedrill-lab", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size="+worldSize); err != nil {
		return base{}, unsupported(fmt.Errorf("mount tmpfs on %s: %w", at, err))
	}
	for _, dir := range []string{worldMachine, worldBase, worldHosts, worldState, "/proc"} {
		if err := os.Mkdir(at+dir, 0o755); err != nil {
			return base{}, fmt.Errorf("world: %w", err)
		}
	}
	if err := unix.PivotRoot(at, at+worldMachine); err != nil {
		return base{}, fmt.Errorf("world: pivot into %s: %w", at, err)
	}
	if err := os.Chdir("/"); err != nil {
		return base{}, fmt.Errorf("world: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return base{}, unsupported(fmt.Errorf("mount /proc: %w", err))
	}
	// Our own program, which starts as the init of each host, may need the machine's loader and C library.
	for _, name := range append([]string{"dev", "etc"}, baseNames...) {
		if err := os.Symlink(filepath.Join(worldMachine, name), "/"+name); err != nil {
			return base{}, fmt.Errorf("world: %w", err)
		}
	}
	b, err := shareBase()
	if err != nil {
		return base{}, err
	}
	if config.Rootless {
		if err := directoriesOf(worldMachine+"/etc", worldDirs); err != nil {
			return base{}, fmt.Errorf("world: /etc: %w", err)
		}
	}
	for name, path := range map[string]string{"lab": config.Exe, "firedrill": config.Binary} {
		if err := bindFile(worldMachine+path, worldBase+"/"+name); err != nil {
			return base{}, fmt.Errorf("world: share %s: %w", path, err)
		}
	}
	return b, nil
}

// mountPoint is any directory of the machine: it is covered for an instant, in our namespace only.
func mountPoint() (string, error) {
	for _, dir := range []string{"/mnt", "/media", "/srv", "/tmp", "/var"} {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			return dir, nil
		}
	}
	return "", errors.New("world: the machine has no /mnt, /media, /srv, /tmp or /var to mount on")
}

func shareBase() (base, error) {
	b := base{links: map[string]string{}}
	for _, name := range baseNames {
		from, to := filepath.Join(worldMachine, name), filepath.Join(worldBase, name)
		info, err := os.Lstat(from)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return base{}, fmt.Errorf("world: %w", err)
		case info.Mode()&os.ModeSymlink != 0:
			if b.links[name], err = os.Readlink(from); err != nil {
				return base{}, fmt.Errorf("world: %w", err)
			}
		case info.IsDir():
			if err := os.Mkdir(to, 0o755); err != nil {
				return base{}, fmt.Errorf("world: %w", err)
			}
			if err := bindReadOnly(from, to); err != nil {
				return base{}, fmt.Errorf("world: share /%s: %w", name, err)
			}
			b.trees = append(b.trees, name)
		}
	}
	return b, nil
}

// directoriesOf makes empty directories like those below from, owned by the lab's root: laid over the machine's /etc they let a lab of an
// ordinary user, to whom the machine's directories do not belong, make and replace files in them.
func directoriesOf(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil && entry != nil && entry.IsDir() && errors.Is(err, fs.ErrPermission) {
			return fs.SkipDir // what the user may not read on the machine he may not read here either
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		part, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return os.Mkdir(filepath.Join(to, part), info.Mode().Perm()|0o700)
	})
}

// bindReadOnly shows the tree from at to, with all that is mounted below, read-only.
func bindReadOnly(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return readOnly(to)
}

// readOnly makes the mount at path and all below it read-only.
func readOnly(path string) error {
	err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if errors.Is(err, unix.ENOSYS) {
		// Before 5.12: the top mount only. Flags that a user namespace has locked must be repeated.
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err != nil {
			return fmt.Errorf("read-only: %w", err)
		}
		locked := uintptr(fs.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME)
		err = unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|locked, "")
	}
	if err != nil {
		return fmt.Errorf("read-only: %w", err)
	}
	return nil
}

// bindFile shows the file from at to, which is made.
func bindFile(from, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_ = f.Close()
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	return nil
}

// unsupported is the error for what the kernel forbids: namespaces, or mounts in them. The caller, who knows who it is, adds the cure.
func unsupported(err error) error {
	return &drill.Error{Op: "lab up", Kind: drill.Unsupported, Err: err}
}
