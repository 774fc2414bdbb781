package web

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// attackForm is what stands in the form; all as it was written.
type attackForm struct {
	Service, Environment, Zone, Hosts string
	Much                              string // "all", "count" or "percent"
	Number, Seed, Kind, Args, Most    string
	Consent                           bool
	Entry, Cron, Window               string // of the schedule
}

func attackFormOf(values url.Values) attackForm {
	get := values.Get
	f := attackForm{Service: get("service"), Environment: get("environment"), Zone: get("zone"), Hosts: get("hosts"), Much: get("much"), Number: get("number"), Seed: get("seed"),
		Kind: get("kind"), Args: get("args"), Most: get("most"), Consent: get("consent") != "", Entry: get("entry"), Cron: get("cron"), Window: get("window")}
	if f.Much == "" {
		f.Much, f.Number = "count", "1"
	}
	return f
}

// request makes of the form what the control plane is asked.
func (f attackForm) request() (fleet.AttackRequest, error) {
	bad := func(field string, format string, args ...any) (fleet.AttackRequest, error) {
		return fleet.AttackRequest{}, &drill.Error{Op: field, Kind: drill.Invalid, Err: fmt.Errorf(format, args...)}
	}
	r := fleet.AttackRequest{Kind: f.Kind, Consent: f.Consent, Selector: fleet.Selector{Tags: map[string]string{}}}
	for tag, value := range map[string]string{fleet.TagService: f.Service, fleet.TagEnvironment: f.Environment} {
		if value != "" {
			r.Selector.Tags[tag] = value
		}
	}
	if f.Zone != "" {
		r.Selector.Zones = []string{f.Zone}
	}
	r.Selector.Names = strings.FieldsFunc(f.Hosts, func(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t' })
	var err error
	switch f.Much {
	case "all":
	case "count":
		if r.Selector.Count, err = strconv.Atoi(f.Number); err != nil || r.Selector.Count < 1 {
			return bad("how many", "%q is not a count", f.Number)
		}
	case "percent":
		if r.Selector.Percent, err = strconv.ParseFloat(f.Number, 64); err != nil || !(r.Selector.Percent > 0) {
			return bad("how many", "%q is not a percentage", f.Number)
		}
	default:
		return bad("how many", "%q is none of all, count, percent", f.Much)
	}
	if f.Seed != "" {
		if r.Selector.Seed, err = strconv.ParseUint(f.Seed, 10, 64); err != nil {
			return bad("seed", "%q is not a number", f.Seed)
		}
	}
	if r.Args, err = drill.ShellWords(f.Args); err != nil {
		return bad("flags of the attack", "%w", err)
	}
	if f.Most != "" {
		if r.Most, err = drill.ParseSeconds(f.Most); err != nil {
			return bad("longest", "%w", err)
		}
	}
	return r, nil
}

// attackView is the form with what can be chosen, and what came of it.
type attackView struct {
	Form                                 attackForm
	Kinds, Services, Environments, Zones []string
	May                                  bool
	Problem, Hint                        string
	Chosen                               *fleet.Run // of a dry run
	Shown                                []fleet.RunHost
	More                                 int // hosts that are not shown
	Bounds                               string
}

func (s *server) attackView(v *visit, form attackForm) attackView {
	kinds, services, environments, zones := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, h := range s.Control.Hosts() {
		if h.Facts != nil {
			for _, kind := range h.Facts.Kinds {
				kinds[kind] = true
			}
		}
		services[h.Tags[fleet.TagService]], environments[h.Tags[fleet.TagEnvironment]], zones[h.Zone] = true, true, true
	}
	bound := func(of map[string]bool, to []string) []string {
		delete(of, "")
		return slices.DeleteFunc(slices.Sorted(maps.Keys(of)), func(name string) bool { return len(to) > 0 && !slices.Contains(to, name) })
	}
	view := attackView{Form: form, Kinds: bound(kinds, v.user.Kinds), Services: bound(services, v.user.Services), Environments: bound(environments, nil), Zones: bound(zones, nil), May: v.May("attack")}
	if len(v.user.Services) > 0 {
		view.Bounds = "services " + strings.Join(v.user.Services, ", ")
	}
	if len(v.user.Kinds) > 0 {
		view.Bounds = strings.TrimPrefix(view.Bounds+"; kinds "+strings.Join(v.user.Kinds, ", "), "; ")
	}
	return view
}

func (s *server) attackPage(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "attack", "Start an attack", 0, func(context.Context) (any, error) {
		return s.attackView(v, attackFormOf(r.URL.Query())), nil
	})
}

// attack starts a run, or with "look" only shows which hosts it would hit. What is refused is shown above the form as it was written.
func (s *server) attack(r *http.Request, v *visit) (string, error) {
	form := attackFormOf(r.PostForm)
	request, err := form.request()
	if err == nil && r.PostFormValue("do") == "schedule" {
		if _, err = s.call(r.Context(), v, "schedule", fleet.ScheduleRequest{Name: form.Entry, Cron: form.Cron, Window: form.Window, Request: request}); err == nil {
			return "/schedule", nil
		}
	}
	if err == nil && !v.May("attack") {
		_, err = s.call(r.Context(), v, "attack", request) // which refuses it, and writes that down
	}
	request.DryRun = r.PostFormValue("do") == "look"
	var run fleet.Run
	if err == nil {
		var result any
		// What was begun is not taken back because somebody closed the page.
		result, err = s.call(context.WithoutCancel(r.Context()), v, "attack", request)
		run, _ = result.(fleet.Run)
	}
	if err == nil && !request.DryRun {
		return "/runs/" + run.ID, nil
	}
	if run.Seed != 0 {
		form.Seed = strconv.FormatUint(run.Seed, 10) // what was shown is what is begun
	}
	view := s.attackView(v, form)
	status := http.StatusOK
	if err != nil {
		view.Problem, view.Hint, status = err.Error(), drill.HintOf(err), statusOf(err)
		if !v.May("attack") {
			status = http.StatusForbidden
		}
	} else {
		view.Chosen, view.Shown = &run, run.Hosts[:min(len(run.Hosts), chipsMax)]
		view.More = len(run.Hosts) - len(view.Shown)
	}
	return "", &formError{func(w http.ResponseWriter) {
		s.looks.render(w, status, "attack", s.head(r, v, "Start an attack"), view)
	}}
}
