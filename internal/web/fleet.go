package web

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"firedrill/internal/fleet"
)

const (
	hostsShown  = 100 // of a list, on one page
	chipsMax    = 120 // hosts that are drawn one by one in a group
	drawnMax    = 600 // in a whole map: of a larger fleet groups are drawn without their hosts
	groupsShown = 120 // of a zone: those with something to look at first
	zonesShown  = 40
	hostRuns    = 20
)

// pages are all that is looked at.
func (s *server) pages() map[string]pageFunc {
	return map[string]pageFunc{
		"/{$}":                      s.front,
		"/fleet":                    s.fleetMap,
		"/fleet/hosts":              s.hosts,
		"/fleet/hosts/{host}":       s.host,
		"/services":                 s.services,
		"/services/{service}":       s.service,
		"/services/put":             s.putPage,
		"/services/{service}/drill": s.drillPage,
		"/drills":                   s.drills,
		"/drills/{drill}":           s.drill,
		"/results/{result}":         s.report,
		"/playbooks":                s.playbooks,
		"/alarms":                   s.alarms,
		"/schedule":                 s.schedulePage,
		"/runs":                     s.runs,
		"/runs/{run}":               s.run,
		"/attack":                   s.attackPage,
		"/halt":                     s.haltPage,
		"/halt/report":              s.haltReport,
		"/lever":                    s.leverPage,
		"/audit":                    s.audit,
		"/settings":                 s.settings,
		"/settings/factor":          s.factorPage,
		"/settings/factor.png":      s.factorPicture,
	}
}

// Conditions of a host, the gravest first.
const (
	conditionAttacked = "attacked"
	conditionGone     = "gone"
	conditionSkewed   = "clock off"
	conditionThere    = "there"
)

func conditionOf(h fleet.HostView) string {
	switch {
	case len(h.Running) > 0 || h.Run != "":
		return conditionAttacked
	case !h.Online:
		return conditionGone
	case max(h.Skew, -h.Skew) > fleet.SkewMax.Seconds():
		return conditionSkewed
	}
	return conditionThere
}

// hostFilter is what narrows a list of hosts; empty fields narrow nothing.
type hostFilter struct {
	Zone, Service, Environment, Condition, Name string
}

// noValue stands in addresses for hosts that have no such tag.
const noValue = "-"

func filterOf(r *http.Request) hostFilter {
	q := r.URL.Query()
	return hostFilter{Zone: q.Get("zone"), Service: q.Get("service"), Environment: q.Get("environment"), Condition: q.Get("condition"), Name: q.Get("name")}
}

func (f hostFilter) fits(h fleet.HostView) bool {
	has := func(wanted, value string) bool { return wanted == "" || wanted == cmp.Or(value, noValue) }
	return has(f.Zone, h.Zone) && has(f.Service, h.Tags[fleet.TagService]) && has(f.Environment, h.Tags[fleet.TagEnvironment]) &&
		(f.Condition == "" || f.Condition == conditionOf(h)) && (f.Name == "" || strings.Contains(h.Name, f.Name))
}

// Query is the filter as the end of an address.
func (f hostFilter) Query() string {
	values := url.Values{}
	for name, value := range map[string]string{"zone": f.Zone, "service": f.Service, "environment": f.Environment, "condition": f.Condition, "name": f.Name} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values.Encode()
}

// hostGroup is the hosts of one service and environment in a zone.
type hostGroup struct {
	Service, Environment string
	Filter               hostFilter
	All                  int
	Counts               map[string]int // by condition
	Chips                []fleet.HostView
}

// Bars are the widths of the conditions in a bar of a hundred, in the order of Conditions.
func (g hostGroup) Bars() []bar {
	var bars []bar
	x := 0.0
	for _, condition := range conditions {
		if n := g.Counts[condition]; n > 0 {
			width := 100 * float64(n) / float64(g.All)
			bars = append(bars, bar{Class: classOf(condition), X: x, Width: width, Name: condition, Count: n})
			x += width
		}
	}
	return bars
}

type bar struct {
	Class    string
	X, Width float64
	Name     string
	Count    int
}

var conditions = []string{conditionAttacked, conditionGone, conditionSkewed, conditionThere}

func classOf(condition string) string { return strings.ReplaceAll(condition, " ", "-") }

type zoneView struct {
	Zone   string
	All    int
	Groups []hostGroup
	More   int // groups that are not shown
}

