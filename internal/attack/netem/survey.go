package netem

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/dump"
)

// Survey finds out whether the kernel has netem, and what lies at the roots of the devices through which this host sends. It changes nothing,
// but the kernel may load a module because it is asked for it.
func Survey() (attack.ShapingFacts, error) {
	facts := attack.ShapingFacts{}
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return facts, fmt.Errorf("netem: list devices: %w", err)
	}
	all, err := disciplines()
	if err != nil {
		return facts, fmt.Errorf("netem: list queueing disciplines: %w", err)
	}
	for _, link := range links {
		attrs := link.Attrs()
		loopback := attrs.Flags&net.FlagLoopback != 0
		if loopback {
			facts.Netem = has(attrs.Index, "prio") && has(attrs.Index, "netem")
		}
		if attrs.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
		if err != nil {
			return facts, fmt.Errorf("netem: list addresses of %s: %w", attrs.Name, err)
		}
		if len(addrs) == 0 {
			continue // it does not send by itself: a port of a bridge or a bond has no address of its own
		}
		found := attack.Link{Name: attrs.Name, Index: attrs.Index, Loopback: loopback, Length: attrs.TxQLen}
		for _, a := range addrs {
			if addr, ok := netip.AddrFromSlice(a.IP); ok {
				found.Addrs = append(found.Addrs, addr.Unmap())
			}
		}
		found.Root, found.Taken = judge(of(all, attrs.Index), attrs.Index, defaultKind())
		facts.Links = append(facts.Links, found)
	}
	return facts, nil
}

// has asks the kernel to make a discipline without saying how, which prio and netem refuse. Without them it says that there is none.
func has(index int, kind string) bool {
	err := netlink.QdiscAdd(&netlink.GenericQdisc{QdiscType: kind, QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_ROOT}})
	return errors.Is(err, unix.EINVAL)
}

// defaultKind is what the kernel puts at a root by itself, "" where it does not tell: outside of the machine's own network namespace.
func defaultKind() string {
	text, _ := os.ReadFile("/proc/sys/net/core/default_qdisc")
	return strings.TrimSpace(string(text))
}

func of(all []netlink.Qdisc, index int) []netlink.Qdisc {
	return slices.DeleteFunc(slices.Clone(all), func(q netlink.Qdisc) bool {
		a := q.Attrs()
		// What is looked at on the way in stays where it is.
		return a.LinkIndex != index || a.Parent == netlink.HANDLE_INGRESS || a.Parent == netlink.HANDLE_CLSACT
	})
}

// judge returns the kind at the root of a device, and why it could not be put back exactly, if so. Ours, of another attack, can be.
func judge(found []netlink.Qdisc, index int, byDefault string) (root, taken string) {
	for _, q := range found {
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			root = q.Type()
			if isOurs(q, index) {
				return root, ""
			}
		}
	}
	for _, q := range found {
		if q.Attrs().Handle != 0 {
			return root, fmt.Sprintf("somebody has set up %s there", q.Type())
		}
	}
	switch {
	case root == "":
		return root, "it has no root queueing discipline that we can see"
	case root != "noqueue" && root != "mq" && byDefault != "" && root != byDefault:
		return root, fmt.Sprintf("it has %s, and the kernel would put %s back", root, byDefault)
	}
	return root, ""
}

// rootHandle is the number of our root discipline. It differs from device to device, so that a packet that goes through two of them, as
// through a VLAN and its device, is delayed once.
func rootHandle(index int) uint32 { return netlink.MakeHandle(0xf000|uint16(index&0xfff), 0) }

func isOurs(q netlink.Qdisc, index int) bool {
	return q.Type() == "prio" && q.Attrs().Parent == netlink.HANDLE_ROOT && q.Attrs().Handle == rootHandle(index)
}
