package attack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"firedrill/internal/attack/policy"
	"firedrill/internal/drill"
)

// networkGroup is the group of the kinds that hit addresses.
const networkGroup = "network"

// bounds are the rules that the owner of this host wrote down, as an invocation meets them. They hold for every caller, root too.
type bounds struct {
	invocation Invocation
	rules      *policy.Policy // nil: no bounds
}

// bounds reads the policy file of this host. A file that cannot be trusted or understood refuses the attack.
func (i Invocation) bounds() (bounds, error) {
	if i.noPolicy {
		return bounds{invocation: i}, nil
	}
	known := func() []string {
		names := []string{i.describe().Name}
		for _, kind := range i.Others {
			if name := kind.Describe().Name; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names
	}
	rules, err := policy.Reader{Path: i.policyFile, Owner: i.policyOwner, Kinds: known}.Read()
	return bounds{invocation: i, rules: rules}, err
}

// spare adds what must never be hit to the flags of a network attack, as if the user had written it there with ^.
func (b bounds) spare(ctx context.Context, flags Values) (Values, error) {
	targets := b.rules.Spares()
	if len(targets) == 0 {
		return flags, nil
	}
	kind := b.invocation.describe()
	if kind.Group != networkGroup {
		return flags, nil
	}
	takes := func(name string) bool {
		return slices.ContainsFunc(kind.Flags, func(f drill.AttackFlag) bool { return f.Name == name && f.Type == TypeList })
	}
	added := Values{}
	for name, given := range flags {
		added[name] = slices.Clone(given)
	}
	for _, target := range targets {
		addresses := []string{target.String()}
		if target.Name != "" {
			// A name that leads nowhere now would be a rule that is not kept.
			found, err := Resolver{}.LookupAll(ctx, []string{target.Name})
			if err != nil {
				return nil, b.rules.Doubt(kind.Name, target, err)
			}
			if takes("hostname") {
				added["hostname"] = append(added["hostname"], "^"+target.Name)
				continue
			}
			addresses = nil
			for _, address := range found[target.Name].Addresses {
				addresses = append(addresses, address.String())
			}
		}
		if !takes("ipaddress") {
			return nil, b.rules.Doubt(kind.Name, target, errors.New("this kind of attack cannot spare anything"))
		}
		for _, address := range addresses {
			added["ipaddress"] = append(added["ipaddress"], "^"+address)
		}
	}
	return added, nil
}

// admit decides on a plan as things stand now.
func (b bounds) admit(ctx context.Context, plan Plan) error {
	if b.rules == nil {
		return nil
	}
	order := policy.Order{Kind: plan.Attack, Delay: plan.Delay, Length: plan.Length, Consent: b.invocation.Yes}
	if kind := b.invocation.describe(); kind.Group == networkGroup {
		scope, err := ParseScope(b.invocation.Flags)
		if err != nil {
			return Refuse(plan.Attack, "", "%w", err)
		}
		order.Network, order.Narrow, order.User = true, !scope.Whole(), scope.User
		order.Container = scope.Container != "" && b.invocation.part == nil // who leads the parts has asked for their pods
		for _, pod := range plan.Pods {
			order.Namespaces = append(order.Namespaces, pod.Namespace)
		}
	}
	if b.rules.AsksForOthers() {
		running, err := Running(ctx)
		if err != nil {
			return &drill.Error{Op: "attack " + plan.Attack, Kind: drill.Refused, Err: fmt.Errorf("not attacking: what else runs here is not known: %w", err),
				Hint: "see: firedrill status"}
		}
		for _, other := range running {
			switch {
			case other.GUID == plan.GUID, b.ours(other.GUID, plan): // that is us
			case other.PartOf != "" && slices.ContainsFunc(running, func(s Status) bool { return s.GUID == other.PartOf }): // counted with the whole
			case other.Phase == PhaseSilent || other.Attack == "":
				order.Running = append(order.Running, policy.Silent)
			default:
				order.Running = append(order.Running, other.Attack)
			}
		}
	}
	return b.rules.Admit(order, time.Now())
}

// ours reports whether a GUID is of the same attack on pods: the whole, or another part.
func (b bounds) ours(guid string, plan Plan) bool {
	if p := b.invocation.part; p != nil {
		return guid == p.Of || slices.Contains(p.Siblings, guid)
	}
	step, leading := leads(plan)
	return leading && slices.ContainsFunc(step.all, func(r *running) bool { return r.part.GUID == guid })
}
