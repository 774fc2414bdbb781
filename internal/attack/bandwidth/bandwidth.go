package bandwidth

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"firedrill/internal/attack"
	"firedrill/internal/attack/herd"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "bandwidth"

// Kind is the bandwidth attack. Its zero value is ready to use.
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
		Summary: "Lose what goes beyond a rate between this host and addresses, names or ports, each way by itself; up to a second's worth that " +
			"was not used may follow at once",
		Flags: append([]drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "rate", Short: "r", Type: attack.TypeRate, Usage: "bits a second that pass, as 512kbit, 10mbit or 1gbit; required",
				Unit: "bit/s", Range: &drill.Range{Min: rateMin * 8, Max: rateMax * 8}, Required: true},
		}, slices.Concat(attack.TargetFlags(), attack.ScopeFlags())...),
		Needs:   []string{"net_admin", "nf_tables", "nf_tables_limit"},
		Remains: string(attack.RemainsNothing),
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	order, err := traffic.NewOrder(k.Describe(), flags, k.hooks)
	if err != nil {
		return nil, err
	}
	rate, err := ParseRate(flags.Text("rate", ""))
	if err != nil {
		return nil, attack.Refuse(Name, "write a rate in bits a second, as --rate 10mbit", "--rate: %w", err)
	}
	order.Effect = traffic.Effect{Rate: rate, Wording: "Limiting to " + traffic.RateString(rate) + " the"}
	return order, nil
}

// Bounds of a rate. Below the lower one not even the handshake of a connection passes in time; the upper one is beyond any device.
const (
	rateMin = 1000         // bytes a second: 8kbit
	rateMax = 125000000000 // 1000gbit
)

// ParseRate reads bits a second with a unit of bit, kbit, mbit or gbit, in powers of 1000, and returns bytes a second.
func ParseRate(text string) (uint64, error) {
	lower := strings.ToLower(strings.TrimSpace(text))
	for _, unit := range []struct {
		name string
		bits float64
	}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}} {
		number, ok := strings.CutSuffix(lower, unit.name)
		if !ok {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil {
			break
		}
		if bytes := value * unit.bits / 8; bytes >= rateMin && bytes <= rateMax {
			return uint64(bytes), nil
		}
		return 0, fmt.Errorf("%s is not between 8kbit and 1000gbit", text)
	}
	return 0, fmt.Errorf("%q is not a rate", text)
}
