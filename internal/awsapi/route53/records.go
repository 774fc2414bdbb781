package route53

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"firedrill/internal/awsapi/wire"
)

const (
	batchMax = 1000
	listMax  = 300
	ttlMax   = 1<<31 - 1
)

var recordTypes = []string{"SOA", "A", "TXT", "NS", "CNAME", "MX", "NAPTR", "PTR", "SRV", "SPF", "AAAA", "CAA", "DS"}

// canonical returns a name as it is kept: in lower case, with the final dot, a wildcard as an asterisk.
func canonical(name string) string {
	return dns.CanonicalName(strings.ReplaceAll(name, `\052`, "*"))
}

// shown returns a name as the API shows it.
func shown(name string) string { return strings.ReplaceAll(name, "*", `\052`) }

// ChangeResourceRecordSets applies a batch: all of it, or nothing. What it says is answered over DNS when it returns.
func (s *Service) ChangeResourceRecordSets(id string, in ChangeResourceRecordSetsRequest) (ChangeInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, err := s.zone(id)
	if err != nil {
		return ChangeInfo{}, err
	}
	batch := in.ChangeBatch.Changes
	if len(batch) == 0 || len(batch) > batchMax {
		return ChangeInfo{}, invalidInput("A change batch has 1 to %d changes.", batchMax)
	}
	next := &zone{Zone: z.Zone, Serial: z.Serial + 1, Sets: slices.Clone(z.Sets)}
	var problems []string
	for _, change := range batch {
		change.ResourceRecordSet.Name = canonical(change.ResourceRecordSet.Name)
		if id := change.ResourceRecordSet.HealthCheckId; id != "" && s.checks[id] == nil && change.Action != "DELETE" {
			return ChangeInfo{}, fault("NoSuchHealthCheck", 404, "A health check with id %s does not exist.", id)
		}
		if problem := next.apply(change); problem != "" {
			problems = append(problems, problem)
		}
	}
	if len(problems) == 0 {
		problems = next.conflicts()
	}
	if len(problems) > 0 {
		return ChangeInfo{}, fault("InvalidChangeBatch", 400, "[%s]", strings.Join(problems, ", "))
	}
	next.Zone.ResourceRecordSetCount = len(next.Sets)
	return s.replace(next, in.ChangeBatch.Comment)
}

// replace makes a zone the one of its ID and serves it. Callers hold mu.
func (s *Service) replace(next *zone, comment string) (ChangeInfo, error) {
	zones := maps.Clone(s.zones)
	zones[next.Zone.Id] = next
	return s.become(zones, comment)
}

// become makes these the zones. Callers hold mu.
func (s *Service) become(zones map[string]*zone, comment string) (ChangeInfo, error) {
	served, err := s.build(zones)
	if err != nil {
		return ChangeInfo{}, fault("InvalidChangeBatch", 400, "[%v]", err)
	}
	before := s.zones
	info := ChangeInfo{Id: "/change/" + newID("C"), Status: "PENDING", SubmittedAt: wire.At(s.now()), Comment: comment}
	done := info
	done.Status = "INSYNC"
	s.zones, s.changes = zones, append(s.changes, done)
	if err := s.save(); err != nil {
		s.zones, s.changes = before, s.changes[:len(s.changes)-1]
		return ChangeInfo{}, err
	}
	s.served = served
	s.look()
	return info, nil
}

// describe names a set in a message.
func (r ResourceRecordSet) describe() string {
	text := fmt.Sprintf("[name='%s', type='%s'", shown(r.Name), r.Type)
	if r.SetIdentifier != "" {
		text += fmt.Sprintf(", set identifier='%s'", r.SetIdentifier)
	}
	return text + "]"
}

// same says whether two sets are one in a zone.
func (r ResourceRecordSet) same(other ResourceRecordSet) bool {
	return r.Name == other.Name && r.Type == other.Type && r.SetIdentifier == other.SetIdentifier
}

