package route53

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/nameservers"
)

// standing is what stands at a name, as Route 53 has it and as it reads.
type standing struct {
	sets  []types.ResourceRecordSet // that a change deletes
	state nameservers.State
}

// swap brings the change into the zone, or only its mark.
func (p *Publisher) swap(ctx context.Context, zone hosted, change failover.Change, onlyMark bool) error {
	op := "publish " + change.Name
	var last error
	for range triesMax {
		current, err := p.read(ctx, zone, change.Name, onlyMark)
		if err != nil {
			return err
		}
		done, err := current.judge(change, onlyMark)
		switch {
		case err != nil:
			return fmt.Errorf("%s in %s: %w", op, zone.id, err)
		case done:
			return nil
		}
		_, err = p.client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
			HostedZoneId: aws.String(zone.id), ChangeBatch: &types.ChangeBatch{
				Comment: aws.String(fmt.Sprintf("firedrill: serial %d", change.Serial)), Changes: p.changes(current, change, onlyMark),
			},
		})
		if err == nil {
			p.options.Log.InfoContext(ctx, "records changed", "name", change.Name, "zone", zone.id, "addresses", change.Addresses, "serial", change.Serial)
			return nil
		}
		last = amazon.Problem(op, zone.id, err)
		var refused *types.InvalidChangeBatch
		if !errors.As(err, &refused) { // otherwise someone else changed what we read; what is read next says so
			return last
		}
		if !again(ctx) {
			break
		}
	}
	return last
}

// judge says whether the change is there already, or that it must not be made.
func (s standing) judge(change failover.Change, onlyMark bool) (done bool, err error) {
	if onlyMark {
		return s.state.Marked(change)
	}
	return s.state.Judge(change)
}

// changes is the batch that replaces what was read by the change. Deleting a record that has become another one fails, and with it the batch.
func (p *Publisher) changes(current standing, change failover.Change, onlyMark bool) []types.Change {
	var batch []types.Change
	for i := range current.sets {
		batch = append(batch, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &current.sets[i]})
	}
	create := func(name string, kind types.RRType, values []types.ResourceRecord) {
		if len(values) > 0 {
			batch = append(batch, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: &types.ResourceRecordSet{
				Name: aws.String(name), Type: kind, TTL: aws.Int64(int64(p.options.TTL / time.Second)), ResourceRecords: values,
			}})
		}
	}
	var four, six []types.ResourceRecord
	for _, address := range change.Addresses {
		value := types.ResourceRecord{Value: aws.String(address.String())}
		if address.Is4() {
			four = append(four, value)
		} else {
			six = append(six, value)
		}
	}
	if !onlyMark {
		create(change.Name, types.RRTypeA, four)
		create(change.Name, types.RRTypeAaaa, six)
	}
	var quoted []string
	for _, text := range nameservers.MarkText(change) {
		quoted = append(quoted, `"`+text+`"`)
	}
	create(nameservers.MarkName(change.Name), types.RRTypeTxt, []types.ResourceRecord{{Value: aws.String(strings.Join(quoted, " "))}})
	return batch
}

// read returns what stands at a name and at its mark, or at its mark only.
func (p *Publisher) read(ctx context.Context, zone hosted, name string, onlyMark bool) (standing, error) {
	var found standing
	sets, err := p.sets(ctx, zone, nameservers.MarkName(name))
	if err != nil {
		return found, err
	}
	if !onlyMark {
		own, err := p.sets(ctx, zone, name)
		if err != nil {
			return found, err
		}
		sets = append(sets, own...)
	}
	for _, set := range sets {
		if err := found.take(name, set); err != nil {
			return found, err
		}
	}
	return found, nil
}

// take reads one set.
func (s *standing) take(name string, set types.ResourceRecordSet) error {
	op := "read " + name
	switch set.Type {
	case types.RRTypeA, types.RRTypeAaaa, types.RRTypeTxt, types.RRTypeCname:
	default:
		return nil
	}
	own := dns.CanonicalName(aws.ToString(set.Name)) == name
	if own && set.Type == types.RRTypeTxt {
		return nil // somebody's own text
	}
	if own && (set.SetIdentifier != nil || set.AliasTarget != nil || set.Type == types.RRTypeCname) {
		return &drill.Error{
			Op: op, Kind: drill.Invalid, Err: fmt.Errorf("its %s record is an alias or has a routing policy, so that Route 53 itself chooses what is answered", set.Type),
			Hint: "Name what is to be turned, route53: {controls: ...} or {checks: ...}; or give the name plain records.",
		}
	}
	s.sets = append(s.sets, set)
	for _, value := range set.ResourceRecords {
		record, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", aws.ToString(set.Name), aws.ToInt64(set.TTL), set.Type, aws.ToString(value.Value)))
		if err != nil || record == nil {
			return &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf("%s %s cannot be read: %w", set.Type, aws.ToString(value.Value), err)}
		}
		switch set.Type {
		case types.RRTypeA:
			s.state.A = append(s.state.A, record)
		case types.RRTypeAaaa:
			s.state.AAAA = append(s.state.AAAA, record)
		default:
			s.state.Mark = append(s.state.Mark, record)
		}
	}
	return nil
}

// sets returns all record sets of a name.
func (p *Publisher) sets(ctx context.Context, zone hosted, name string) ([]types.ResourceRecordSet, error) {
	var all []types.ResourceRecordSet
	input := &route53.ListResourceRecordSetsInput{HostedZoneId: aws.String(zone.id), StartRecordName: aws.String(name), MaxItems: aws.Int32(100)}
	for {
		page, err := p.client.ListResourceRecordSets(ctx, input)
		if err != nil {
			return nil, amazon.Problem("read "+name, zone.id, err)
		}
		for _, set := range page.ResourceRecordSets {
			if dns.CanonicalName(aws.ToString(set.Name)) != name {
				return all, nil
			}
			all = append(all, set)
		}
		if !page.IsTruncated {
			return all, nil
		}
		input.StartRecordName, input.StartRecordType, input.StartRecordIdentifier = page.NextRecordName, page.NextRecordType, page.NextRecordIdentifier
	}
}
