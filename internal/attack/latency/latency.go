package latency

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/netem"
	"firedrill/internal/attack/nfqueue"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "latency"

// The bounds of a delay, in milliseconds: below the lower one nobody could tell it from a busy host, and beyond the upper one every client
// has long given up, so that a blackhole says the same.
const (
	msMin = 0.1
	msMax = 60000
)

// Kind is the latency attack. Its zero value is ready to use.
type Kind struct {
	traffic.Sweeper
	netem.Undoer
	hooks traffic.Hooks
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:  Name,
		Group: "network",
		Summary: "Delay what this host sends to addresses, names or ports; without a target, to anyone but what is spared. Where the kernel has no " +
			"netem, what comes back from there is delayed instead, which adds the same to each round trip",
		Flags: append([]drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "ms", Short: "m", Type: attack.TypeFloat, Default: "100", Usage: "milliseconds of delay, from 0.1 to 60000", Unit: "ms", Range: &drill.Range{Min: msMin, Max: msMax}},
			{Name: "jitter", Short: "j", Type: attack.TypeFloat, Default: "0", Usage: "milliseconds more or less, evenly spread; packets may overtake each other then",
				Unit: "ms", Range: &drill.Range{Max: msMax}},
			traffic.PercentFlag(),
		}, slices.Concat(attack.TargetFlagsNamed("ipaddress", "hostname", "device", "egress_port", "ipprotocol", "src_port"),
			attack.ScopeFlags(), traffic.ShareFlags("packets"), []drill.AttackFlag{traffic.WayFlag()})...),
		Needs:   []string{"net_admin", "nf_tables", "nf_tables_random", "netem or nfqueue"},
		Remains: string(attack.RemainsNothing),
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	order, err := traffic.NewOrder(k.Describe(), flags, k.hooks)
	if err != nil {
		return nil, err
	}
	delay, err := milliseconds(flags, "ms", "100", msMin)
	if err != nil {
		return nil, err
	}
	jitter, err := milliseconds(flags, "jitter", "0", 0)
	if err != nil {
		return nil, err
	}
	if jitter > delay {
		return nil, attack.Refuse(Name, "write a jitter that is at most the delay", "--jitter=%s is more than --ms=%s", flags.Text("jitter", ""), flags.Text("ms", "100"))
	}
	way, err := traffic.ParseWay(Name, flags)
	if err != nil {
		return nil, err
	}
	treat := nfqueue.Treatment{Delay: delay, Jitter: jitter}
	order.Effect = traffic.Effect{Treat: treat, Way: way}
	if err := order.Portion(flags, "100", "packets", "Delaying by "+treat.String()+",", ""); err != nil {
		return nil, err
	}
	return order, nil
}

func milliseconds(flags attack.Values, name, fallback string, least float64) (time.Duration, error) {
	text := flags.Text(name, fallback)
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ms >= least && ms <= msMax) {
		return 0, attack.Refuse(Name, fmt.Sprintf("write milliseconds, from %g to %d", least, int(msMax)), "--%s=%s is no such number", name, text)
	}
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Microsecond), nil
}
