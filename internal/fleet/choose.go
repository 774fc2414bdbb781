package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"firedrill/internal/drill"
)

// Tags with a meaning of their own.
const (
	TagService     = "service"
	TagEnvironment = "environment"
	// TagGroup names the redundancy group of a host's service: services that stand in for each other, of which one at a time is attacked.
	TagGroup = "redundancy-group"
)

// Candidate is a host as the choice sees it.
type Candidate struct {
	Key      string
	Name     string
	Zone     string
	Tags     map[string]string
	Kinds    []string // that can run there
	Online   bool     // it was heard of just now
	Attacked bool     // something is or may be in force there
	Unfit    string   // why it cannot be ordered although it is there; empty: it can
	Samples  bool     // it is unfit because it samples for a drill, which it may do for another too
}

// Healthy hosts can carry a service.
func (c Candidate) Healthy() bool { return c.Online && !c.Attacked }

// Selector says which hosts. All that is given must hold.
type Selector struct {
	Names   []string          `json:"names,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Zones   []string          `json:"zones,omitempty"`
	All     bool              `json:"all,omitempty"`     // every host; said, because nothing said must not mean everything
	Percent float64           `json:"percent,omitempty"` // of those that match, at random; 0: all of them
	Count   int               `json:"count,omitempty"`   // likewise
	Seed    uint64            `json:"seed"`              // of the random choice; the same seed and the same hosts give the same choice. 0: the server draws one, each time
}

func (s Selector) check() error {
	switch {
	case !s.All && len(s.Names)+len(s.Tags)+len(s.Zones) == 0:
		return errors.New("it is not said which hosts")
	case s.All && len(s.Names)+len(s.Tags)+len(s.Zones) > 0:
		return errors.New("all hosts, or some: not both")
	case s.Percent != 0 && s.Count != 0:
		return errors.New("a percentage or a count: not both")
	case !(s.Percent >= 0 && s.Percent <= 100):
		return fmt.Errorf("%g is not a percentage", s.Percent)
	case s.Count < 0:
		return fmt.Errorf("%d is not a count", s.Count)
	}
	return nil
}

func (s Selector) matches(c Candidate) bool {
	if len(s.Names) > 0 && !slices.Contains(s.Names, c.Name) || len(s.Zones) > 0 && !slices.Contains(s.Zones, c.Zone) {
		return false
	}
	for key, value := range s.Tags {
		if c.Tags[key] != value {
			return false
		}
	}
	return true
}

// asked says what a host must have to match.
func (s Selector) asked() string {
	var parts []string
	if len(s.Names) > 0 {
		parts = append(parts, "the name "+strings.Join(s.Names, " or "))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		parts = append(parts, "the tag "+key+"="+s.Tags[key])
	}
	if len(s.Zones) > 0 {
		parts = append(parts, "the zone "+strings.Join(s.Zones, " or "))
	}
	if s.All {
		return "joined"
	}
	return strings.Join(parts, " and ")
}

// few joins the first of a list that may be long.
func few(all []string) string {
	const most = 5
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// Choose returns the hosts that a selector means, sorted by name. A host that is named must be there; one that only matches is left out
// when it is not, or when something is in force on it. Hosts that are chosen at random are chosen within the limits where that many can be; whether
// what is returned may be attacked is Limits.Admit's to say.
func Choose(fleet []Candidate, s Selector, kind string, limits Limits) ([]Candidate, error) {
	refuse := func(kind drill.ErrorKind, hint, format string, args ...any) ([]Candidate, error) {
		return nil, &drill.Error{Op: "choose hosts", Kind: kind, Hint: hint, Err: fmt.Errorf(format, args...)}
	}
	if err := s.check(); err != nil {
		hint := "name hosts with --host, --tag or --zone, or say --all"
		if s.All || len(s.Names)+len(s.Tags)+len(s.Zones) > 0 {
			hint = "see: firedrill fleet attack --help"
		}
		return refuse(drill.Invalid, hint, "%w", err)
	}
	sorted := slices.SortedFunc(slices.Values(fleet), func(a, b Candidate) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range s.Names {
		if !slices.ContainsFunc(sorted, func(c Candidate) bool { return c.Name == name }) {
			return refuse(drill.Invalid, "see: firedrill fleet hosts", "there is no host %q", name)
		}
	}
	var matching []Candidate
	var unfit []string
	for _, c := range sorted {
		if !s.matches(c) {
			continue
		}
		why := ""
		switch {
		case !c.Online:
			why = "is not there"
		case c.Attacked:
			why = "is under attack"
		case c.Unfit != "":
			why = c.Unfit
		case !slices.Contains(c.Kinds, kind):
			why = "cannot run " + kind
		}
		if why == "" {
			matching = append(matching, c)
		} else if slices.Contains(s.Names, c.Name) {
			return refuse(drill.Refused, "see: firedrill fleet hosts", "not attacking: host %s %s", c.Name, why)
		} else {
			unfit = append(unfit, c.Name+" "+why)
		}
	}
	switch {
	case len(matching) > 0:
	case len(unfit) == 0:
		return refuse(drill.Refused, "see: firedrill fleet hosts", "not attacking: no host has %s", s.asked())
	default:
		return refuse(drill.Refused, "see: firedrill fleet hosts", "not attacking: of the hosts with %s none can be attacked: %s", s.asked(), few(unfit))
	}
	want := len(matching)
	switch {
	case s.Count > len(matching):
		return refuse(drill.Refused, "ask for fewer", "not attacking: %d hosts are asked for, and %d match", s.Count, len(matching))
	case s.Count > 0:
		want = s.Count
	case s.Percent > 0:
		want = max(1, int(s.Percent*float64(len(matching))/100))
	}
	random := rand.New(rand.NewPCG(s.Seed, 0)) //nolint:gosec // a choice that can be made again is what is wanted
	random.Shuffle(len(matching), func(i, j int) { matching[i], matching[j] = matching[j], matching[i] })
	chosen := matching[:want]
	if want < len(matching) && limits.Admit(fleet, chosen) != nil {
		if within := limits.pick(fleet, matching, want); len(within) == want {
			chosen = within
		}
	}
	slices.SortFunc(chosen, func(a, b Candidate) int { return strings.Compare(a.Name, b.Name) })
	return chosen, nil
}

// Limits bound what may be hit at the same time, over all runs.
type Limits struct {
	Percent float64 `json:"percent"` // of the hosts of a service, of an environment of it, and of a zone; one host of each is always allowed
}

// Admit decides whether the chosen hosts may be attacked beside what is under attack already. Whatever the percentage: a service, or all
// hosts that name none, keeps one healthy host.
func (l Limits) Admit(fleet, chosen []Candidate) error {
	hit := map[string]bool{}
	for _, c := range chosen {
		hit[c.Key] = true
	}
	groups := map[string]*group{}
	touched := map[string]bool{}
	for _, c := range fleet {
		for _, name := range groupsOf(c) {
			g := groups[name]
			if g == nil {
				g = &group{}
				groups[name] = g
			}
			g.all++
			if hit[c.Key] || c.Attacked {
				g.down++
			} else if c.Healthy() {
				g.left++
			}
			touched[name] = touched[name] || hit[c.Key]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		if !touched[name] {
			continue
		}
		if strings.HasPrefix(name, TagService) && g.left == 0 {
			return &drill.Error{Op: "limits", Kind: drill.Refused, Err: fmt.Errorf("not attacking: no healthy host of %s would be left", name), Hint: "attack fewer hosts; see: firedrill fleet hosts"}
		}
		if allowed := l.allowed(g); g.down > allowed {
			return &drill.Error{Op: "limits", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %d of %d hosts of %s would be hit at the same time, and %d are allowed", g.down, g.all, name, allowed),
				Hint: "attack fewer hosts, or start the server with a higher --max-percent"}
		}
	}
	return nil
}

// group counts the hosts of a service, of an environment of it, or of a zone. Down are those that are hit, or under attack already; left those that
// are healthy afterwards.
type group struct{ all, down, left int }

func (l Limits) allowed(g *group) int { return max(1, int(l.Percent*float64(g.all)/100)) }

// pick takes hosts in the order in which they come, as long as each keeps within the limits with those before it, and returns at most so many.
func (l Limits) pick(fleet, from []Candidate, most int) []Candidate {
	groups := map[string]*group{}
	for _, c := range fleet {
		for _, name := range groupsOf(c) {
			if groups[name] == nil {
				groups[name] = &group{}
			}
			g := groups[name]
			g.all++
			if c.Attacked {
				g.down++
			} else if c.Healthy() {
				g.left++
			}
		}
	}
	var picked []Candidate
	for _, c := range from {
		if len(picked) == most {
			break
		}
		names := groupsOf(c)
		if slices.ContainsFunc(names, func(name string) bool {
			g := groups[name]
			return g.down+1 > l.allowed(g) || strings.HasPrefix(name, TagService) && g.left <= 1
		}) {
			continue
		}
		for _, name := range names {
			groups[name].down++
			groups[name].left--
		}
		picked = append(picked, c)
	}
	return picked
}

// groupsOf names the groups of which a host is a part.
func groupsOf(c Candidate) []string {
	service := TagService + " " + c.Tags[TagService]
	if c.Tags[TagService] == "" {
		service = TagService + " (none named)"
	}
	groups := []string{service}
	if environment := c.Tags[TagEnvironment]; environment != "" {
		groups = append(groups, "environment "+environment+" of "+service)
	}
	if c.Zone != "" {
		groups = append(groups, "zone "+c.Zone)
	}
	return groups
}

// ServicesOf names the services of hosts, sorted, each once. Hosts that name none share one.
func ServicesOf(hosts []Candidate) []string {
	var names []string
	for _, c := range hosts {
		if name := c.Tags[TagService]; name != "" {
			names = append(names, name)
		} else {
			names = append(names, NoService)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// GroupsOf names the redundancy groups of services, sorted, each once. A service is in the groups that any of its hosts names: one that was joined
// without the tag takes nothing out of it.
func GroupsOf(services []string, all []Candidate) []string {
	var names []string
	for _, c := range all {
		if name := c.Tags[TagGroup]; name != "" && slices.Contains(services, cmp.Or(c.Tags[TagService], NoService)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// NoService is the permit of hosts that name no service.
const NoService = "_none"
