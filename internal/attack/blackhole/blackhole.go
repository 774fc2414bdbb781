package blackhole

import (
	"slices"

	"firedrill/internal/attack"
	"firedrill/internal/attack/herd"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "blackhole"

// Kind is the blackhole attack. Its zero value is ready to use.
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
		Summary: "Cut all traffic between this host and addresses, names or ports; without a target, everything but what is spared",
		Flags: slices.Concat([]drill.AttackFlag{attack.LengthFlag()}, attack.TargetFlags(), attack.ScopeFlags(),
			[]drill.AttackFlag{traffic.PercentFlag()}, traffic.ShareFlags("connections")),
		Remains: string(attack.RemainsNothing),
		Needs:   []string{"net_admin", "nf_tables"},
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	order, err := traffic.NewOrder(k.Describe(), flags, k.hooks)
	if err != nil {
		return nil, err
	}
	if err := order.Portion(flags, "100", "connections", "Dropping", ""); err != nil {
		return nil, err
	}
	return order, nil
}