// holds says whether two sets hold the same, in any order of their values.
func (r ResourceRecordSet) holds(other ResourceRecordSet) bool {
	text := func(r ResourceRecordSet) string {
		var values []string
		for _, value := range r.ResourceRecords {
			values = append(values, value.Value)
		}
		slices.Sort(values)
		number := func(n *int) string {
			if n == nil {
				return "-"
			}
			return fmt.Sprint(*n)
		}
		ttl, alias := int64(-1), ""
		if r.TTL != nil {
			ttl = *r.TTL
		}
		if a := r.AliasTarget; a != nil {
			alias = fmt.Sprintf("%s %t", canonical(a.DNSName), a.EvaluateTargetHealth)
		}
		return fmt.Sprintf("%q %d %s %s %t %s %s", values, ttl, number(r.Weight), r.Failover, is(r.MultiValueAnswer), alias, r.HealthCheckId)
	}
	return text(r) == text(other)
}

// apply makes one change, or says why it cannot be made.
func (z *zone) apply(change Change) string {
	set := change.ResourceRecordSet
	at := slices.IndexFunc(z.Sets, set.same)
	switch change.Action {
	case "DELETE":
		switch {
		case at < 0:
			return fmt.Sprintf("Tried to delete resource record set %s but it was not found", set.describe())
		case !z.Sets[at].holds(set):
			return fmt.Sprintf("Tried to delete resource record set %s but the values provided do not match the current values", set.describe())
		case set.Name == z.Zone.Name && (set.Type == "SOA" || set.Type == "NS"):
			return fmt.Sprintf("A HostedZone must contain exactly one SOA record and at least one NS record for the zone itself: %s", set.describe())
		}
		z.Sets = slices.Delete(z.Sets, at, at+1)
		return ""
	case "CREATE", "UPSERT":
	default:
		return fmt.Sprintf("Action %q is none of CREATE, DELETE and UPSERT", change.Action)
	}
	if at >= 0 && change.Action == "CREATE" {
		return fmt.Sprintf("Tried to create resource record set %s but it already exists", set.describe())
	}
	if problem := z.unfit(set); problem != "" {
		return problem
	}
	if at >= 0 {
		z.Sets[at] = set
	} else {
		z.Sets = append(z.Sets, set)
	}
	return ""
}

// unfit says what is wrong with a set by itself.
func (z *zone) unfit(r ResourceRecordSet) string {
	routings := 0
	for _, there := range []bool{r.Failover != "", r.Weight != nil, is(r.MultiValueAnswer)} {
		if there {
			routings++
		}
	}
	_, isName := dns.IsDomainName(r.Name)
	switch {
	case !isName || !dns.IsSubDomain(z.Zone.Name, r.Name):
		return fmt.Sprintf("RRSet with DNS name %s is not permitted in zone %s", shown(r.Name), z.Zone.Name)
	case !slices.Contains(recordTypes, r.Type):
		return fmt.Sprintf("Type %q is not served", r.Type)
	case r.Region != "" || r.GeoLocation != nil:
		return fmt.Sprintf("Routing by latency or place is not served by this endpoint: %s", r.describe())
	case routings > 1 || (routings == 1) != (r.SetIdentifier != ""):
		return fmt.Sprintf("Invalid Resource Record Set %s: a SetIdentifier belongs to exactly one of Failover, Weight and MultiValueAnswer", r.describe())
	case r.Failover != "" && r.Failover != "PRIMARY" && r.Failover != "SECONDARY":
		return fmt.Sprintf("Failover %q is neither PRIMARY nor SECONDARY", r.Failover)
	case r.Weight != nil && (*r.Weight < 0 || *r.Weight > 255):
		return fmt.Sprintf("Weight %d is not between 0 and 255", *r.Weight)
	case r.AliasTarget != nil && (len(r.ResourceRecords) > 0 || r.TTL != nil):
		return fmt.Sprintf("Invalid request: an alias has neither TTL nor ResourceRecords: %s", r.describe())
	case r.AliasTarget != nil:
		return ""
	case len(r.ResourceRecords) == 0 || r.TTL == nil || *r.TTL < 0 || *r.TTL > ttlMax:
		return fmt.Sprintf("Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords]] in %s", r.describe())
	case r.Type == "CNAME" && (r.Name == z.Zone.Name || len(r.ResourceRecords) > 1):
		return fmt.Sprintf("RRSet of type CNAME with DNS name %s is not permitted at apex in zone %s, nor with several values", shown(r.Name), z.Zone.Name)
	}
	if _, err := r.records(); err != nil {
		return fmt.Sprintf("Invalid Resource Record: %v", err)
	}
	return ""
}

