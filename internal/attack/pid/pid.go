package pid

import (
	"context"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// Name is the name of the kind, and of its job.
const Name = "pid"

// Kind is the pid attack. Its zero value is ready to use.
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
	open      bool // planted: put back to no limit at all
}

func (h hooks) step(name string) {
	if h.mark != nil {
		h.mark(name)
	}
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	inGroup := attack.CgroupFlag("the control group in which nothing more can be started")
	inGroup.Needs = []string{"cgroup_v2 or cgroup_v1", "pidfd", "journal"}
	return drill.AttackKind{
		Name:    Name,
		Group:   "resource",
		Summary: "Use up the processes and threads of a control group, or of this host but for a reserve",
		Flags: []drill.AttackFlag{
			attack.LengthFlag(),
			inGroup,
			{Name: "free", Short: "F", Type: attack.TypeInt, Default: "0", Usage: "with --cgroup: how many more can still be started", Range: &drill.Range{Max: numbersMax}},
			{Name: "amount", Short: "a", Type: attack.TypeInt, Usage: "threads to take away from the whole host; this or --cgroup", Range: &drill.Range{Min: 1, Max: numbersMax}},
		},
		Remains: string(attack.RemainsUntilStart),
		Needs:   []string{}, // for --amount: threads of a worker are in every kernel
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
	if order.Free, err = threads.Count(flags.Text("free", "0"), 0); err != nil {
		return nil, attack.Refuse(Name, "write a number, as -F 3", "--free: %w", err)
	}
	switch amount := flags.Text("amount", ""); {
	case (order.Cgroup == "") == (amount == ""):
		return nil, attack.Refuse(Name, "name a group, as -C /system.slice/api.service; the whole host is hit only by a number: -a 10000", "give one of --cgroup and --amount")
	case amount != "" && len(flags["free"]) > 0:
		return nil, attack.Refuse(Name, "", "--free goes with --cgroup")
	case amount != "":
		if order.Amount, err = threads.Count(amount, 1); err != nil {
			return nil, attack.Refuse(Name, "write a number, as -a 1000", "--amount: %w", err)
		}
	}
	return order, nil
}

// Sweep implements attack.Sweeper, for the threads; limits are in journals.
func (Kind) Sweep(ctx context.Context, alive func(guid string) bool) ([]string, error) {
	return worker.Sweep(ctx, Name, alive)
}

// Residue implements attack.Sweeper.
func (Kind) Residue(context.Context) ([]string, error) { return worker.Residue(Name) }

// Order is a pid attack as a user asks for it.
type Order struct {
	Length time.Duration
	Cgroup string // whose limit is lowered; or
	Free   int    // what may still be started there
	Amount int    // threads taken from the whole host
	kind   Kind
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Survey implements attack.Surveying.
func (o Order) Survey(_ context.Context, facts *attack.Facts) (err error) {
	if o.Cgroup == "" {
		facts.Room, err = room("/")
		return err
	}
	if err := facts.SurveyGroup(Name, cgroups.PIDs, o.Cgroup); err != nil {
		return err
	}
	facts.Group.Tasks, err = facts.Group.Number(fileCurrent)
	return err
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	plan := attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length}
	if o.Cgroup != "" {
		if _, err := attack.MeantGroup(Name, facts); err != nil {
			return attack.Plan{}, err
		}
		plan.Steps = []attack.Step{&squeeze{group: facts.Group.Group, free: o.Free, tasks: facts.Group.Tasks, hooks: o.kind.hooks}}
		return plan, nil
	}
	step, err := threads.Step(facts.GUID, o.Amount, facts.Room, o.kind.worker)
	plan.Steps = []attack.Step{step}
	return plan, err
}
