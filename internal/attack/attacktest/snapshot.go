package attacktest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack/dump"
)

// Snapshot is the attacked host as text: nftables, devices, addresses, routes, rules, queueing disciplines, the settings of its network,
// the files that names are resolved by, mounts, control groups of ours, and the processes in it. Two snapshots are equal when nothing of
// that has changed.
func (w *World) Snapshot() (string, error) {
	tables, err := w.ruleset()
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "nftables:\n%s\n", tables)
	if err := w.Host.Do(func() error { return errors.Join(describeLinks(&text), describeSettings(&text), describeFiles(&text)) }); err != nil {
		return "", err
	}
	processes, err := w.processes()
	fmt.Fprintf(&text, "processes:\n%s\n", strings.Join(processes, "\n"))
	return text.String(), err
}

// ruleset is all of nftables, as nft prints it, or as a list of tables where there is no nft.
func (w *World) ruleset() (string, error) {
	path, err := exec.LookPath("nft")
	if err != nil {
		tables, err := w.Tables()
		return strings.Join(tables, "\n"), err
	}
	var out []byte
	err = w.Host.Do(func() (err error) {
		out, err = exec.Command(path, "list", "ruleset").CombinedOutput()
		return err
	})
	return string(out), err
}

func describeLinks(text *strings.Builder) error {
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, link := range links {
		a := link.Attrs()
		fmt.Fprintf(text, "device %s %s mtu %d flags %x txqlen %d\n", a.Name, link.Type(), a.MTU, a.RawFlags, a.TxQLen)
		addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
		if err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		for _, addr := range addrs {
			if !addr.IP.IsLinkLocalUnicast() { // the kernel gives one to a device a second after it is up
				fmt.Fprintf(text, "  address %s\n", addr.IPNet)
			}
		}
		qdiscs, err := dump.Whole(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(link) })
		if err != nil {
			return fmt.Errorf("list queueing disciplines: %w", err)
		}
		for _, q := range qdiscs {
			q.Attrs().Statistics = nil
			fmt.Fprintf(text, "  qdisc %s %+v\n", q.Type(), q.Attrs())
			filters, err := dump.Whole(func() ([]netlink.Filter, error) { return netlink.FilterList(link, q.Attrs().Handle) })
			if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("list filters: %w", err)
			}
			fmt.Fprintf(text, "  filters %d\n", len(filters))
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump.Whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, route := range routes {
			if route.Dst == nil || !route.Dst.IP.IsLinkLocalUnicast() {
				fmt.Fprintf(text, "route %s\n", route)
			}
		}
		rules, err := dump.Whole(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		for _, rule := range rules {
			fmt.Fprintf(text, "rule %s\n", rule)
		}
	}
	return nil
}

// restless are settings that the kernel writes itself.
var restless = []string{"nf_conntrack_count", "stable_secret", "neigh"}

// describeSettings reads the settings of the network namespace that the calling thread is in.
func describeSettings(text *strings.Builder) error {
	return filepath.WalkDir("/proc/sys/net", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if entry != nil && slices.Contains(restless, entry.Name()) {
				return fs.SkipDir
			}
			return nil // what cannot be read cannot be compared
		}
		if slices.Contains(restless, entry.Name()) {
			return nil
		}
		if value, err := os.ReadFile(path); err == nil {
			fmt.Fprintf(text, "%s %s", path, value)
		}
		return nil
	})
}

// describeFiles reads what names are resolved by, the mounts, and the control groups that are ours.
func describeFiles(text *strings.Builder) error {
	for _, path := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"} {
		content, err := os.ReadFile(path)
		fmt.Fprintf(text, "%s %x %v\n", path, sha256.Sum256(content), err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if !strings.Contains(line, os.TempDir()) { // other tests mount there
			text.WriteString("mount " + line)
		}
	}
	return nil
}

// processes lists what runs in the host's network, by name: our own threads visit it and are not counted.
func (w *World) processes() ([]string, error) {
	var own unix.Stat_t
	if err := unix.Fstat(int(w.Host.file.Fd()), &own); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var its unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &its) != nil || its.Ino != own.Ino {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil {
			found = append(found, strings.TrimSpace(string(name)))
		}
	}
	slices.Sort(found)
	return found, nil
}