// gravity orders groups: what is attacked or not as it should be stands before what is whole.
func (g hostGroup) gravity() int {
	for i, condition := range conditions {
		if g.Counts[condition] > 0 {
			return i
		}
	}
	return len(conditions)
}

// fleetMap shows the fleet by zone, service and environment. Its size is bounded: hosts one by one stand on the map of a small fleet, groups of a
// zone are shown the gravest first, and where there are more than fit a list of them is a step away.
func (s *server) fleetMap(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "fleet", "Fleet", 2*time.Second, func(context.Context) (any, error) {
		hosts := s.Control.Hosts()
		zones := map[string]map[[2]string]*hostGroup{}
		total := hostGroup{Counts: map[string]int{}}
		for _, h := range hosts {
			zone := cmp.Or(h.Zone, noValue)
			if zones[zone] == nil {
				zones[zone] = map[[2]string]*hostGroup{}
			}
			key := [2]string{cmp.Or(h.Tags[fleet.TagService], noValue), cmp.Or(h.Tags[fleet.TagEnvironment], noValue)}
			g := zones[zone][key]
			if g == nil {
				g = &hostGroup{Service: key[0], Environment: key[1], Counts: map[string]int{}, Filter: hostFilter{Zone: zone, Service: key[0], Environment: key[1]}}
				zones[zone][key] = g
			}
			condition := conditionOf(h)
			g.All, total.All = g.All+1, total.All+1
			g.Counts[condition]++
			total.Counts[condition]++
			if len(hosts) <= drawnMax && len(g.Chips) <= chipsMax {
				g.Chips = append(g.Chips, h)
			}
		}
		var views []zoneView
		for _, zone := range slices.Sorted(maps.Keys(zones)) {
			view := zoneView{Zone: zone}
			for _, g := range zones[zone] {
				if g.All > chipsMax {
					g.Chips = nil
				}
				view.All += g.All
				view.Groups = append(view.Groups, *g)
			}
			byName := func(a, b hostGroup) int {
				return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Environment, b.Environment))
			}
			if len(view.Groups) > groupsShown {
				slices.SortFunc(view.Groups, func(a, b hostGroup) int { return cmp.Or(cmp.Compare(a.gravity(), b.gravity()), byName(a, b)) })
				view.More, view.Groups = len(view.Groups)-groupsShown, view.Groups[:groupsShown]
			} else {
				slices.SortFunc(view.Groups, byName)
			}
			views = append(views, view)
		}
		more := max(0, len(views)-zonesShown)
		return map[string]any{"Zones": views[:len(views)-more], "More": more, "Total": total, "Conditions": conditions, "Drawn": len(hosts) <= drawnMax}, nil
	})
}

// Condition and Class are for templates.
type hostRow struct {
	fleet.HostView
	Condition string
}

// Class of the condition, for its colour.
func (h hostRow) Class() string { return classOf(h.Condition) }

// hosts lists hosts that a filter fits, by name, from one name on.
func (s *server) hosts(w http.ResponseWriter, r *http.Request, v *visit) {
	filter, after := filterOf(r), r.URL.Query().Get("after")
	s.show(w, r, v, "hosts", "Hosts", 2*time.Second, func(context.Context) (any, error) {
		var rows []hostRow
		all, next := 0, ""
		for _, h := range s.Control.Hosts() { // sorted by name
			if !filter.fits(h) {
				continue
			}
			all++
			switch {
			case h.Name <= after:
			case len(rows) == hostsShown:
				next = rows[len(rows)-1].Name
			default:
				rows = append(rows, hostRow{h, conditionOf(h)})
			}
		}
		return map[string]any{"Hosts": rows, "All": all, "Next": next, "Filter": filter, "Conditions": conditions, "After": after}, nil
	})
}

func (s *server) host(w http.ResponseWriter, r *http.Request, v *visit) {
	name := r.PathValue("host")
	s.show(w, r, v, "host", name, time.Second, func(context.Context) (any, error) {
		hosts := s.Control.Hosts()
		i := slices.IndexFunc(hosts, func(h fleet.HostView) bool { return h.Name == name })
		if i < 0 {
			return nil, notThere("host", name)
		}
		return map[string]any{"Host": hostRow{hosts[i], conditionOf(hosts[i])}, "Runs": s.Control.RunsOn(name, hostRuns)}, nil
	})
}

func tagText(tags map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		all = append(all, fmt.Sprintf("%s=%s", key, tags[key]))
	}
	return strings.Join(all, ", ")
}
