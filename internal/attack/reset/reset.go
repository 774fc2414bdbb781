package reset

import (
	"slices"

	"firedrill/internal/attack"
	"firedrill/internal/attack/herd"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "reset"

// Kind is the reset attack. Its zero value is ready to use.
type Kind struct {
	traffic.Sweeper
	herd.Undoer
	hooks traffic.Hooks
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:  Name,
		Group: "network",
		Summary: "Reset TCP connections between this host and addresses, names or ports, established and new ones, as soon as either side sends; " +
			"a connection that was reset stays broken",
		Flags: append(slices.Concat([]drill.AttackFlag{attack.LengthFlag(), traffic.PercentFlag()}, traffic.ShareFlags("connections")),
			slices.Concat(attack.TargetFlagsNamed("ipaddress", "hostname", "device", "egress_port", "ingress_port"), attack.ScopeFlags())...),
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
	order.Targets.Protocol = attack.ProtocolTCP
	order.Effect = traffic.Effect{Refuse: traffic.RefuseReset}
	if err := order.Portion(flags, "100", "connections", "Resetting", "TCP"); err != nil {
		return nil, err
	}
	return order, nil
}
