package lab

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridgeName is the one link of the lab's own network namespace. It has no address: the lab's hosts reach each other and nothing else.
const bridgeName = "lab"

// cables are the virtual Ethernet pairs between the bridge and the hosts.
type cables struct {
	mu     sync.Mutex // guards the fields below
	handle *netlink.Handle
	bridge netlink.Link
}

func newCables() (*cables, error) {
	handle, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("world: netlink: %w", err)
	}
	// Without a querier, snooping would only drop neighbour discovery once something asks for it.
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName, Flags: net.FlagUp}, MulticastSnooping: &snooping}
	if err := handle.LinkAdd(bridge); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil, unsupported(fmt.Errorf("the kernel has no bridge (CONFIG_BRIDGE): %w", err))
		}
		return nil, fmt.Errorf("world: add bridge: %w", err)
	}
	return &cables{handle: handle, bridge: bridge}, nil
}

// plug puts eth0 into the network namespace of the process pid and its other end, called name, on the bridge.
func (c *cables) plug(name string, pid int, mac net.HardwareAddr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	cable := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: name, Flags: net.FlagUp, MasterIndex: c.bridge.Attrs().Index},
		PeerName:         "eth0",
		PeerHardwareAddr: mac,
		PeerNamespace:    netlink.NsPid(pid),
	}
	if err := c.handle.LinkAdd(cable); err != nil {
		return fmt.Errorf("world: add cable %s: %w", name, err)
	}
	return nil
}

// pull takes the cable away at once. One that went with its host is no error.
func (c *cables) pull(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	link, err := c.handle.LinkByName(name)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		return fmt.Errorf("world: pull cable %s: %w", name, err)
	}
	// Deleting waits for the kernel's grace periods; down takes effect at once.
	if err := c.handle.LinkSetDown(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("world: pull cable %s: %w", name, err)
	}
	if err := c.handle.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("world: pull cable %s: %w", name, err)
	}
	return nil
}
