package route53

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/route53recoverycluster"
	clustertypes "github.com/aws/aws-sdk-go-v2/service/route53recoverycluster/types"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/nameservers"
)

// on says which environments the addresses turn on.
func (p *Publisher) on(addresses []netip.Addr) map[string]bool {
	all := map[string]bool{}
	for name := range p.options.turned() {
		all[name] = slices.ContainsFunc(p.options.Environments[name], func(a netip.Addr) bool { return slices.Contains(addresses, a.Unmap()) })
	}
	return all
}

// whole returns all addresses of the environments that a change turns on.
func (p *Publisher) whole(change failover.Change) ([]netip.Addr, error) {
	var all []netip.Addr
	for name, on := range p.on(change.Addresses) {
		if on {
			all = append(all, p.options.Environments[name]...)
		}
	}
	all = failover.Sorted(all)
	for _, address := range change.Addresses {
		if !slices.Contains(all, address) {
			return nil, &drill.Error{
				Op: "publish " + change.Name, Kind: drill.Invalid, Err: fmt.Errorf("%s is the address of no environment that can be turned on", address),
				Hint: "Name a control or a check for the primary and for the secondary.",
			}
		}
	}
	return all, nil
}

// turn marks the change and turns what it says. Several may do so at once: each turns what the mark says until the mark has stayed the same
// meanwhile, so that the last to turn has turned the newest.
func (p *Publisher) turn(ctx context.Context, zone hosted, change failover.Change) error {
	p.turning.Lock()
	defer p.turning.Unlock()
	if err := p.swap(ctx, zone, change, true); err != nil {
		if len(p.options.Controls) == 0 || errors.Is(err, failover.ErrStale) || drill.KindOf(err) != drill.Unreachable {
			return err
		}
		p.options.Log.WarnContext(ctx, "Route 53 cannot be told the mark; the controls are turned all the same", "name", change.Name, "error", err)
		return p.set(ctx, change.Name, p.on(change.Addresses))
	}
	want := change
	for range triesMax {
		if err := p.set(ctx, change.Name, p.on(want.Addresses)); err != nil {
			return err
		}
		now, err := p.read(ctx, zone, change.Name, true)
		if err != nil {
			return err
		}
		serial := now.state.Serial()
		switch {
		case serial == want.Serial && serial == change.Serial:
			return nil
		case serial == want.Serial:
			return fmt.Errorf("publish %s in %s: serial %d, there is %d: %w", change.Name, zone.id, change.Serial, serial, failover.ErrStale)
		}
		want = failover.Change{Name: change.Name, Serial: serial, Addresses: now.state.MarkedAddresses()}
		if !again(ctx) {
			break
		}
	}
	return &drill.Error{Op: "publish " + change.Name, Kind: drill.Unreachable, Err: errors.New("someone else keeps changing the name"), Hint: "Look who else publishes it."}
}

// set turns environments on and off.
func (p *Publisher) set(ctx context.Context, name string, on map[string]bool) error {
	if !slices.Contains(slices.Collect(maps.Values(on)), true) {
		return &drill.Error{
			Op: "publish " + name, Kind: drill.Invalid, Err: errors.New("everything would be off, and Route 53 then answers as if all were on"),
			Hint: "Somebody has marked addresses that are of no environment; look at TXT " + nameservers.MarkName(name),
		}
	}
	if len(p.options.Controls) > 0 {
		return p.setControls(ctx, name, on)
	}
	// First on, then off: never are all off.
	for _, wanted := range []bool{true, false} {
		for _, environment := range slices.Sorted(maps.Keys(on)) {
			if on[environment] != wanted {
				continue
			}
			if err := p.setCheck(ctx, name, p.options.Checks[environment], wanted); err != nil {
				return err
			}
		}
	}
	return nil
}

// setControls turns all controls in one request, at the first endpoint of the cluster that answers.
func (p *Publisher) setControls(ctx context.Context, name string, on map[string]bool) error {
	op := "publish " + name
	input := &route53recoverycluster.UpdateRoutingControlStatesInput{}
	for _, environment := range slices.Sorted(maps.Keys(on)) {
		state := clustertypes.RoutingControlStateOff
		if on[environment] {
			state = clustertypes.RoutingControlStateOn
		}
		input.UpdateRoutingControlStateEntries = append(input.UpdateRoutingControlStateEntries, clustertypes.UpdateRoutingControlStateEntry{
			RoutingControlArn: aws.String(p.options.Controls[environment]), RoutingControlState: state,
		})
	}
	var problems []error
	for _, i := range rand.Perm(len(p.cluster)) { //nolint:gosec // any order will do
		_, err := p.cluster[i].UpdateRoutingControlStates(ctx, input)
		if err == nil {
			p.options.Log.InfoContext(ctx, "routing controls turned", "name", name, "on", on, "endpoint", p.options.Cluster[i])
			return nil
		}
		var conflict *clustertypes.ConflictException
		if errors.As(err, &conflict) {
			return &drill.Error{
				Op: op, Host: p.options.Cluster[i], Kind: drill.Refused, Err: fmt.Errorf("a safety rule says no: %s", conflict.ErrorMessage()),
				Hint: "It is tried again. To override a rule, a person does: aws route53-recovery-cluster update-routing-control-states --safety-rules-to-override ARN",
			}
		}
		problem := amazon.Problem(op, p.options.Cluster[i], err)
		if drill.KindOf(problem) != drill.Unreachable {
			return problem
		}
		problems = append(problems, problem)
	}
	return errors.Join(problems...)
}

// setCheck makes a health check healthy or unhealthy, whatever it would find: one that is disabled is healthy, and inverted then the contrary.
func (p *Publisher) setCheck(ctx context.Context, name, id string, healthy bool) error {
	op := "publish " + name
	for range triesMax {
		said, err := p.client.GetHealthCheck(ctx, &route53.GetHealthCheckInput{HealthCheckId: aws.String(id)})
		if err != nil {
			return amazon.Problem(op, "health check "+id, err)
		}
		config := said.HealthCheck.HealthCheckConfig
		if aws.ToBool(config.Disabled) && aws.ToBool(config.Inverted) == !healthy {
			return nil
		}
		_, err = p.client.UpdateHealthCheck(ctx, &route53.UpdateHealthCheckInput{
			HealthCheckId: aws.String(id), HealthCheckVersion: said.HealthCheck.HealthCheckVersion, Disabled: aws.Bool(true), Inverted: aws.Bool(!healthy),
		})
		if err == nil {
			p.options.Log.InfoContext(ctx, "health check set", "name", name, "check", id, "healthy", healthy)
			return nil
		}
		var mismatch *types.HealthCheckVersionMismatch
		if !errors.As(err, &mismatch) {
			return amazon.Problem(op, "health check "+id, err)
		}
		if !again(ctx) {
			break
		}
	}
	return &drill.Error{
		Op: op, Host: "health check " + id, Kind: drill.Unreachable, Err: errors.New("someone else keeps changing it"),
		Hint: "Look who else changes it: " + strings.Join(slices.Sorted(maps.Values(p.options.Checks)), " "),
	}
}
