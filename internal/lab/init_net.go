package lab

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// prefix6 is the length of the network that all labs' IPv6 addresses share.
const prefix6 = 64

// network brings up lo and eth0. There is no route but to the lab's own network.
func (i *hostInit) network() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("network: lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("network: lo: %w", err)
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("network: eth0: %w", err)
	}
	v4, v6 := i.host.Address, Address6(i.host.Address)
	for _, a := range []netlink.Addr{
		{IPNet: &net.IPNet{IP: v4.AsSlice(), Mask: net.CIDRMask(i.config.Topology.Network.Bits(), 32)}},
		// Without the second of duplicate detection in which the address cannot be used.
		{IPNet: &net.IPNet{IP: v6.AsSlice(), Mask: net.CIDRMask(prefix6, 128)}, Flags: unix.IFA_F_NODAD},
	} {
		err := netlink.AddrAdd(eth0, &a)
		if err != nil && a.IP.To4() == nil && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAFNOSUPPORT)) {
			continue // a kernel with IPv6 switched off
		}
		if err != nil {
			return fmt.Errorf("network: eth0: address %s: %w", a.IPNet, err)
		}
	}
	if err := netlink.LinkSetUp(eth0); err != nil {
		return fmt.Errorf("network: eth0: %w", err)
	}
	return nil
}
