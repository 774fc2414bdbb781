package service

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "service"

// Kind is the service attack. Its zero value is ready to use.
type Kind struct{ hooks hooks }

// hooks are the stand-in for systemctl, the crash points and the planted bugs of tests.
type hooks struct {
	systemctl string // empty: the one of this host, where systemd must be the init
	mark      func(string)
	late      bool // planted: stopped first, written down afterwards
	forgetful bool // planted: others are not asked what they still hold
	boast     bool // planted: nothing is stopped
	alone     bool // planted: only the unit itself is brought back
	enables   bool // planted: a unit that is brought back is enabled too
}

func (h hooks) step(name string) {
	if h.mark != nil {
		h.mark(name)
	}
}

func (h hooks) manager() systemd { return systemd{path: h.systemctl} }

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "state",
		Summary: "Stop a unit of systemd for a while, with what needs it or would start it again, and bring back all that ran",
		Flags: []drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "unit", Short: "u", Type: attack.TypeString, Usage: "name of the unit, as bookstore-api.service; required", Required: true},
		},
		Remains: string(attack.RemainsUntilStart),
		Needs:   []string{"systemd", "pidfd", "journal"},
	}
}

// Check implements attack.Checker.
func (k Kind) Check(context.Context) error {
	if k.hooks.systemctl == "" && !attack.RunsSystemd() {
		return &drill.Error{Op: "attack " + Name, Kind: drill.Unsupported, Err: errors.New("systemd is not the init of this host"),
			Hint: "use firedrill attack process_killer or pause on the processes of the service"}
	}
	return nil
}

// unitName is what systemd takes as the name of a unit that can be stopped and started.
var unitName = drill.Pattern(`^[A-Za-z0-9_:][A-Za-z0-9:_.\\@-]*\.(service|socket|timer|path)$`)

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	length, err := flags.Length()
	if err != nil {
		return nil, attack.Refuse(Name, "write seconds, as -l 60", "%w", err)
	}
	unit := flags.Text("unit", "")
	if unit == "" {
		return nil, attack.Refuse(Name, "name it, as -u bookstore-api.service; systemctl lists them", "--unit is missing")
	}
	if !strings.Contains(unit, ".") {
		unit += ".service"
	}
	if !unitName().MatchString(unit) {
		return nil, attack.Refuse(Name, "name a service, socket, timer or path, as -u bookstore-api.service", "--unit=%s is not a unit that can be stopped and brought back", unit)
	}
	return Order{Length: length, Unit: unit, hooks: k.hooks}, nil
}

// Order is a service attack as a user asks for it.
type Order struct {
	Length time.Duration
	Unit   string
	hooks  hooks
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Survey implements attack.Surveying: the unit with all that goes with it, and who is in them.
func (o Order) Survey(ctx context.Context, facts *attack.Facts) (err error) {
	if err := (Kind{hooks: o.hooks}).Check(ctx); err != nil {
		return err
	}
	if facts.Units, err = o.hooks.manager().survey(ctx, o.Unit); err != nil {
		return err
	}
	facts.Processes, err = procs.Survey()
	return err
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	if len(facts.Units) == 0 || facts.Units[0].Load != loaded {
		load := "not-found"
		if len(facts.Units) > 0 {
			load = facts.Units[0].Load
		}
		return attack.Plan{}, refuse(facts, "systemctl list-units shows those that there are", "systemd says of %s that it is %s", o.Unit, load)
	}
	for _, unit := range facts.Units {
		if err := admit(unit, facts); err != nil {
			return attack.Plan{}, err
		}
	}
	s := &step{units: slices.Clone(facts.Units), hooks: o.hooks}
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length, Steps: []attack.Step{s}}, nil
}

func refuse(facts attack.Facts, cure, format string, args ...any) error {
	return &drill.Error{Op: "attack " + Name, Host: facts.Host, Kind: drill.Refused, Hint: cure, Err: fmt.Errorf(format, args...)}
}

// vital are units without which a host is hard to come back to.
var vital = []string{"ssh.*", "sshd.*", "ssh@*", "sshd@*", "dropbear.*", "dbus.*", "dbus-broker.*", "systemd-*", "user@*", "getty@*", "networking.*", "NetworkManager.*"}

// admit refuses a unit that nobody may stop, or only with consent. What does not run is not stopped.
func admit(unit attack.Unit, facts attack.Facts) error {
	if !runs(unit.Active) {
		return nil
	}
	because := ""
	if unit.Because != "" {
		because = ", which " + unit.Because + ","
	}
	if !unitName().MatchString(unit.Name) {
		return refuse(facts, "name a unit that it does not need", "%s%s would be stopped too, and cannot be brought back as it was", unit.Name, because)
	}
	ask := slices.ContainsFunc(vital, func(pattern string) bool { ok, _ := path.Match(pattern, unit.Name); return ok })
	for _, p := range facts.Processes {
		if p.Protected == "" || !slices.Contains(unit.Processes, p.PID) {
			continue
		}
		if !p.Consent {
			return refuse(facts, "start the attack from elsewhere", "%s%s holds %s, and no attack may touch it: %s", unit.Name, because, p, p.Protected)
		}
		ask = true
	}
	if ask && !facts.Consent {
		return refuse(facts, "if you mean it, add --yes: it may be your way to this host", "%s%s is not stopped without a person's consent", unit.Name, because)
	}
	return nil
}