// records returns what a set holds. The owner's name is left out.
func (r ResourceRecordSet) records() ([]dns.RR, error) {
	var all []dns.RR
	kind := r.Type
	if kind == "SPF" {
		kind = "TXT"
	}
	for _, value := range r.ResourceRecords {
		record, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", r.Name, *r.TTL, kind, value.Value))
		if err != nil || record == nil || strings.ContainsAny(value.Value, "\n\r") {
			return nil, fmt.Errorf("FATAL problem: %s is no value of type %s in %s", value.Value, r.Type, r.describe())
		}
		record.Header().Name = ""
		all = append(all, record)
	}
	return all, nil
}

// conflicts says which sets of a zone cannot stand together.
func (z *zone) conflicts() []string {
	var problems []string
	for i, one := range z.Sets {
		for _, other := range z.Sets[:i] {
			if one.Name != other.Name {
				continue
			}
			switch {
			case one.Type != other.Type && (one.Type == "CNAME" || other.Type == "CNAME"):
				problems = append(problems, fmt.Sprintf("RRSet of type %s with DNS name %s is not permitted because a conflicting RRSet of type %s with the same DNS name already exists in zone %s",
					one.Type, shown(one.Name), other.Type, z.Zone.Name))
			case one.Type != other.Type:
			case one.routing() != other.routing():
				problems = append(problems, fmt.Sprintf("RRSet with DNS name %s, type %s, SetIdentifier %s cannot be created because a non multivalue answer rrset or one of another routing policy exists with the same name and type",
					shown(one.Name), one.Type, one.SetIdentifier))
			case one.Failover != "" && one.Failover == other.Failover:
				problems = append(problems, fmt.Sprintf("RRSet with DNS name %s, type %s, SetIdentifier %s cannot be created as a set with the failover value %s exists already",
					shown(one.Name), one.Type, one.SetIdentifier, one.Failover))
			}
		}
	}
	return problems
}

// routing returns by what a set is chosen.
func (r ResourceRecordSet) routing() string {
	switch {
	case r.Failover != "":
		return "failover"
	case r.Weight != nil:
		return "weighted"
	case is(r.MultiValueAnswer):
		return "multivalue"
	}
	return "simple"
}

// ListResourceRecordSets returns a page of sets in the order of DNS, beginning at a name, type and identifier.
func (s *Service) ListResourceRecordSets(id, name, kind, identifier string, most int) (ListResourceRecordSetsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := ListResourceRecordSetsResponse{MaxItems: most}
	z, err := s.zone(id)
	if err != nil {
		return out, err
	}
	if kind != "" && name == "" {
		return out, invalidInput("The input is not valid: type is given without name.")
	}
	from := ""
	if name != "" {
		from = orderOf(ResourceRecordSet{Name: canonical(name), Type: kind, SetIdentifier: identifier})
	}
	sets := slices.Clone(z.Sets)
	slices.SortFunc(sets, func(a, b ResourceRecordSet) int { return strings.Compare(orderOf(a), orderOf(b)) })
	for _, set := range sets {
		switch {
		case orderOf(set) < from:
		case len(out.ResourceRecordSets) == most:
			out.IsTruncated, out.NextRecordName, out.NextRecordType, out.NextRecordIdentifier = true, shown(set.Name), set.Type, set.SetIdentifier
			return out, nil
		default:
			set.Name = shown(set.Name)
			out.ResourceRecordSets = append(out.ResourceRecordSets, set)
		}
	}
	return out, nil
}

// orderOf is a text that sorts sets by their labels from the right.
func orderOf(r ResourceRecordSet) string {
	labels := dns.SplitDomainName(r.Name)
	slices.Reverse(labels)
	return strings.Join(labels, "\x00") + "\x00\x00" + r.Type + "\x00" + r.SetIdentifier
}
