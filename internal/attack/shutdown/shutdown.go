package shutdown

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "shutdown"

// The bounds of the delay. The catalogue counts in minutes from 1; a duration may be shorter, for drills.
const (
	delayDefault = "1"
	delayMax     = 24 * time.Hour
	lateMax      = 15 * time.Second // a busy host is late by less; one that was frozen must not go down when nobody expects it
)

// Kind is the shutdown attack. Its zero value is ready to use.
type Kind struct {
	down func(restart bool) error // planted in tests; nil: the real thing
	ways []way                    // planted in tests; nil: the real ones
	late time.Duration            // in tests: instead of lateMax
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "state",
		Summary: "Shut this host down, or restart it, after a delay in which Ctrl-C calls it off",
		Flags: []drill.AttackFlag{
			{Name: "delay", Short: "d", Type: attack.TypeMinutes, Default: delayDefault, Usage: "minutes to wait before, 1 or more; or a duration such as 500ms or 2s",
				Unit: "min", Range: &drill.Range{Min: 1, Max: delayMax.Minutes()}},
			{Name: "reboot", Short: "r", Type: attack.TypeBool, Usage: "restart the host after the shutdown"},
		},
		OneWay:  true,
		Needs:   []string{"systemd or sys_boot"},
		Remains: string(attack.RemainsOneWay),
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	delay, err := parseDelay(flags.Text("delay", delayDefault))
	if err != nil {
		return nil, attack.Refuse(Name, "write minutes, as -d 1, or a duration such as 2s", "--delay: %w", err)
	}
	restart, err := flags.Bool("reboot")
	if err != nil {
		return nil, attack.Refuse(Name, "", "%w", err)
	}
	return Order{Delay: delay, Reboot: restart, down: k.down, ways: k.ways, late: cmp.Or(k.late, lateMax)}, nil
}

// Check implements attack.Checker: better refused now than after the delay. Where systemd is the init it may let others than root do it.
func (k Kind) Check(context.Context) error {
	if k.down != nil || attack.RunsSystemd() {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("shutdown: read our capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_SYS_BOOT) == 0 {
		return explain(unix.EPERM)
	}
	return nil
}

// parseDelay reads a plain number as minutes, from 1, and anything else as a duration from 0.
func parseDelay(text string) (time.Duration, error) {
	if minutes, err := strconv.Atoi(text); err == nil {
		if minutes < 1 || minutes > int(delayMax/time.Minute) {
			return 0, fmt.Errorf("%d minutes: it must be from 1 to %d", minutes, int(delayMax/time.Minute))
		}
		return time.Duration(minutes) * time.Minute, nil
	}
	delay, err := time.ParseDuration(text)
	if err != nil || delay < 0 || delay > delayMax {
		return 0, fmt.Errorf("%q is not a delay of at most 24 hours", text)
	}
	return delay, nil
}

// Order is a shutdown as a user asks for it.
type Order struct {
	Delay  time.Duration
	Reboot bool
	down   func(restart bool) error
	ways   []way
	late   time.Duration
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	step := &down{reboot: o.Reboot, systemd: facts.Systemd, call: o.down, ways: o.ways}
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Delay: o.Delay, Late: o.late, Steps: []attack.Step{step}}, nil
}

// down is the one step.
type down struct {
	reboot  bool
	systemd bool
	call    func(restart bool) error
	ways    []way
}

// Lines implements attack.Step.
func (d *down) Lines() []string {
	verb, by := "power the host off", "the kernel, after a sync"
	if d.reboot {
		verb = "restart the host"
	}
	if d.systemd {
		by = "systemd: logind, else systemctl, else shutdown, else the kernel after a sync"
	}
	return []string{verb + " by " + by}
}

// Remains implements attack.Step.
func (*down) Remains() attack.Remains { return attack.RemainsOneWay }

// Revert implements attack.Step. Before Apply there is nothing to take back, and after it nothing can be.
func (*down) Revert(context.Context) error { return nil }

// Apply implements attack.Step. Each way is tried when the one before was refused.
func (d *down) Apply(ctx context.Context, _ time.Time) error {
	if d.call != nil {
		return d.call(d.reboot)
	}
	ways := d.ways
	if ways == nil {
		ways = waysHere(d.systemd)
	}
	// Nothing interrupts an order: systemd's first act may be to end us, before it has answered, and what looks like a systemd that refuses
	// would let the kernel cut all services off.
	ctx = context.WithoutCancel(ctx)
	var refused []error
	for _, way := range ways {
		err := way(ctx, d.reboot)
		if err == nil {
			return nil
		}
		refused = append(refused, err)
	}
	return explain(errors.Join(refused...))
}

func explain(err error) error {
	if err == nil {
		return nil
	}
	e := &drill.Error{Op: "attack " + Name, Kind: drill.Failed, Err: err}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		e.Kind, e.Hint = drill.Unsupported, "run it as root: sudo firedrill attack shutdown ..."
	}
	return e
}
