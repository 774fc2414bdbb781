package packetloss

import (
	"slices"

	"firedrill/internal/attack"
	"firedrill/internal/attack/netem"
	"firedrill/internal/attack/nfqueue"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "packet_loss"

// Kind is the packet_loss attack. Its zero value is ready to use.
type Kind struct {
	traffic.Sweeper
	netem.Undoer
	hooks traffic.Hooks
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "network",
		Summary: "Lose, or corrupt, a share of the packets that this host sends to addresses, names or ports; without a target, to anyone but what is spared",
		Flags: append([]drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "percent", Short: "r", Type: attack.TypeFloat, Default: "1", Usage: "share of the packets that is lost, above 0 and up to 100", Unit: "%", Range: drill.PercentRange},
			{Name: "corrupt", Short: "c", Type: attack.TypeBool, Default: "false", Usage: "flip one bit of each instead, which its receiver finds by the checksum",
				Needs: []string{"netem or nfqueue"}},
		}, slices.Concat(attack.TargetFlagsNamed("ipaddress", "hostname", "device", "egress_port", "ipprotocol", "src_port"),
			attack.ScopeFlags(), traffic.ShareFlags("packets"), []drill.AttackFlag{traffic.WayFlag()})...),
		Needs:   []string{"net_admin", "nf_tables", "nf_tables_random"},
		Remains: string(attack.RemainsNothing),
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	order, err := traffic.NewOrder(k.Describe(), flags, k.hooks)
	if err != nil {
		return nil, err
	}
	corrupt, err := flags.Bool("corrupt")
	if err != nil {
		return nil, attack.Refuse(Name, "", "%w", err)
	}
	way, err := traffic.ParseWay(Name, flags)
	if err != nil {
		return nil, err
	}
	verb := "Dropping"
	order.Effect = traffic.Effect{EgressOnly: true}
	if corrupt {
		verb = "Corrupting"
		order.Effect.Treat, order.Effect.Way = nfqueue.Treatment{Corrupt: true}, way
	} else if way != "" {
		return nil, attack.Refuse(Name, "leave out --way: packets are lost in one way only", "--way is for --corrupt")
	}
	if err := order.Portion(flags, "1", "packets", verb, ""); err != nil {
		return nil, err
	}
	return order, nil
}
