package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"firedrill/tools/vm/guest"
)

// leftOut are parts of the root that no machine needs; an initramfs lies in memory, and is unpacked by an emulated processor.
var leftOut = []string{"dev/", "var/lib/apt/", "var/cache/", "usr/bin/perl", "usr/share/perl", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/gconv", "usr/share/i18n/", "var/lib/dpkg/info/"}

// image writes the initramfs of one boot.
type image struct{ *cpio }

// root copies a file system that mmdebstrap made.
func (i image) root(archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		name := strings.Trim(strings.TrimPrefix(header.Name, "./"), "/")
		if name == "" || slices.ContainsFunc(leftOut, func(prefix string) bool { return strings.HasPrefix(name+"/", prefix) && name+"/" != prefix }) {
			continue
		}
		if err := i.tarred(name, header, reader); err != nil {
			return err
		}
	}
}

func (i image) tarred(name string, header *tar.Header, body io.Reader) error {
	e := entry{name: name, mode: uint32(header.Mode) & 0o7777, uid: header.Uid, gid: header.Gid, major: header.Devmajor, minor: header.Devminor}
	switch header.Typeflag {
	case tar.TypeDir:
		e.mode |= typeDirectory
	case tar.TypeReg:
		e.mode, e.size, e.body = e.mode|typeRegular, header.Size, body
	case tar.TypeSymlink:
		return i.symlink(name, header.Linkname)
	case tar.TypeLink: // another name of a file; a symbolic link is as good for programs
		return i.symlink(name, "/"+strings.TrimPrefix(strings.TrimPrefix(header.Linkname, "./"), "/"))
	case tar.TypeChar:
		e.mode |= typeCharacter
	default:
		return nil
	}
	return i.add(e)
}

func (i image) symlink(name, target string) error {
	return i.add(entry{name: name, mode: typeSymlink | 0o777, size: int64(len(target)), body: strings.NewReader(target)})
}

func (i image) directory(name string) error {
	return i.add(entry{name: name, mode: typeDirectory | 0o755})
}

func (i image) text(name string, mode uint32, text []byte) error {
	return i.add(entry{name: name, mode: typeRegular | mode, size: int64(len(text)), body: bytes.NewReader(text)})
}

func (i image) file(name string, mode uint32, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return i.add(entry{name: name, mode: typeRegular | mode, size: info.Size(), body: file})
}

// serviceUnit starts the errand where systemd is process 1.
const serviceUnit = `[Unit]
Description=errand of tools/vm
After=multi-user.target dbus.socket systemd-logind.service
[Service]
Type=simple
ExecStart=/init ` + guest.ServiceArg + `
KillMode=process
OOMScoreAdjust=0
`

// errand adds what the machine is to do. files maps names below vm/ to the programs of the runs.
func (i image) errand(errand guest.Errand, init string, files map[string]string) error {
	text, err := json.Marshal(errand)
	if err != nil {
		return err
	}
	err = errors.Join(i.file("init", 0o755, init), i.text(strings.TrimPrefix(guest.Path, "/"), 0o644, text))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err = errors.Join(err, i.file("vm/"+name, 0o755, files[name]))
	}
	if errand.Systemd {
		// With an ID the machine is not new, and systemd does not set it up.
		err = errors.Join(err, i.packaged(), i.text("etc/machine-id", 0o444, []byte("0367cfe2f9fc11e8acea0242db4d1180\n")), i.text("etc/systemd/system/firedrill-vm.service", 0o644, []byte(serviceUnit)),
			i.directory("etc/systemd/system/graphical.target.wants"), i.symlink("etc/systemd/system/graphical.target.wants/firedrill-vm.service", "../firedrill-vm.service"))
	}
	return err
}

// recoverUnit is what our package brings for the next start of a host that went down under an attack.
const recoverUnit = "firedrill-recover.service"

// packaged adds what a host has where our package is installed and the unit enabled.
func (i image) packaged() error {
	wants := "etc/systemd/system/basic.target.wants"
	return errors.Join(i.symlink("usr/bin/firedrill", "/vm/firedrill"), i.file("etc/systemd/system/"+recoverUnit, 0o644, "packaging/"+recoverUnit),
		i.directory(wants), i.symlink(wants+"/"+recoverUnit, "../"+recoverUnit))
}

// moduleFolders are the parts of a kernel that machines may need. What is not there is not there for a real host either.
var moduleFolders = []string{"kernel/net/", "kernel/lib/", "kernel/crypto/", "kernel/arch/", "kernel/drivers/virtio/", "kernel/drivers/block/virtio", "kernel/drivers/block/loop",
	"kernel/drivers/net/dummy", "kernel/drivers/net/ifb", "kernel/drivers/net/tun", "kernel/drivers/net/veth", "kernel/drivers/net/virtio", "kernel/drivers/net/bonding/",
	"kernel/drivers/net/ipvlan/", "kernel/drivers/net/macvlan", "kernel/fs/ext4/", "kernel/fs/jbd2/", "kernel/fs/mbcache", "kernel/fs/overlayfs/", "kernel/fs/fuse/"}

// modules adds the modules of a kernel, for modprobe, which a kernel calls when something needs one.
func (i image) modules(k kernel) error {
	under := "usr/lib/modules/" + filepath.Base(k.modules)
	made := map[string]bool{"usr/lib": true}
	return filepath.WalkDir(k.modules, func(path string, item fs.DirEntry, err error) error {
		if err != nil || !item.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(k.modules, path)
		if err != nil {
			return err
		}
		if strings.Contains(name, "/") && !slices.ContainsFunc(moduleFolders, func(folder string) bool { return strings.HasPrefix(name, folder) }) {
			return nil
		}
		if err := i.parents(under+"/"+name, made); err != nil {
			return err
		}
		return i.file(under+"/"+name, 0o644, path)
	})
}

// parents adds the directories above a file that are not made yet.
func (i image) parents(name string, made map[string]bool) error {
	above := filepath.Dir(name)
	if above == "." || made[above] {
		return nil
	}
	made[above] = true
	return errors.Join(i.parents(above, made), i.directory(above))
}
