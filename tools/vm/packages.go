package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// needed maps a program that we start to the Debian package that brings it.
var needed = [][2]string{
	{"qemu-system-x86_64", "qemu-system-x86"}, {"mmdebstrap", "mmdebstrap"}, {"mkfs.ext4", "e2fsprogs"}, {"depmod", "kmod"}, {"dpkg-deb", "dpkg"},
}

// install brings the packages whose programs are missing.
func install() error {
	var missing []string
	for _, pair := range needed {
		if _, err := exec.LookPath(pair[0]); err == nil {
			continue
		}
		if _, err := os.Stat("/usr/sbin/" + pair[0]); err != nil {
			missing = append(missing, pair[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Printf("Installing what boots machines: %s\n", strings.Join(missing, " "))
	get := []string{"env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq", "-y", "--no-install-recommends", "install"}
	if os.Getuid() != 0 {
		get = append([]string{"sudo"}, get...)
	}
	if _, err := output("", append(get, missing...)...); err != nil {
		return fmt.Errorf("%w; install by hand: apt-get install %s", err, strings.Join(missing, " "))
	}
	return nil
}

// output runs a program in a directory and returns what it printed; its error holds what it complained of.
func output(directory string, command ...string) (string, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = directory
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(complaint.String()))
	}
	return string(out), err
}

// kernelPackage depends on the newest kernel of a release that is made for virtual machines.
const kernelPackage = "linux-image-cloud-amd64"

// keyring has the keys of all releases that we boot.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// kernel is an unpacked package of a kernel.
type kernel struct {
	image   string // the file that is booted
	modules string // the directory that holds kernel/
}

// fetchKernel unpacks the newest kernel of a Debian release into the cache, unless one is there.
func fetchKernel(cache, release string) (kernel, error) {
	directory := filepath.Join(cache, "kernel-"+release)
	if found, err := findKernel(directory); err == nil {
		return found, nil
	}
	fmt.Printf("Fetching the kernel of Debian %s\n", release)
	apt, err := aptOf(cache, release)
	if err != nil {
		return kernel{}, err
	}
	if _, err := output("", append([]string{"apt-get", "-qq", "update"}, apt...)...); err != nil {
		return kernel{}, err
	}
	depends, err := output("", append(append([]string{"apt-cache"}, apt...), "depends", "--important", kernelPackage)...)
	if err != nil {
		return kernel{}, err
	}
	name := dependency(depends)
	if name == "" {
		return kernel{}, fmt.Errorf("%s of Debian %s depends on no kernel: %s", kernelPackage, release, depends)
	}
	fresh, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return kernel{}, err
	}
	defer os.RemoveAll(fresh)
	if _, err := output(fresh, append(append([]string{"apt-get", "-qq"}, apt...), "download", name)...); err != nil {
		return kernel{}, err
	}
	files, err := filepath.Glob(filepath.Join(fresh, "*.deb"))
	if err != nil || len(files) != 1 {
		return kernel{}, fmt.Errorf("apt-get download %s brought %d files: %w", name, len(files), errors.Join(err))
	}
	unpacked := filepath.Join(fresh, "root")
	if _, err := output("", "dpkg-deb", "-x", files[0], unpacked); err != nil {
		return kernel{}, err
	}
	found, err := findKernel(unpacked)
	if err != nil {
		return kernel{}, err
	}
	base := strings.TrimSuffix(found.modules, "/lib/modules/"+found.release())
	if _, err := output("", "env", sbinPath(), "depmod", "-b", base, found.release()); err != nil {
		return kernel{}, err
	}
	if err := errors.Join(os.RemoveAll(directory), os.Rename(unpacked, directory)); err != nil {
		return kernel{}, err
	}
	return findKernel(directory)
}

// release is the version that the kernel says of itself.
func (k kernel) release() string { return filepath.Base(k.modules) }

// sbinPath finds the programs of administrators, which are not on every user's path.
func sbinPath() string { return "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin" }

// dependency finds the kernel in what apt-cache depends prints.
func dependency(text string) string {
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(name, "linux-image-") {
			return name
		}
	}
	return ""
}

func findKernel(directory string) (kernel, error) {
	images, err := filepath.Glob(filepath.Join(directory, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("%s: %d kernels: %w", directory, len(images), errors.Join(err))
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	for _, below := range []string{"lib/modules", "usr/lib/modules"} {
		modules := filepath.Join(directory, below, release)
		if _, err := os.Stat(modules); err == nil {
			return kernel{image: images[0], modules: modules}, nil
		}
	}
	return kernel{}, fmt.Errorf("%s has no modules", directory)
}

// aptOf makes apt look at one release only, whatever this machine runs, and keep what it learns in our cache.
func aptOf(cache, release string) ([]string, error) {
	state := filepath.Join(cache, "apt-"+release)
	sources := filepath.Join(state, "sources.list")
	known, err := output("", "apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	lists, err := listsOf(known, release)
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.MkdirAll(filepath.Join(state, "state/lists/partial"), 0o755), os.MkdirAll(filepath.Join(state, "cache/archives/partial"), 0o755))
	if err == nil {
		err = errors.Join(os.WriteFile(sources, []byte(lists), 0o644), os.WriteFile(filepath.Join(state, "status"), nil, 0o644))
	}
	var options []string
	for _, option := range []string{
		"Dir::State=" + state + "/state", "Dir::State::status=" + state + "/status", "Dir::Cache=" + state + "/cache", "Dir::Etc::sourcelist=" + sources,
		"Dir::Etc::sourceparts=-", "APT::Architecture=amd64", "APT::Sandbox::User=root",
	} {
		options = append(options, "-o", option)
	}
	return options, err
}

// listsOf makes a list of sources for a release out of the places that this machine's apt fetches Debian from, as apt-get prints them with
// their labels.
func listsOf(known, release string) (string, error) {
	places := map[string]string{}
	for line := range strings.Lines(known) {
		if place, label, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			places[label] = place
		}
	}
	var lists string
	for _, source := range []struct{ label, suite string }{{"Debian", release}, {"Debian-Security", release + "-security"}} {
		if places[source.label] == "" {
			return "", fmt.Errorf("apt knows no place for %s; run apt-get update on a Debian with its security updates", source.label)
		}
		lists += fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, places[source.label], source.suite)
	}
	return lists, nil
}

// rootRelease is the release of the file system of all machines; its programs run on every kernel here.
const rootRelease = "bookworm"

// rootPackages is what tests start, and systemd with what it needs to take a machine down.
const rootPackages = "systemd,systemd-sysv,dbus,nftables,iproute2,procps,kmod"

// fetchRoot makes a minimal Debian in the cache, unless one is there, and returns it as an archive.
func fetchRoot(cache string) (string, error) {
	archive := filepath.Join(cache, fmt.Sprintf("root-%s-%08x.tar", rootRelease, crc32.ChecksumIEEE([]byte(rootPackages))))
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	fmt.Println("Making a minimal Debian, once; it takes a minute")
	make := []string{"mmdebstrap", "--quiet", "--variant=minbase", "--include=" + rootPackages, "--aptopt=Apt::Install-Recommends \"false\""}
	for _, excluded := range []string{"/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/zoneinfo/*"} {
		make = append(make, "--dpkgopt=path-exclude="+excluded)
	}
	fresh := archive + ".fresh.tar"
	if _, err := output("", append(make, rootRelease, fresh)...); err != nil {
		return "", err
	}
	return archive, os.Rename(fresh, archive)
}
