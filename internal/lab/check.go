package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"firedrill/internal/drill"
)

// hostsMax bounds a lab: each host is an init of some 15 MB and a tmpfs.
const hostsMax = 64

// What names may look like: a lab's is part of a socket's name, a host's of a path and of DNS, a service's of a path.
var (
	labPattern      = drill.Pattern(`^[a-z0-9][a-z0-9-]{0,40}$`)
	hostPattern     = drill.Pattern(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	aliasPattern    = drill.Pattern(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	servicePattern  = drill.Pattern(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$`)
	variablePattern = drill.Pattern(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// problem is a mistake in a topology; path leads to it through the file.
type problem struct {
	path []string
	text string
}

// place is the path as people write it: hosts.blue.trust[0].
func (p problem) place() string {
	var text strings.Builder
	for i, step := range p.path {
		switch _, err := strconv.Atoi(step); {
		case err == nil:
			text.WriteString("[" + step + "]")
		case i == 0:
			text.WriteString(step)
		default:
			text.WriteString("." + step)
		}
	}
	return text.String()
}

// check refuses a topology that is wrong in itself, whatever machine it is for.
func (t *Topology) check() error {
	t.Hosts = slices.Clone(t.Hosts)
	t.fillDefaults()
	var all []error
	for _, p := range t.problems() {
		all = append(all, fmt.Errorf("%s: %s", p.place(), p.text))
	}
	if len(all) == 0 {
		return nil
	}
	return &drill.Error{Op: "lab", Kind: drill.Invalid, Err: errors.Join(all...)}
}

// checker gathers problems.
type checker struct {
	topology *Topology
	found    []problem
	names    map[string]string // each name of a host, and whose it is
	hosts    []string
}

func (c *checker) add(text string, path ...string) {
	c.found = append(c.found, problem{path: path, text: text})
}

func (t *Topology) problems() []problem {
	c := checker{topology: t, names: map[string]string{}}
	if !labPattern().MatchString(t.Name) {
		c.add(fmt.Sprintf("%q cannot name a lab; use up to 41 lower-case letters, digits and dashes", t.Name), "lab")
	}
	if t.Network.Bits() > 30 {
		c.add(fmt.Sprintf("%s has no room for two hosts", t.Network), "network")
	}
	if len(t.Hosts) == 0 || len(t.Hosts) > hostsMax {
		c.add(fmt.Sprintf("%d hosts; a lab has 1 to %d", len(t.Hosts), hostsMax), "hosts")
	}
	for _, h := range t.Hosts {
		c.hosts = append(c.hosts, h.Name)
	}
	addresses := map[netip.Addr]string{}
	for _, h := range t.Hosts {
		c.identity(h)
		c.address(h, addresses)
		c.trust(h)
		c.files(h)
		c.services(h)
	}
	return c.found
}

func (c *checker) identity(h Host) {
	if !hostPattern().MatchString(h.Name) {
		c.add(fmt.Sprintf("%q cannot name a host; use lower-case letters, digits and dashes", h.Name), "hosts", h.Name)
	}
	if !aliasPattern().MatchString(h.Hostname) || len(h.Hostname) > 64 {
		c.add(fmt.Sprintf("%q is not a host name", h.Hostname), "hosts", h.Name, "hostname")
	}
	c.claim(h.Name, h.Name, "hosts", h.Name)
	c.claim(h.Hostname, h.Name, "hosts", h.Name, "hostname")
	for i, alias := range h.Aliases {
		if !aliasPattern().MatchString(alias) {
			c.add(fmt.Sprintf("%q is not a host name", alias), "hosts", h.Name, "aliases", strconv.Itoa(i))
		}
		c.claim(alias, h.Name, "hosts", h.Name, "aliases", strconv.Itoa(i))
	}
}

func (c *checker) claim(name, host string, path ...string) {
	if other, taken := c.names[name]; taken && other != host {
		c.add(fmt.Sprintf("%q is a name of host %s already", name, other), path...)
	}
	c.names[name] = host
}

func (c *checker) address(h Host, taken map[netip.Addr]string) {
	network := c.topology.Network
	at := []string{"hosts", h.Name, "address"}
	switch {
	case !h.Address.IsValid():
		c.add("address is missing", "hosts", h.Name)
		return
	case !h.Address.Is4() || !network.Contains(h.Address):
		c.add(fmt.Sprintf("%s is not in the network %s", h.Address, network), at...)
	case h.Address == network.Addr() || h.Address == lastAddress(network):
		c.add(fmt.Sprintf("%s is the first or last address of %s, which no host can have", h.Address, network), at...)
	case taken[h.Address] != "":
		c.add(fmt.Sprintf("%s is the address of host %s already", h.Address, taken[h.Address]), at...)
	}
	taken[h.Address] = h.Name
}

// lastAddress is the broadcast address of an IPv4 network.
func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(a)
}

func (c *checker) trust(h Host) {
	switch h.SSH {
	case SSHNone, SSHBuiltIn, SSHOpenSSH:
	default:
		c.add(fmt.Sprintf("%q is no SSH server; write true, false or openssh", h.SSH), "hosts", h.Name, "ssh")
	}
	for i, name := range h.Trust {
		if _, ok := c.topology.Host(name); !ok {
			c.add(fmt.Sprintf("no host %q; %s", name, drill.Suggest(name, c.hosts)), "hosts", h.Name, "trust", strconv.Itoa(i))
		}
	}
	if len(h.Trust) > 0 && h.SSH == SSHNone {
		c.add("nobody can log in without an SSH server; write ssh: true", "hosts", h.Name, "trust")
	}
	if h.BootDelay < 0 {
		c.add("a delay cannot be negative", "hosts", h.Name, "boot_delay")
	}
}

// ownPaths are where a host's own view stands; a mount there would take it apart.
var ownPaths = []string{"/", "/proc", "/sys", "/dev", "/run", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/root", "/tmp"}

func (c *checker) files(h Host) {
	for _, f := range h.Files {
		at := []string{"hosts", h.Name, "files", f.Path}
		if !filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Path || f.Path == "/" {
			c.add(fmt.Sprintf("%q is not an absolute path", f.Path), at...)
		}
		if f.Text != "" && f.Source != "" {
			c.add("text and source are both given; keep one", at...)
		}
	}
	for i, m := range h.Mounts {
		at := []string{"hosts", h.Name, "mounts", strconv.Itoa(i), "target"}
		switch {
		case !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) != m.Target:
			c.add(fmt.Sprintf("%q is not an absolute path", m.Target), at...)
		case slices.Contains(ownPaths, m.Target) || strings.HasPrefix(m.Target, hostRun) || strings.HasPrefix(m.Target, "/proc/"):
			c.add(fmt.Sprintf("%s is the host's own; mount beside or below it", m.Target), at...)
		}
	}
	for i, name := range h.Needs {
		if name == "" || strings.Contains(name, "/") {
			c.add(fmt.Sprintf("%q is not the name of a program", name), "hosts", h.Name, "needs", strconv.Itoa(i))
		}
	}
}

func (c *checker) services(h Host) {
	seen := map[string]bool{}
	for _, s := range h.Services {
		at := func(field string) []string { return []string{"hosts", h.Name, "services", s.Name, field} }
		if !servicePattern().MatchString(s.Name) {
			c.add(fmt.Sprintf("%q cannot name a service", s.Name), "hosts", h.Name, "services", s.Name)
		}
		if seen[s.Name] || s.Name == "sshd" && h.SSH == SSHOpenSSH {
			c.add(fmt.Sprintf("the host has a service %q already", s.Name), "hosts", h.Name, "services", s.Name)
		}
		seen[s.Name] = true
		if strings.TrimSpace(s.Run) == "" {
			c.add("nothing to run", at("run")...)
		}
		if s.Restart != RestartAlways && s.Restart != RestartNever {
			c.add(fmt.Sprintf("%q is not known; write always or never", s.Restart), at("restart")...)
		}
		if s.Directory != "" && !filepath.IsAbs(s.Directory) {
			c.add(fmt.Sprintf("%q is not an absolute path", s.Directory), at("directory")...)
		}
		for name := range s.Env {
			if !variablePattern().MatchString(name) {
				c.add(fmt.Sprintf("%q cannot name an environment variable", name), at("env")...)
			}
		}
	}
}

// absolute returns the topology with paths of the machine made absolute.
func (t Topology) absolute() (Topology, error) {
	directory, err := filepath.Abs(t.Directory)
	if err != nil {
		return Topology{}, fmt.Errorf("lab: directory: %w", err)
	}
	full := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return filepath.Clean(path)
		}
		return filepath.Join(directory, path)
	}
	t.Directory = directory
	t.Hosts = slices.Clone(t.Hosts)
	for i := range t.Hosts {
		h := &t.Hosts[i]
		h.Files, h.Mounts = slices.Clone(h.Files), slices.Clone(h.Mounts)
		for j := range h.Files {
			if h.Files[j].Source != "" {
				h.Files[j].Source = full(h.Files[j].Source)
			}
		}
		for j := range h.Mounts {
			h.Mounts[j].Source = full(h.Mounts[j].Source)
		}
	}
	return t, nil
}

// checkMachine refuses what this machine, or this user on it, cannot give.
func (t Topology) checkMachine(rootless bool) error {
	var all []error
	for _, h := range t.Hosts {
		for _, f := range h.Files {
			if _, err := os.Stat(f.Source); f.Source != "" && err != nil {
				all = append(all, &drill.Error{Op: "file " + f.Path, Host: h.Name, Kind: drill.Invalid, Err: err})
			}
		}
		for _, m := range h.Mounts {
			if _, err := os.Stat(m.Source); err != nil {
				all = append(all, &drill.Error{Op: "mount " + m.Target, Host: h.Name, Kind: drill.Invalid, Err: err})
			}
		}
		needs := h.Needs
		if h.SSH == SSHOpenSSH {
			needs = append(slices.Clone(needs), "sshd")
		}
		for _, name := range needs {
			if err := need(name); err != nil {
				all = append(all, fmt.Errorf("host %s: %w", h.Name, err))
			}
		}
		if !rootless {
			continue
		}
		if h.SSH == SSHOpenSSH {
			all = append(all, needsRoot(h.Name, "OpenSSH's server changes users"))
		}
		for _, s := range h.Services {
			if s.User != "" && s.User != "root" {
				all = append(all, needsRoot(h.Name, fmt.Sprintf("service %s runs as user %s", s.Name, s.User)))
			}
		}
	}
	return errors.Join(all...)
}

func needsRoot(host, why string) error {
	return &drill.Error{
		Op: "lab up", Host: host, Kind: drill.Unsupported, Err: fmt.Errorf("%s, and a lab of an ordinary user has only root", why),
		Hint: "Run it with sudo: sudo firedrill ...",
	}
}
