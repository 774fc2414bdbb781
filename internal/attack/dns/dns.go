package dns

import (
	"slices"

	"firedrill/internal/attack"
	"firedrill/internal/attack/herd"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "dns"

// Kind is the dns attack. Its zero value is ready to use.
type Kind struct {
	traffic.Sweeper
	herd.Undoer
	hooks traffic.Hooks
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	flags := attack.TargetFlagsNamed("ipaddress", "device", "ipprotocol")
	flags[0].Usage = "addresses or CIDRs of DNS servers, only these (default: all); ^ before one spares it; @FILE reads one per line"
	flags[2].Usage = "TCP or UDP, only this protocol (default: both)"
	flags[2].OneOf = []string{"TCP", "UDP"}
	return drill.AttackKind{
		Name:  Name,
		Group: "network",
		Summary: "Cut this host off from its DNS servers, on the ports of DNS and of DNS over TLS; a cache on the host itself goes on answering " +
			"what it knows",
		Flags:   append([]drill.AttackFlag{attack.LengthFlag()}, slices.Concat(flags, attack.ScopeFlags())...),
		Needs:   []string{"net_admin", "nf_tables"},
		Remains: string(attack.RemainsNothing),
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	order, err := traffic.NewOrder(k.Describe(), flags, k.hooks)
	if err != nil {
		return nil, err
	}
	if order.Targets.Protocol == attack.ProtocolICMP {
		return nil, attack.Refuse(Name, "write TCP or UDP, or leave it out", "DNS does not run over ICMP")
	}
	order.Targets.EgressPorts = ports()
	return order, nil
}

// ports are those on which servers answer: DNS, and DNS over TLS or QUIC. DNS over HTTPS cannot be told from other HTTPS: use blackhole.
func ports() []attack.PortRange {
	return []attack.PortRange{{First: 53, Last: 53}, {First: 853, Last: 853}}
}
