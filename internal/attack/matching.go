package attack

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// ProcessFlags are the flags that say which processes an attack means.
func ProcessFlags() []drill.AttackFlag {
	return []drill.AttackFlag{
		{Name: "process", Short: "p", Type: TypeString, Usage: "name, regular expression or number of the process; required", Required: true},
		{Name: "group", Short: "g", Type: TypeString, Usage: "only processes of this group, by name or number; for matches by name"},
		{Name: "user", Short: "u", Type: TypeString, Usage: "only processes of this user, by name or number; for matches by name"},
		{Name: "newest", Short: "n", Type: TypeBool, Usage: "only the newest of the matches"},
		{Name: "oldest", Short: "o", Type: TypeBool, Usage: "only the oldest of the matches"},
		{Name: "exact", Short: "e", Type: TypeBool, Usage: "match the whole name, not a part of it"},
		{Name: "kill_children", Short: "c", Type: TypeBool, Usage: "all that descend from the matches too"},
		{Name: "full", Short: "f", Type: TypeBool, Usage: "match the full command line instead of the name"},
	}
}

// Processes reads the flags of ProcessFlags.
func (v Values) Processes() (procs.Selector, error) {
	query := procs.Query{Process: v.Text("process", ""), Group: v.Text("group", ""), User: v.Text("user", "")}
	for name, flag := range map[string]*bool{"newest": &query.Newest, "oldest": &query.Oldest, "exact": &query.Exact, "kill_children": &query.Children, "full": &query.Full} {
		var err error
		if *flag, err = v.Bool(name); err != nil {
			return procs.Selector{}, err
		}
	}
	return query.Selector()
}

// MeantProcesses selects from the processes of the facts. None is an error of kind drill.Refused that says what was left out and why.
func MeantProcesses(kind string, selector procs.Selector, facts Facts) (meant, spared []procs.Process, err error) {
	meant, spared = selector.Select(facts.Processes)
	if len(meant) > 0 {
		return meant, spared, nil
	}
	why := "no process matches"
	if len(spared) > 0 {
		var named []string
		for _, p := range spared {
			named = append(named, fmt.Sprintf("%s is spared, for %s", p, p.Protected))
		}
		why = "only processes match that no attack may touch: " + strings.Join(named, ", ")
	}
	return nil, spared, &drill.Error{Op: "attack " + kind, Host: facts.Host, Kind: drill.Refused, Err: fmt.Errorf("%s", why),
		Hint: "look with: pgrep -a NAME; -f matches the full command line"}
}

// CgroupFlag is the flag of attacks on a whole control group.
func CgroupFlag(usage string) drill.AttackFlag {
	return drill.AttackFlag{Name: "cgroup", Short: "C", Type: TypeString, Usage: usage + ", as /system.slice/api.service; systemctl show -p ControlGroup UNIT says it"}
}

// SurveyGroup adds to the facts a control group, who is in it, and all processes.
func (f *Facts) SurveyGroup(kind string, what cgroups.Interface, name string) error {
	group, err := cgroups.Find("/", what, name)
	if errors.Is(err, cgroups.ErrNone) {
		return &drill.Error{Op: "attack " + kind, Kind: drill.Refused, Err: err, Hint: "cat /proc/PID/cgroup says in which groups a process is"}
	}
	if err != nil {
		return Refuse(kind, "write it as in /proc/PID/cgroup: -C /system.slice/api.service", "--cgroup=%s: %w", name, err)
	}
	f.Group = Group{Group: group}
	if f.Group.Processes, err = group.Processes(); err != nil {
		return fmt.Errorf("attack %s: %w", kind, err)
	}
	f.Processes, err = procs.Survey()
	return err
}

// MeantGroup refuses a group with nobody in it, and one with a process that no attack may touch: what holds for a group holds for all in it.
// Consent lifts nothing here, for a group that holds process 1 or sshd is the way back too.
func MeantGroup(kind string, facts Facts) ([]procs.Process, error) {
	var meant []procs.Process
	for _, p := range facts.Processes {
		if !slices.Contains(facts.Group.Processes, p.PID) {
			continue
		}
		if p.Protected != "" {
			return nil, &drill.Error{Op: "attack " + kind, Host: facts.Host, Kind: drill.Refused, Hint: "name a narrower cgroup, as that of one service",
				Err: fmt.Errorf("%s is in %s, and no attack may touch it: %s", p, facts.Group.Group, p.Protected)}
		}
		meant = append(meant, p)
	}
	if len(meant) == 0 {
		return nil, &drill.Error{Op: "attack " + kind, Host: facts.Host, Kind: drill.Refused, Err: fmt.Errorf("nobody is in %s", facts.Group.Group),
			Hint: "cat /proc/PID/cgroup says in which groups a process is"}
	}
	return meant, nil
}
