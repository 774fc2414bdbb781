package attack

import "net/netip"

// ShapingFacts are what the kernel offers to delay or corrupt packets on their way out, and where. Only an order that asks for it has them.
type ShapingFacts struct {
	Netem bool   `json:"netem,omitempty"` // the kernel has netem and prio
	Links []Link `json:"links,omitempty"` // the devices through which this host sends, by number
}

// Link is a network device and the queueing discipline at its root.
type Link struct {
	Name     string       `json:"name"`
	Index    int          `json:"index"`
	Loopback bool         `json:"loopback,omitempty"`
	Addrs    []netip.Addr `json:"addresses"`
	Length   int          `json:"txqueuelen"`      // packets that it may queue
	Root     string       `json:"root"`            // kind of the root discipline, as "fq_codel"
	Taken    string       `json:"taken,omitempty"` // why what is there could not be put back exactly; empty when it can
}
