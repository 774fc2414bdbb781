package attack

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"firedrill/internal/attack/procs"
)

// NewGUID returns a name for an attack that no other one has.
func NewGUID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("attack: make a guid: %w", err)
	}
	return id.String(), nil
}

// CheckGUID admits what can be part of a socket's and a table's name.
func CheckGUID(guid string) error {
	if _, err := uuid.Parse(guid); err != nil || len(guid) != 36 {
		return fmt.Errorf("%q is not a guid, as 0367cfe2-f9fc-11e8-acea-0242db4d1180", guid)
	}
	return nil
}

// Observe gathers the facts that a plan for order needs. It changes nothing on the host.
func Observe(ctx context.Context, guid string, order Order) (Facts, error) {
	host, err := os.Hostname()
	if err != nil {
		return Facts{}, fmt.Errorf("attack: %w", err)
	}
	names, err := Resolver{}.LookupAll(ctx, order.Names())
	if err != nil {
		return Facts{}, err
	}
	facts := Facts{GUID: guid, Host: host, Names: names, Control: controlConnections("/proc", os.Getppid(), os.Environ()), Systemd: RunsSystemd()}
	if on, ok := order.(OnDevice); ok && on.Device() != "" {
		devices, err := net.Interfaces()
		if err != nil {
			return Facts{}, fmt.Errorf("attack: list network devices: %w", err)
		}
		for _, device := range devices {
			facts.Interfaces = append(facts.Interfaces, device.Name)
		}
		slices.Sort(facts.Interfaces)
	}
	if surveying, ok := order.(Surveying); ok {
		if err := surveying.Survey(ctx, &facts); err != nil {
			return Facts{}, err
		}
	}
	return facts, nil
}

// RunsSystemd reports whether systemd is the init here. It looks at the running init, not only at the directory, which a container may
// share with its host.
func RunsSystemd() bool {
	if info, err := os.Stat("/run/systemd/system"); err != nil || !info.IsDir() {
		return false
	}
	name, err := os.ReadFile("/proc/1/comm")
	return err == nil && (string(name) == "systemd\n" || string(name) == "init\n")
}

// ancestorsMax bounds the walk to init; process trees are not that deep.
const ancestorsMax = 64

// controlConnections finds the SSH connection through which we were started: in our environment, in that of our ancestors (sudo drops
// it), or as the established TCP connection of an ancestor that is an sshd.
func controlConnections(proc string, parent int, environ []string) []Connection {
	var found []Connection
	add := func(c Connection, ok bool) {
		if ok && !slices.Contains(found, c) {
			found = append(found, c)
		}
	}
	add(connectionOfEnv(environ))
	if len(found) > 0 {
		return found // the usual case over SSH; the walk below costs half a millisecond
	}
	var buffer []byte
	for pid, depth := parent, 0; pid > 1 && depth < ancestorsMax; depth++ {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		var err error
		if buffer, err = procs.ReadFile(dir+"/environ", buffer); err == nil && bytes.Contains(buffer, []byte(connectionVariable)) {
			add(connectionOfEnv(strings.Split(string(buffer), "\x00")))
		}
		var name string
		var above int
		name, above, buffer = nameAndParent(dir, buffer)
		if strings.HasPrefix(name, "sshd") {
			for _, c := range connectionsOf(dir) {
				add(c, true)
			}
		}
		pid = above
	}
	return found
}

// connectionVariable is what sshd puts into the environment, before the value.
const connectionVariable = "SSH_CONNECTION="

// connectionOfEnv reads SSH_CONNECTION: the client's address and port, then ours.
func connectionOfEnv(environ []string) (Connection, bool) {
	for _, entry := range environ {
		text, ok := strings.CutPrefix(entry, connectionVariable)
		fields := strings.Fields(text)
		if !ok || len(fields) != 4 {
			continue
		}
		remote, err1 := parsePair(fields[0], fields[1])
		local, err2 := parsePair(fields[2], fields[3])
		if err1 == nil && err2 == nil {
			return Connection{Local: local, Remote: remote}, true
		}
	}
	return Connection{}, false
}

func parsePair(address, port string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addr.WithZone("").Unmap(), uint16(number)), nil
}

// nameAndParent reads "PID (NAME) STATE PARENT ...". A name may hold spaces and parentheses, so it ends at the last one.
func nameAndParent(dir string, buffer []byte) (name string, parent int, text []byte) {
	text, err := procs.ReadFile(dir+"/stat", buffer)
	if err != nil {
		return "", 0, text
	}
	first, last := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if first < 0 || last < first {
		return "", 0, text
	}
	if fields := strings.Fields(string(text[last+1:])); len(fields) > 1 {
		parent, _ = strconv.Atoi(fields[1])
	}
	return string(text[first+1 : last]), parent, text
}

// connectionsOf lists the established TCP connections of a process.
func connectionsOf(dir string) []Connection {
	inodes := map[string]bool{}
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		link, err := os.Readlink(filepath.Join(dir, "fd", entry.Name()))
		if inode, ok := strings.CutPrefix(link, "socket:["); err == nil && ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var found []Connection
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join(dir, "net", table))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if c, inode, ok := parseTCPLine(line); ok && inodes[inode] {
				found = append(found, c)
			}
		}
	}
	return found
}

// tcpEstablished is the state of an open connection in /proc/net/tcp.
const tcpEstablished = "01"

// parseTCPLine reads one line of /proc/net/tcp or tcp6: "sl local remote state tx:rx tr:when retrnsmt uid timeout inode ...".
func parseTCPLine(line string) (Connection, string, bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != tcpEstablished {
		return Connection{}, "", false
	}
	local, ok1 := parseHexPair(fields[1])
	remote, ok2 := parseHexPair(fields[2])
	return Connection{Local: local, Remote: remote}, fields[9], ok1 && ok2
}

// parseHexPair reads an address as the kernel prints it: 32-bit words of the host's byte order in hexadecimal, then the port.
func parseHexPair(text string) (netip.AddrPort, bool) {
	address, port, ok := strings.Cut(text, ":")
	if !ok || (len(address) != 8 && len(address) != 32) {
		return netip.AddrPort{}, false
	}
	raw := make([]byte, 0, 16)
	for i := 0; i < len(address); i += 8 {
		word, err := strconv.ParseUint(address[i:i+8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(word))
	}
	number, err := strconv.ParseUint(port, 16, 16)
	addr, valid := netip.AddrFromSlice(raw)
	if err != nil || !valid {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), true
}
