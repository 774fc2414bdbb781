package lab

import (
	"net"
	"net/netip"
	"os"
	"time"
)

// Topology is a lab as its file describes it. Parse makes one and checks it; a Topology made by hand is checked again by Up.
type Topology struct {
	Name      string       `json:"name"`
	Network   netip.Prefix `json:"network"`   // IPv4; all hosts share it as one link
	Hosts     []Host       `json:"hosts"`     // in the order of the file
	Bare      bool         `json:"bare"`      // /etc/hosts names only the host itself (hosts_file: false)
	Directory string       `json:"directory"` // what relative paths are below; default the working directory
}

// Host is one host of a lab.
type Host struct {
	Name      string        `json:"name"`     // the key in the file; how commands name it
	Hostname  string        `json:"hostname"` // what it calls itself, default Name
	Address   netip.Addr    `json:"address"`
	Aliases   []string      `json:"aliases,omitempty"`    // more names in the hosts files of all
	Resolver  []netip.Addr  `json:"resolver,omitempty"`   // name servers; none means that no name is resolved but by /etc/hosts
	SSH       SSHServer     `json:"ssh,omitempty"`        // what listens on port 22
	Trust     []string      `json:"trust,omitempty"`      // hosts whose root may log in as root here
	BootDelay time.Duration `json:"boot_delay,omitempty"` // how long a reboot stays dark
	Files     []File        `json:"files,omitempty"`
	Mounts    []Mount       `json:"mounts,omitempty"`
	Services  []Service     `json:"services,omitempty"`
	Needs     []string      `json:"needs,omitempty"` // programs that this machine must have
}

// SSHServer says what listens on port 22 of a host.
type SSHServer string

// The SSH servers of a host.
const (
	SSHNone    SSHServer = ""
	SSHBuiltIn SSHServer = "built-in" // part of the host's init
	SSHOpenSSH SSHServer = "openssh"  // the machine's /usr/sbin/sshd; root only
)

// File is put on the host's disk before its first boot; below /run and /tmp before every boot.
type File struct {
	Path   string      `json:"path"`
	Text   string      `json:"text,omitempty"`
	Source string      `json:"source,omitempty"` // file or directory of the machine, relative to the topology file
	Mode   os.FileMode `json:"mode"`             // of a text, default 0644; a source keeps its own
}

// Mount shows a directory or file of the machine in the host.
type Mount struct {
	Source   string `json:"source"` // relative to the topology file
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only"`
}

// Service is a program that the host's init keeps running; its output is appended to /var/log/NAME.log on the host.
type Service struct {
	Name      string            `json:"name"`
	Run       string            `json:"run"`            // a line for /bin/sh
	User      string            `json:"user,omitempty"` // other than root only in a lab that root made
	Env       map[string]string `json:"env,omitempty"`
	Directory string            `json:"directory,omitempty"` // default /
	Restart   string            `json:"restart,omitempty"`   // RestartAlways (default) or RestartNever
	Disabled  bool              `json:"disabled,omitempty"`  // not started at boot (enabled: false)
}

// What becomes of a service whose program ended.
const (
	RestartAlways = "always"
	RestartNever  = "never"
)

// Host returns the host called name.
func (t Topology) Host(name string) (Host, bool) {
	for _, h := range t.Hosts {
		if h.Name == name {
			return h, true
		}
	}
	return Host{}, false
}

// Address6 returns the IPv6 address that a lab host with the IPv4 address addr has too: a unique local one with addr in its last 32 bits.
func Address6(addr netip.Addr) netip.Addr {
	v4 := addr.As4()
	v6 := [16]byte{0xfd, 0x66, 0x69, 0x72, 0x65} // fd66:6972:65 spells "fire"
	copy(v6[12:], v4[:])
	return netip.AddrFrom16(v6)
}

// hardwareAddress is the same at every boot, so that no neighbour holds a stale one.
func hardwareAddress(addr netip.Addr) net.HardwareAddr {
	v4 := addr.As4()
	return net.HardwareAddr{0x02, 0xfd, v4[0], v4[1], v4[2], v4[3]}
}
