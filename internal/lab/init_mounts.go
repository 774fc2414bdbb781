package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const quiet = unix.MS_NOSUID | unix.MS_NODEV

// mounts makes the host's file system view and returns its boot id. The disk, which is also /, and /etc are there already; new at every
// boot are /run, /tmp, /dev, /proc and /sys.
func (i *hostInit) mounts() (bootID string, err error) {
	unix.Umask(0)
	root := filepath.Join(worldHosts, i.host.Name)
	if i.config.First {
		if err := skeleton(root, i.config.Links); err != nil {
			return "", err
		}
	}
	for _, tree := range i.config.Trees {
		to := filepath.Join(root, tree)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return "", fmt.Errorf("share /%s: %w", tree, err)
		}
		if err := unix.Mount(filepath.Join(worldBase, tree), to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return "", fmt.Errorf("share /%s: %w", tree, err)
		}
	}
	if err := mountVolatile(root); err != nil {
		return "", err
	}
	if err := devices(filepath.Join(root, "dev")); err != nil {
		return "", err
	}
	if err := os.MkdirAll(root+hostOld, 0o700); err != nil {
		return "", fmt.Errorf("pivot: %w", err)
	}
	if err := unix.PivotRoot(root, root+hostOld); err != nil {
		return "", fmt.Errorf("pivot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return "", fmt.Errorf("pivot: %w", err)
	}
	// From here on paths mean what they mean on the host, so that its own links lead where they should.
	if bootID, err = i.ownFiles(); err != nil {
		return "", err
	}
	if err := i.topologyFiles(); err != nil {
		return "", err
	}
	if err := restrictProc(); err != nil {
		return "", err
	}
	if err := unix.Unmount(hostOld, unix.MNT_DETACH); err != nil {
		return "", fmt.Errorf("let go of the world: %w", err)
	}
	_ = os.Remove(hostOld)
	unix.Umask(0o022)
	if err := os.Chdir("/root"); err != nil { // where SFTP starts
		return "", fmt.Errorf("disk: %w", err)
	}
	return bootID, nil
}

// skeleton makes the directories of a new disk.
func skeleton(root string, links map[string]string) error {
	dirs := []struct {
		path string
		mode os.FileMode
	}{
		{"root", 0o700}, {"home", 0o755}, {"srv", 0o755}, {"mnt", 0o755}, {"media", 0o755}, {"etc", 0o755}, {"dev", 0o755},
		{"proc", 0o555}, {"sys", 0o555}, {"run", 0o755}, {"tmp", 0o777 | os.ModeSticky}, {"var", 0o755}, {"var/log", 0o755},
		{"var/lib", 0o755}, {"var/cache", 0o755}, {"var/spool", 0o755}, {"var/tmp", 0o777 | os.ModeSticky}, {"root/.ssh", 0o700},
	}
	for _, d := range dirs {
		path := filepath.Join(root, d.path)
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("disk: %w", err)
		}
		if err := os.Chmod(path, d.mode); err != nil {
			return fmt.Errorf("disk: %w", err)
		}
	}
	own := map[string]string{"var/run": "/run", "var/lock": "/run/lock"}
	for _, all := range []map[string]string{links, own} {
		for name, target := range all {
			if err := os.Symlink(target, filepath.Join(root, name)); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("disk: %w", err)
			}
		}
	}
	return nil
}

// mountVolatile mounts what does not outlive a boot.
func mountVolatile(root string) error {
	for _, m := range []struct {
		path, kind, options string
		flags               uintptr
	}{
		{"run", "tmpfs", "mode=755,size=" + runSize, quiet},
		{"tmp", "tmpfs", "mode=1777,size=" + tmpSize, quiet},
		{"dev", "tmpfs", "mode=755,size=1m", unix.MS_NOSUID},
		{"proc", "proc", "", quiet | unix.MS_NOEXEC},
	} {
		if err := unix.Mount(m.kind, filepath.Join(root, m.path), m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount /%s: %w", m.path, err)
		}
	}
	// A kernel may refuse sysfs to a user namespace; hosts can do without.
	_ = unix.Mount("sysfs", filepath.Join(root, "sys"), "sysfs", quiet|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	for _, dir := range []string{hostRun, hostBin, "/run/lock"} {
		if err := os.Mkdir(root+dir, 0o755); err != nil {
			return fmt.Errorf("mount /run: %w", err)
		}
	}
	return nil
}

// devices fills dev with the machine's harmless devices, shown rather than made: making them takes more rights.
func devices(dev string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bindFile(filepath.Join(worldMachine, "dev", name), filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("/dev/%s: %w", name, err)
		}
	}
	for _, dir := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return fmt.Errorf("/dev: %w", err)
		}
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	if err := unix.Mount("shm", filepath.Join(dev, "shm"), "tmpfs", quiet, "mode=1777,size="+shmSize); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("/dev: %w", err)
		}
	}
	return nil
}

