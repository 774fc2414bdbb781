package packetloss

import (
	"fmt"
	"slices"
	"strconv"

	"firedrill/internal/attack"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "packet_loss"

// Kind is the packet_loss attack. Its zero value is ready to use.
type Kind struct {
	traffic.Sweeper
	hooks traffic.Hooks
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "network",
		Summary: "Lose a share of the packets that this host sends to addresses, names or ports; without a target, to anyone but what is spared",
		Flags: append([]drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "percent", Short: "r", Type: attack.TypeFloat, Default: "1", Usage: "share of the packets that is lost, above 0 and up to 100"},
			{Name: "corrupt", Short: "c", Type: attack.TypeBool, Default: "false", Usage: "corrupt them instead: refused, this build cannot do it"},
		}, slices.Concat(attack.TargetFlagsNamed("ipaddress", "hostname", "device", "egress_port", "ipprotocol", "src_port"),
			attack.ScopeFlags())...),
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
	if corrupt {
		return nil, &drill.Error{Op: "attack " + Name, Kind: drill.Unsupported, Err: fmt.Errorf("this build cannot corrupt packets"),
			Hint: "leave out --corrupt: a corrupted packet is thrown away by its receiver, so losing it looks the same to a service"}
	}
	text := flags.Text("percent", "1")
	percent, err := strconv.ParseFloat(text, 64)
	if err != nil || !(percent > 0 && percent <= 100) {
		return nil, attack.Refuse(Name, "write a number above 0 and up to 100, as -r 5", "--percent=%s is not a share", text)
	}
	order.Effect = traffic.Effect{Share: percent, EgressOnly: true, Wording: fmt.Sprintf("Dropping %g%% of", percent)}
	return order, nil
}
