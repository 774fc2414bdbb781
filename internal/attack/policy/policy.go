//go:build !attackpart

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Policy is what the owner of a host allows. A nil Policy allows everything. Rules add up: an attack must be admitted by each.
type Policy struct {
	Kinds          list[Word, *Word]     `yaml:"kinds"`           // only these; left out: all
	Deny           list[Word, *Word]     `yaml:"deny"`            // never these; wins over kinds
	NeverHit       list[Target, *Target] `yaml:"never_hit"`       // spared by every network attack
	MaxLength      *rule[Length]         `yaml:"max_length"`      // of the impact; one-way kinds have none
	MaxParallel    *rule[Count]          `yaml:"max_parallel"`    // attacks at the same time
	TimeZone       *rule[Zone]           `yaml:"time_zone"`       // of hours and freezes
	Hours          list[Window, *Window] `yaml:"hours"`           // the impact lies within these from begin to end
	Freezes        list[Freeze, *Freeze] `yaml:"freezes"`         // and touches none of these days
	RequireConsent list[Word, *Word]     `yaml:"require_consent"` // these need --yes
	NarrowOnly     list[Word, *Word]     `yaml:"narrow_only"`     // network attacks of these kinds must be narrower than the host
	Users          list[Word, *Word]     `yaml:"users"`           // whom an attack that is narrowed to a user may hit; left out: all
	PodNamespaces  list[Word, *Word]     `yaml:"pod_namespaces"`  // whose pods an attack may hit; left out: all
	Clients        list[Target, *Target] `yaml:"clients"`         // what a fleet may have this host look at as a client; left out: nothing

	file string
}

