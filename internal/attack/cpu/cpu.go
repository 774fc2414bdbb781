package cpu

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// Name is the name of the kind, and of its job.
const Name = "cpu"

// Kind is the cpu attack. Its zero value is ready to use.
type Kind struct{ hooks worker.Hooks }

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "resource",
		Summary: "Burn processor time on some cores of this host",
		Flags: []drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "cores", Short: "c", Type: attack.TypeInt, Default: "1", Usage: "cores to burn, from 1 to those that we may run on", Range: &drill.Range{Min: 1}},
			{Name: "percent", Short: "p", Type: attack.TypeFloat, Default: "100", Usage: "share of each core to take, over 0 to 100", Unit: "%", Range: drill.PercentRange},
		},
		Remains: string(attack.RemainsNothing),
		Needs:   []string{}, // timers, pipes and death signals are in every kernel
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	length, err := flags.Length()
	if err != nil {
		return nil, attack.Refuse(Name, "write seconds, as -l 60", "%w", err)
	}
	cores, err := strconv.Atoi(flags.Text("cores", "1"))
	if err != nil || cores < 1 {
		return nil, attack.Refuse(Name, "write a number of cores, as -c 2", "--cores=%s: it must be a whole number from 1", flags.Text("cores", ""))
	}
	percent, err := strconv.ParseFloat(flags.Text("percent", "100"), 64)
	if err != nil || !(percent > 0 && percent <= 100) {
		return nil, attack.Refuse(Name, "write a share of each core, as -p 50", "--percent=%s: it must be over 0 and at most 100", flags.Text("percent", ""))
	}
	return Order{Length: length, Cores: cores, Percent: percent, hooks: k.hooks}, nil
}

// Sweep implements attack.Sweeper.
func (Kind) Sweep(ctx context.Context, alive func(guid string) bool) ([]string, error) {
	return worker.Sweep(ctx, Name, alive)
}

// Residue implements attack.Sweeper.
func (Kind) Residue(context.Context) ([]string, error) { return worker.Residue(Name) }

// Order is a cpu attack as a user asks for it.
type Order struct {
	Length  time.Duration
	Cores   int
	Percent float64 // of each core, over 0 to 100
	hooks   worker.Hooks
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// coresMax bounds the cores that are looked for: the size of unix.CPUSet in bits.
const coresMax = 1024

// Survey implements attack.Surveying: the cores that we may run on.
func (Order) Survey(_ context.Context, facts *attack.Facts) error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return fmt.Errorf("attack cpu: ask for the cores that we may use: %w", err)
	}
	for core := range coresMax {
		if set.IsSet(core) {
			facts.Cores = append(facts.Cores, core)
		}
	}
	return nil
}

// Plan implements attack.Order. It takes the first of the cores that we may run on.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	if o.Cores > len(facts.Cores) {
		return attack.Plan{}, attack.Refuse(Name, fmt.Sprintf("ask for at most %d: --cores %d", len(facts.Cores), len(facts.Cores)),
			"%d cores are asked for, and we may run on %d", o.Cores, len(facts.Cores))
	}
	cores := facts.Cores[:o.Cores]
	var says []string
	for _, core := range cores {
		says = append(says, fmt.Sprintf("take %s %% of core %d", strconv.FormatFloat(o.Percent, 'f', -1, 64), core))
	}
	step := &worker.Step{Job: Name, GUID: facts.GUID, Args: task{Cores: cores, Percent: o.Percent}, Says: says,
		Meter: &meter{asked: o.Percent}, Hooks: o.hooks}
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length, Steps: []attack.Step{step}}, nil
}