// restrictProc makes read-only, or hides, what in /proc is the machine's. When an ordinary user made the lab the kernel forbids most of it
// anyway; when root did, this is what keeps a host from it, together with the missing capability to mount.
func restrictProc() error {
	for _, path := range []string{"/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/acpi", "/proc/scsi"} {
		if err := remountProc(path, unix.MS_RDONLY); err != nil {
			return err
		}
	}
	// The network part belongs to the host's own namespace.
	if err := remountProc("/proc/sys/net", 0); err != nil {
		return err
	}
	for _, path := range []string{"/proc/sysrq-trigger", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/mtrr"} {
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		if err := unix.Mount("/dev/null", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("hide %s: %w", path, err)
		}
	}
	// Every boot has an id of its own; the kernel's is the machine's.
	if err := unix.Mount(hostBootID, "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("boot id: %w", err)
	}
	return nil
}

func remountProc(path string, access uintptr) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("restrict %s: %w", path, err)
	}
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|quiet|unix.MS_NOEXEC|access, ""); err != nil {
		return fmt.Errorf("restrict %s: %w", path, err)
	}
	return nil
}

// ownFiles writes what every host has: its tools, its boot id, and on a new disk its names and keys.
func (i *hostInit) ownFiles() (bootID string, err error) {
	for name, from := range map[string]string{"lab": hostRun + "/lab", "firedrill": hostBin + "/firedrill"} {
		if err := bindFile(hostOld+worldBase+"/"+name, from); err != nil {
			return "", fmt.Errorf("program %s: %w", name, err)
		}
	}
	for _, tool := range []string{nameSystemctl, nameSudo} {
		if err := os.Symlink(hostRun+"/lab", filepath.Join(hostBin, tool)); err != nil {
			return "", fmt.Errorf("tool %s: %w", tool, err)
		}
	}
	bootID = newBootID()
	if err := os.WriteFile(hostBootID, []byte(bootID+"\n"), 0o444); err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	if i.config.EtcLinks {
		if err := i.linkEtc(); err != nil {
			return "", err
		}
	}
	if !i.config.First {
		return bootID, nil
	}
	k := i.config.Keys[i.host.Name]
	for _, f := range []struct {
		path, text string
		mode       os.FileMode
	}{
		{"/etc/hostname", i.host.Hostname + "\n", 0o644},
		{"/etc/hosts", hostsFile(i.config.Topology, i.host), 0o644},
		{"/etc/resolv.conf", resolverFile(i.host), 0o644},
		{"/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n", 0o644},
		{"/root/.ssh/id_ed25519", k.RootPrivate, 0o600},
		{"/root/.ssh/id_ed25519.pub", k.RootPublic + " root@" + i.host.Name + "\n", 0o644},
		{"/root/.ssh/known_hosts", knownHosts(i.config.Topology, i.config.Keys), 0o644},
		{"/root/.ssh/authorized_keys", authorizedKeys(i.host, i.config.Keys), 0o600},
	} {
		if err := replaceFile(f.path, f.text, f.mode); err != nil {
			return "", err
		}
	}
	return bootID, nil
}

// linkEtc stands in for the overlay: the machine's /etc on the side, and a link in /etc for each of its entries that the host lacks.
func (i *hostInit) linkEtc() error {
	if err := os.Mkdir(hostEtc, 0o755); err != nil {
		return fmt.Errorf("/etc: %w", err)
	}
	if err := bindReadOnly(hostOld+worldMachine+"/etc", hostEtc); err != nil {
		return fmt.Errorf("/etc: %w", err)
	}
	if !i.config.First {
		return nil
	}
	entries, err := os.ReadDir(hostEtc)
	if err != nil {
		return fmt.Errorf("/etc: %w", err)
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(hostEtc, e.Name()), filepath.Join("/etc", e.Name())); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("/etc: %w", err)
		}
	}
	return nil
}

// newBootID is a random UUID.
func newBootID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// volatile tells whether a path of the host is new at every boot.
func volatile(path string) bool {
	for _, dir := range []string{"/run/", "/tmp/", "/var/run/", "/var/lock/", "/dev/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}