// Admit decides whether an attack may run. The error is a *drill.Error of kind Refused: it begins with "not attacking:", names the line
// of the rule, and its hint is the cure. now is the host's clock, which the rules on hours have to believe.
func (p *Policy) Admit(o Order, now time.Time) error {
	if p == nil {
		return nil
	}
	for _, check := range []func(Order, time.Time) error{p.admitKind, p.admitScope, p.admitPods, p.admitConsent, p.admitLength, p.admitParallel, p.admitTime} {
		if err := check(o, now); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) refuse(o Order, line int, cure, format string, args ...any) error {
	return &drill.Error{Op: "attack " + o.Kind, Kind: drill.Refused, Hint: cure,
		Err: fmt.Errorf("not attacking: %s (%s:%d)", fmt.Sprintf(format, args...), p.file, line)}
}

// Doubt refuses an attack because a rule cannot be kept: never_hit names what cannot be resolved, or a kind that cannot spare.
func (p *Policy) Doubt(kind string, target Target, why error) error {
	line := 0
	for _, item := range p.NeverHit {
		if item.Value == target {
			line = item.Line
		}
	}
	return p.refuse(Order{Kind: kind}, line, "write an address there, or mend what stands in the way", "%s must never be hit, and that cannot be kept: %v", target, why)
}

func (p *Policy) admitKind(o Order, _ time.Time) error {
	for _, item := range p.Deny {
		if word := string(item.Value); word == o.Kind || word == All {
			return p.refuse(o, item.Line, "the owner of this host decides: take it off the list deny", "this host denies %s", o.Kind)
		}
	}
	if len(p.Kinds) == 0 || slices.ContainsFunc(p.Kinds, func(item rule[Word]) bool { return string(item.Value) == o.Kind }) {
		return nil
	}
	var allowed []string
	for _, item := range p.Kinds {
		allowed = append(allowed, string(item.Value))
	}
	return p.refuse(o, p.Kinds[0].Line, "the owner of this host decides: add it to the list kinds", "this host allows only %s", strings.Join(allowed, ", "))
}

// admitScope compares users as they are written: a number in the place of a name is refused, which is the safe mistake.
func (p *Policy) admitScope(o Order, _ time.Time) error {
	for _, item := range p.NarrowOnly {
		if word := string(item.Value); o.Network && !o.Narrow && (word == o.Kind || word == All) {
			return p.refuse(o, item.Line, "narrow it with --user, --cgroup, --process, --container or --pod", "this host allows %s only on a part of it", o.Kind)
		}
	}
	if o.User == "" || len(p.Users) == 0 || slices.ContainsFunc(p.Users, func(item rule[Word]) bool { return string(item.Value) == o.User }) {
		return nil
	}
	var allowed []string
	for _, item := range p.Users {
		allowed = append(allowed, string(item.Value))
	}
	return p.refuse(o, p.Users[0].Line, "name one of them, as it is written there", "this host allows attacks on the traffic of users %s, not of %s",
		strings.Join(allowed, ", "), o.User)
}

// admitPods refuses single containers too where namespaces are bounded: a container may be a pod's, and its ID does not tell whose.
func (p *Policy) admitPods(o Order, _ time.Time) error {
	if len(p.PodNamespaces) == 0 {
		return nil
	}
	var allowed []string
	for _, item := range p.PodNamespaces {
		allowed = append(allowed, string(item.Value))
	}
	line := p.PodNamespaces[0].Line
	for _, namespace := range o.Namespaces {
		if !slices.Contains(allowed, namespace) {
			return p.refuse(o, line, "add --pod-namespace with one of them", "this host allows attacks on pods of namespaces %s, not of %s", strings.Join(allowed, ", "), namespace)
		}
	}
	if o.Container {
		return p.refuse(o, line, "name pods by their labels, with --pod", "this host allows attacks on pods of namespaces %s, and a container may be of any", strings.Join(allowed, ", "))
	}
	return nil
}

func (p *Policy) admitConsent(o Order, _ time.Time) error {
	for _, item := range p.RequireConsent {
		if word := string(item.Value); (word == o.Kind || word == All) && !o.Consent {
			return p.refuse(o, item.Line, "if you mean it, add --yes", "this host wants a person's consent to %s", o.Kind)
		}
	}
	return nil
}

func (p *Policy) admitLength(o Order, _ time.Time) error {
	if p.MaxLength == nil || o.Length <= time.Duration(p.MaxLength.Value) {
		return nil
	}
	longest := time.Duration(p.MaxLength.Value)
	return p.refuse(o, p.MaxLength.Line, fmt.Sprintf("ask for at most %g seconds, as -l %g", longest.Seconds(), longest.Seconds()),
		"%s is longer than %s, the most that this host allows", o.Length, longest)
}

func (p *Policy) admitParallel(o Order, _ time.Time) error {
	if p.MaxParallel == nil || len(o.Running) < int(p.MaxParallel.Value) {
		return nil
	}
	return p.refuse(o, p.MaxParallel.Line, "wait until one has ended; see: firedrill status", "%d at the same time are the most that this host allows, and %s running: %s",
		p.MaxParallel.Value, isAre(len(o.Running)), strings.Join(o.Running, ", "))
}

func isAre(count int) string {
	if count == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", count)
}

// Spares returns what every network attack must spare.
func (p *Policy) Spares() []Target {
	if p == nil {
		return nil
	}
	targets := make([]Target, 0, len(p.NeverHit))
	for _, item := range p.NeverHit {
		targets = append(targets, item.Value)
	}
	return targets
}

// AsksForOthers reports whether Admit needs to know what else runs.
func (p *Policy) AsksForOthers() bool {
	return p != nil && (p.MaxParallel != nil || p.timed())
}

// AdmitClient decides whether this host may look at a service as a client of it, by the name or address that is asked. own are the addresses that the service's file calls its own.
// It returns the addresses that may be connected to, whatever a name leads to: without a policy own, else what the owner of this host wrote down, and nothing more.
func (p *Policy) AdmitClient(name string, own []netip.Prefix) ([]netip.Prefix, error) {
	if p == nil {
		return own, nil
	}
	refuse := func(line int, cure, format string, args ...any) error {
		return &drill.Error{Op: "sample " + name, Kind: drill.Refused, Hint: cure, Err: fmt.Errorf("not sampling: %s (%s:%d)", fmt.Sprintf(format, args...), p.file, line)}
	}
	for _, item := range p.Deny {
		if item.Value == All {
			return nil, refuse(item.Line, "the owner of this host decides: take it off the list deny", "this host denies all")
		}
	}
	if len(p.Clients) == 0 {
		return nil, refuse(1, "the owner of this host decides: add clients: with the name or the networks of the service", "this host looks at no service as a client")
	}
	var within []netip.Prefix
	for _, item := range p.Clients {
		if strings.EqualFold(strings.TrimSuffix(item.Value.Name, "."), strings.TrimSuffix(name, ".")) && item.Value.Name != "" {
			return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}, nil
		}
		if item.Value.Name == "" {
			within = append(within, item.Value.Prefix)
		}
	}
	if len(within) == 0 {
		return nil, refuse(p.Clients[0].Line, "the owner of this host decides: add it to the list clients", "this host does not look at %s", name)
	}
	return within, nil
}
