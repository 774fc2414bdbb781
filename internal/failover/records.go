package failover

import (
	"fmt"
	"net/netip"
	"slices"
)

// Routing says how one of several records for a name is chosen.
type Routing string

// The routing policies, as Route 53 has them. One name has one of them.
const (
	RoutingFailover   Routing = "failover"   // the primary, else the secondary
	RoutingWeighted   Routing = "weighted"   // by lot, as the weights say
	RoutingMultivalue Routing = "multivalue" // several at once
)

const (
	valuesMax = 8  // records in one multivalue answer
	depthMax  = 16 // of aliases within aliases
	weightMax = 255
)

// Record is one of the records for a name: addresses, or an alias for another set of records.
type Record struct {
	ID        string
	Addresses []netip.Addr
	Check     string // name of its health check; empty: it is always healthy
	Secondary bool   // for failover; otherwise it is the primary
	Weight    int    // for weighted, 0 to 255

	Alias          *RecordSet // instead of addresses
	EvaluateTarget bool       // the alias is healthy only while one of its target's records is
}

// RecordSet is all records for one name and type.
type RecordSet struct {
	Routing Routing
	Records []Record
}

// Share is a record with its part of the lots. The parts of what Shares returns are positive.
type Share struct {
	Record Record
	Part   int
}

// Valid says what is wrong with a set, as Route 53 would refuse it.
func (s RecordSet) Valid() error { return s.valid(0) }

func (s RecordSet) valid(depth int) error {
	if len(s.Records) == 0 {
		return fmt.Errorf("a name without records")
	}
	if depth > depthMax {
		return fmt.Errorf("aliases within aliases, more than %d deep", depthMax)
	}
	primaries, secondaries := 0, 0
	for i, record := range s.Records {
		if slices.ContainsFunc(s.Records[:i], func(other Record) bool { return other.ID == record.ID }) {
			return fmt.Errorf("two records %q", record.ID)
		}
		if (len(record.Addresses) == 0) == (record.Alias == nil) {
			return fmt.Errorf("record %s: write addresses or an alias, one of both", record.ID)
		}
		if record.Weight < 0 || record.Weight > weightMax {
			return fmt.Errorf("record %s: weight %d; write 0 to %d", record.ID, record.Weight, weightMax)
		}
		if record.Alias != nil {
			if err := record.Alias.valid(depth + 1); err != nil {
				return fmt.Errorf("record %s: %w", record.ID, err)
			}
		}
		if record.Secondary {
			secondaries++
		} else {
			primaries++
		}
	}
	switch s.Routing {
	case RoutingFailover:
		if primaries != 1 || secondaries > 1 {
			return fmt.Errorf("failover needs one primary record and at most one secondary")
		}
	case RoutingWeighted, RoutingMultivalue:
	default:
		return fmt.Errorf("routing %q is unknown; write failover, weighted or multivalue", s.Routing)
	}
	return nil
}

// Shares returns the records that may be answered, each with its part of the lots. healthy says whether a check is. It never returns
// none: when no record is healthy, all are treated as if they were.
func (s RecordSet) Shares(healthy func(check string) bool) []Share {
	var well []Record
	for _, record := range s.Records {
		if record.healthy(healthy) {
			well = append(well, record)
		}
	}
	if s.Routing == RoutingFailover {
		return failoverShares(s.Records, well)
	}
	if len(well) == 0 {
		well = s.Records
	}
	shares := make([]Share, 0, len(well))
	total := 0
	for _, record := range well {
		total += record.Weight
	}
	for _, record := range well {
		switch {
		case s.Routing == RoutingMultivalue || total == 0:
			shares = append(shares, Share{record, 1})
		case record.Weight > 0:
			shares = append(shares, Share{record, record.Weight})
		}
	}
	return shares
}

// failoverShares is the primary if it is healthy, else the secondary if that is, else the primary.
func failoverShares(all, well []Record) []Share {
	pick := func(from []Record, secondary bool) []Share {
		if i := slices.IndexFunc(from, func(r Record) bool { return r.Secondary == secondary }); i >= 0 {
			return []Share{{from[i], 1}}
		}
		return nil
	}
	for _, choice := range [][]Share{pick(well, false), pick(well, true), pick(all, false)} {
		if choice != nil {
			return choice
		}
	}
	return nil // no primary: not valid
}

// healthy says whether a record is: its own check, and its target where that is to be looked at. Both must pass.
func (r Record) healthy(healthy func(check string) bool) bool {
	if r.Check != "" && !healthy(r.Check) {
		return false
	}
	return r.Alias == nil || !r.EvaluateTarget || slices.ContainsFunc(r.Alias.Records, func(one Record) bool { return one.healthy(healthy) })
}

// Answer returns the addresses for one query. lot is any number, as evenly spread as the answers are to be; the same lot gives the same
// answer everywhere. The set must be valid.
func (s RecordSet) Answer(healthy func(check string) bool, lot uint64) []netip.Addr {
	var all []netip.Addr
	for _, record := range s.Chosen(healthy, lot) {
		all = append(all, record.Addresses...)
	}
	return all
}

// Chosen returns the records that one query is answered with: those that hold something themselves, behind all aliases.
func (s RecordSet) Chosen(healthy func(check string) bool, lot uint64) []Record {
	shares := s.Shares(healthy)
	if s.Routing != RoutingMultivalue {
		return draw(shares, lot).behind(healthy, next(lot))
	}
	var all []Record
	for range min(valuesMax, len(shares)) {
		lot = next(lot)
		i := int(lot % uint64(len(shares))) //nolint:gosec // shorter than an int
		all = append(all, shares[i].Record.behind(healthy, next(lot))...)
		shares = slices.Delete(shares, i, i+1)
	}
	return all
}

// behind returns the record, or what its alias leads to.
func (r Record) behind(healthy func(check string) bool, lot uint64) []Record {
	if r.Alias != nil {
		return r.Alias.Chosen(healthy, lot)
	}
	return []Record{r}
}

// draw returns the record on which the lot falls.
func draw(shares []Share, lot uint64) Record {
	total := 0
	for _, share := range shares {
		total += share.Part
	}
	rest := int(next(lot) % uint64(total)) //nolint:gosec // at most weightMax for each record
	for _, share := range shares {
		if rest -= share.Part; rest < 0 {
			return share.Record
		}
	}
	return shares[len(shares)-1].Record
}

// next spreads a number evenly (the step and the mixing of SplitMix64), so that lots that follow each other give answers that do not.
func next(lot uint64) uint64 {
	lot += 0x9E3779B97F4A7C15
	lot = (lot ^ lot>>30) * 0xBF58476D1CE4E5B9
	lot = (lot ^ lot>>27) * 0x94D049BB133111EB
	return lot ^ lot>>31
}
