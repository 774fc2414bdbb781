package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/drill"
)

// systemd is the manager of this host, spoken to through systemctl: its interface is older and more stable than that of the bus.
type systemd struct{ path string }

// The states of a unit that matter, in systemd's words.
const (
	active       = "active"
	reloading    = "reloading"
	activating   = "activating"
	deactivating = "deactivating"
	failed       = "failed"
	loaded       = "loaded"
)

// runs reports whether a unit in this state is at work, or on its way there.
func runs(state string) bool { return state == active || state == reloading || state == activating }

const (
	callTimeout = 10 * time.Second // one question to a manager that is at work takes 10 ms
	jobLook     = 30 * time.Millisecond
)

// properties are what is asked of a unit.
var properties = []string{"Id", "LoadState", "ActiveState", "UnitFileState", "ControlGroup", "TriggeredBy", "Triggers", "RequiredBy", "BoundBy", "ConsistsOf"}

// run calls systemctl. stop and start take as long as the unit does.
func (s systemd) run(ctx context.Context, args ...string) (string, error) {
	path := s.path
	if path == "" {
		path = "systemctl"
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"--no-ask-password", "--no-pager"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0")
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	said := ""
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		said = strings.TrimSpace(string(ended.Stderr))
	}
	e := &drill.Error{Op: "attack " + Name, Kind: drill.Failed, Err: fmt.Errorf("systemctl %s: %w: %s", args[0], err, said)}
	if strings.Contains(said, "Access denied") || strings.Contains(said, "authentication required") || strings.Contains(said, "Permission denied") {
		e.Kind, e.Hint = drill.Unsupported, "run it as root"
	}
	return "", e
}

// show asks what is known of a unit. One that does not exist has the load state not-found.
func (s systemd) show(ctx context.Context, unit string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := s.run(ctx, "show", "--property="+strings.Join(properties, ","), "--", unit)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
		}
	}
	if values["Id"] == "" {
		return nil, fmt.Errorf("attack service: systemctl show %s says no Id: %q", unit, out)
	}
	return values, nil
}

func (s systemd) state(ctx context.Context, unit string) (string, error) {
	values, err := s.show(ctx, unit)
	return values["ActiveState"], err
}

// order asks systemd to stop or start units, and waits until each is where it was asked to be.
func (s systemd) order(ctx context.Context, verb string, units []string) error {
	if _, err := s.run(ctx, append([]string{verb, "--"}, units...)...); err != nil {
		return err
	}
	var errs []error
	for _, unit := range units {
		errs = append(errs, s.await(ctx, verb, unit))
	}
	return errors.Join(errs...)
}

func (s systemd) await(ctx context.Context, verb, unit string) error {
	tick := time.NewTicker(jobLook)
	defer tick.Stop()
	for {
		state, err := s.state(ctx, unit)
		switch {
		case err != nil:
			return err
		case verb == "start" && (state == active || state == reloading), verb == "stop" && !runs(state) && state != deactivating:
			return nil
		case verb == "start" && state == failed:
			return fmt.Errorf("%s was asked to %s, and failed: see journalctl -u %s", unit, verb, unit)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s was asked to %s, and is still %s: %w", unit, verb, state, ctx.Err())
		case <-tick.C:
		}
	}
}

// start starts a unit. A socket does not start under a service that runs, as when we died between the two; then that one is stopped for a
// moment.
func (s systemd) start(ctx context.Context, unit string) error {
	err := s.order(ctx, "start", []string{unit})
	if err == nil || !strings.HasSuffix(unit, ".socket") {
		return err
	}
	along, surveyErr := s.survey(ctx, unit)
	var held []string
	for _, other := range along {
		if runs(other.Active) {
			held = append(held, other.Name)
		}
	}
	if surveyErr != nil || len(held) == 0 {
		return err
	}
	return errors.Join(s.order(ctx, "stop", held), s.order(ctx, "start", []string{unit}), s.order(ctx, "start", held))
}

// unitsMax bounds the search for units that depend on one another.
const unitsMax = 200

// survey asks for the unit, for all that systemd stops along with it, and for all that would start one of them again.
func (s systemd) survey(ctx context.Context, unit string) ([]attack.Unit, error) {
	var all []attack.Unit
	type found struct{ name, because string }
	queue := []found{{name: unit}}
	for len(queue) > 0 && len(all) < unitsMax {
		next := queue[0]
		queue = queue[1:]
		if slices.ContainsFunc(all, func(u attack.Unit) bool { return u.Name == next.name }) {
			continue
		}
		values, err := s.show(ctx, next.name)
		if err != nil {
			return nil, err
		}
		name := values["Id"]
		if slices.ContainsFunc(all, func(u attack.Unit) bool { return u.Name == name }) {
			continue
		}
		u := attack.Unit{Name: name, Load: values["LoadState"], Active: values["ActiveState"], Enabled: values["UnitFileState"], Because: next.because}
		if values["ControlGroup"] != "" {
			if group, err := cgroups.Find("/", cgroups.Members, values["ControlGroup"]); err == nil {
				u.Processes, _ = group.Processes() // a unit that is ending has none
			}
		}
		all = append(all, u)
		for _, property := range []string{"RequiredBy", "BoundBy", "ConsistsOf"} {
			for _, other := range strings.Fields(values[property]) {
				queue = append(queue, found{other, "needs " + name})
			}
		}
		for _, other := range strings.Fields(values["TriggeredBy"]) {
			queue = append(queue, found{other, "would start " + name + " again"})
		}
		if strings.HasSuffix(name, ".socket") {
			for _, other := range strings.Fields(values["Triggers"]) {
				queue = append(queue, found{other, "would keep " + name + " from coming back"})
			}
		}
	}
	return all, nil
}
