package memory

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// Name is the name of the kind, and of its job.
const Name = "memory"

// The units of the flags. The catalogue counts as memory is counted: a megabyte is 1024 kilobytes.
const (
	mega = 1 << 20
	giga = 1 << 30

	gigabytesMax = 1 << 20 // beyond any host; what it has is looked at when the attack is planned
)

// The reserve that is kept when none is asked for: enough for an operator to log in and for the service to fail in its own way.
const (
	reservePercent = 5 // of what is available
	reserveMin     = 64 * mega
)

const amountDefault = "0.5" // gigabytes

// Kind is the memory attack. Its zero value is ready to use.
type Kind struct{ hooks worker.Hooks }

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "resource",
		Summary: "Take memory away on this host, but for a reserve",
		Flags: []drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "megabytes", Short: "m", Type: attack.TypeInt, Usage: "amount in megabytes", Unit: "MB", Range: &drill.Range{Min: 1, Max: math.MaxUint32}},
			{Name: "gigabytes", Short: "g", Type: attack.TypeFloat, Default: amountDefault, Usage: "amount in gigabytes; this one or --megabytes or --percent", Unit: "GB", Range: &drill.Range{Above: true, Max: gigabytesMax}},
			{Name: "percent", Short: "p", Type: attack.TypeFloat, Usage: "amount as a share of what is available, over 0 to 100", Unit: "%", Range: drill.PercentRange},
			{Name: "reserve", Short: "r", Type: attack.TypeInt, Usage: "megabytes to leave available always (default: 5 % of what is available, and at least 64)",
				Unit: "MB", Range: &drill.Range{Max: math.MaxUint32}},
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
	order := Order{hooks: k.hooks}
	var err error
	if order.Length, err = flags.Length(); err != nil {
		return nil, attack.Refuse(Name, "write seconds, as -l 60", "%w", err)
	}
	if err := order.readAmount(flags); err != nil {
		return nil, err
	}
	if text := flags.Text("reserve", ""); text != "" {
		reserve, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, attack.Refuse(Name, "write megabytes, as --reserve 512", "--reserve=%s: it must be a whole number", text)
		}
		order.Reserve, order.ownReserve = reserve*mega, true
	}
	return order, nil
}

// readAmount reads the one flag that says how much.
func (o *Order) readAmount(flags attack.Values) error {
	given := 0
	for _, name := range []string{"megabytes", "gigabytes", "percent"} {
		given += len(flags[name])
	}
	if given > 1 {
		return attack.Refuse(Name, "", "give one of --megabytes, --gigabytes and --percent")
	}
	if text := flags.Text("megabytes", ""); text != "" {
		amount, err := strconv.ParseUint(text, 10, 32)
		if err != nil || amount == 0 {
			return attack.Refuse(Name, "write megabytes, as -m 512", "--megabytes=%s: it must be a whole number from 1", text)
		}
		o.Amount = amount * mega
		return nil
	}
	if text := flags.Text("percent", ""); text != "" {
		percent, err := strconv.ParseFloat(text, 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return attack.Refuse(Name, "write a share of what is available, as -p 50", "--percent=%s: it must be over 0 and at most 100", text)
		}
		o.Percent = percent
		return nil
	}
	text := flags.Text("gigabytes", amountDefault)
	amount, err := strconv.ParseFloat(text, 64)
	if err != nil || !(amount > 0 && amount <= gigabytesMax) {
		return attack.Refuse(Name, "write gigabytes, as -g 0.5", "--gigabytes=%s: it must be over 0 and at most %d", text, gigabytesMax)
	}
	o.Amount = uint64(amount * giga)
	return nil
}

// Sweep implements attack.Sweeper.
func (Kind) Sweep(ctx context.Context, alive func(guid string) bool) ([]string, error) {
	return worker.Sweep(ctx, Name, alive)
}

// Residue implements attack.Sweeper.
func (Kind) Residue(context.Context) ([]string, error) { return worker.Residue(Name) }

// Order is a memory attack as a user asks for it.
type Order struct {
	Length     time.Duration
	Amount     uint64  // bytes; 0 when Percent is set
	Percent    float64 // of what is available, over 0 to 100; 0 when Amount is set
	Reserve    uint64  // bytes
	ownReserve bool
	hooks      worker.Hooks
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Survey implements attack.Surveying: how much memory is available to us.
func (Order) Survey(_ context.Context, facts *attack.Facts) error {
	available, err := available("/")
	facts.Memory = available
	return err
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	amount, reserve := o.Amount, o.Reserve
	if o.Percent > 0 {
		amount = uint64(float64(facts.Memory) * o.Percent / 100)
	}
	if !o.ownReserve {
		reserve = max(facts.Memory*reservePercent/100, reserveMin)
	}
	page := uint64(os.Getpagesize())
	amount = max((amount+page/2)/page, 1) * page
	if err := fits(amount, reserve, facts.Memory); err != nil {
		return attack.Plan{}, err
	}
	says := []string{fmt.Sprintf("hold %s of memory, of %s available; keep %s free", megabytes(amount), megabytes(facts.Memory), megabytes(reserve))}
	step := &worker.Step{Job: Name, GUID: facts.GUID, Args: task{Amount: amount, Reserve: reserve}, Says: says,
		Meter: &meter{asked: amount, before: facts.Memory}, Hooks: o.hooks}
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length, Steps: []attack.Step{step}}, nil
}

// fits refuses an amount that would not leave the reserve.
func fits(amount, reserve, available uint64) error {
	if amount <= available && available-amount >= reserve {
		return nil
	}
	cure := "there is too little memory to take any; lower the reserve: --reserve MEGABYTES"
	if available > reserve+mega {
		cure = fmt.Sprintf("ask for at most %d: --megabytes %d; or lower the reserve: --reserve MEGABYTES", (available-reserve)/mega, (available-reserve)/mega)
	}
	return &drill.Error{Op: "attack " + Name, Kind: drill.Refused, Hint: cure,
		Err: fmt.Errorf("%s are asked for and %s kept in reserve, but only %s are available", megabytes(amount), megabytes(reserve), megabytes(available))}
}

func megabytes(bytes uint64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/mega) }
