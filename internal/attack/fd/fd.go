package fd

import (
	"context"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/aim"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// Name is the name of the kind, and of its job.
const Name = "fd"

// Kind is the fd attack. Its zero value is ready to use.
type Kind struct {
	worker worker.Hooks
	hooks  hooks
}

// hooks are the crash points and the planted bugs of tests.
type hooks struct {
	mark      func(string)
	late      bool // planted: narrowed first, written down afterwards
	forgetful bool // planted: others are not asked what they still hold
	boast     bool // planted: nothing is narrowed
	childless bool // planted: children that inherited the limit keep it
}

func (h hooks) step(name string) {
	if h.mark != nil {
		h.mark(name)
	}
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	flags := []drill.AttackFlag{attack.LengthFlag()}
	for _, flag := range attack.ProcessFlags() {
		if flag.Name == "process" {
			flag.Required = false
			flag.Usage = "name, regular expression or number of the process that can open nothing more; this, --cgroup or --amount"
		}
		flags = append(flags, flag)
	}
	return drill.AttackKind{
		Name:    Name,
		Group:   "resource",
		Summary: "Use up the file descriptors of processes or of a control group, or open files of this host but for a reserve",
		Flags: append(flags,
			attack.CgroupFlag("all processes of this control group"),
			drill.AttackFlag{Name: "free", Short: "F", Type: attack.TypeInt, Default: "0", Usage: "how many more each process can still open; not with --amount", Range: &drill.Range{Max: amountMax}},
			drill.AttackFlag{Name: "amount", Short: "a", Type: attack.TypeInt, Usage: "open files to take away from the whole host", Range: &drill.Range{Min: 1, Max: amountMax}}),
		Remains: string(attack.RemainsUntilStart),
		Needs:   []string{"pidfd", "journal"},
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
	order := Order{Length: length, Cgroup: flags.Text("cgroup", ""), kind: k}
	if order.Free, err = files.Count(flags.Text("free", "0"), 0); err != nil {
		return nil, attack.Refuse(Name, "write a number, as -F 3", "--free: %w", err)
	}
	given := 0
	for _, name := range []string{"process", "cgroup", "amount"} {
		given += len(flags[name])
	}
	if given != 1 {
		return nil, attack.Refuse(Name, "name a process, as -p api, or a group; the whole host is hit only by a number: -a 10000", "give one of --process, --cgroup and --amount")
	}
	if order.Cgroup != "" {
		return order, nil
	}
	if amount := flags.Text("amount", ""); amount != "" {
		if order.Amount, err = files.Count(amount, 1); err != nil {
			return nil, attack.Refuse(Name, "write a number, as -a 1000", "--amount: %w", err)
		}
		if len(flags["free"]) > 0 {
			return nil, attack.Refuse(Name, "", "--free does not go with --amount")
		}
		return order, nil
	}
	if order.Which, err = flags.Processes(); err != nil {
		return nil, attack.Refuse(Name, "see: firedrill help attack fd", "%w", err)
	}
	return order, nil
}

// Sweep implements attack.Sweeper, for the open files; limits are in journals.
func (Kind) Sweep(ctx context.Context, alive func(guid string) bool) ([]string, error) {
	return worker.Sweep(ctx, Name, alive)
}

// Residue implements attack.Sweeper.
func (Kind) Residue(context.Context) ([]string, error) { return worker.Residue(Name) }

// Order is an fd attack as a user asks for it.
type Order struct {
	Length time.Duration
	Which  procs.Selector // whose limit is lowered; or
	Cgroup string         // likewise
	Free   int            // what each may still open
	Amount int            // open files taken from the whole host; 0 for none
	kind   Kind
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Survey implements attack.Surveying.
func (o Order) Survey(_ context.Context, facts *attack.Facts) (err error) {
	switch {
	case o.Amount > 0:
		facts.Room, err = room("/")
	case o.Cgroup != "":
		err = facts.SurveyGroup(Name, cgroups.Members, o.Cgroup)
	default:
		facts.Processes, err = procs.Survey()
	}
	return err
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	plan := attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length}
	if o.Amount > 0 {
		step, err := files.Step(facts.GUID, o.Amount, facts.Room, o.kind.worker)
		plan.Steps = []attack.Step{step}
		return plan, err
	}
	at, err := aim.At(Name, o.Which, facts, o.Cgroup != "")
	plan.Steps = []attack.Step{&squeeze{aim: at, free: o.Free, hooks: o.kind.hooks}}
	return plan, err
}
