package reject

import (
	"slices"
	"strings"

	"firedrill/internal/attack"
	"firedrill/internal/attack/herd"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "reject"

// Kind is the reject attack. Its zero value is ready to use.
type Kind struct {
	traffic.Sweeper
	herd.Undoer
	hooks traffic.Hooks
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "network",
		Summary: "Refuse all traffic between this host and addresses, names or ports, at once, as a firewall that says no",
		Flags: append([]drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "with", Short: "w", Type: attack.TypeString, Default: string(traffic.RefuseICMP),
				Usage: "icmp: administratively prohibited; or reset: a TCP reset, and ICMP port unreachable for what is not TCP",
				OneOf: []string{string(traffic.RefuseICMP), string(traffic.RefuseReset)}},
			traffic.PercentFlag(),
		}, slices.Concat(traffic.ShareFlags("connections"), attack.TargetFlags(), attack.ScopeFlags())...),
		Needs:   []string{"net_admin", "nf_tables", "nf_tables_reject"},
		Remains: string(attack.RemainsNothing),
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	order, err := traffic.NewOrder(k.Describe(), flags, k.hooks)
	if err != nil {
		return nil, err
	}
	with := traffic.Refusal(strings.ToLower(flags.Text("with", string(traffic.RefuseICMP))))
	if with != traffic.RefuseICMP && with != traffic.RefuseReset {
		return nil, attack.Refuse(Name, "write --with icmp or --with reset", "--with=%s is not a way to refuse", with)
	}
	order.Effect = traffic.Effect{Refuse: with}
	if err := order.Portion(flags, "100", "connections", "Refusing", ""); err != nil {
		return nil, err
	}
	return order, nil
}
