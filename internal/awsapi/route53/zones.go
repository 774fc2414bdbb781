package route53

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"firedrill/internal/failover"
	"firedrill/internal/failover/authority"
)

const (
	zonesMax  = 500
	aliasDeep = 8
	soaText   = "%s awsdns-hostmaster.amazon.com. 1 7200 900 1209600 5" // Route 53's, but that "no" is kept for 5 s, not for a day
)

// nameServers are the names that zones are delegated to. They lead nowhere by themselves.
var nameServers = []string{"ns1.firedrill.test.", "ns2.firedrill.test."}

func (s *Service) zone(id string) (*zone, error) {
	id = strings.TrimPrefix(id, "/hostedzone/")
	if z := s.zones["/hostedzone/"+id]; z != nil {
		return z, nil
	}
	return nil, fault("NoSuchHostedZone", 404, "No hosted zone found with ID: %s", id)
}

// CreateHostedZone makes a zone with its SOA and NS records, and answers for it.
func (s *Service) CreateHostedZone(in CreateHostedZoneRequest) (HostedZone, ChangeInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := canonical(in.Name)
	_, isName := dns.IsDomainName(name)
	switch {
	case !isName || name == "." || strings.ContainsAny(name, "*\\ "):
		return HostedZone{}, ChangeInfo{}, fault("InvalidDomainName", 400, "%s is not a valid domain name", in.Name)
	case in.CallerReference == "":
		return HostedZone{}, ChangeInfo{}, invalidInput("CallerReference is needed.")
	case in.VPC != nil || in.HostedZoneConfig.PrivateZone:
		return HostedZone{}, ChangeInfo{}, invalidInput("Private zones are not served by this endpoint.")
	case len(s.zones) >= zonesMax:
		return HostedZone{}, ChangeInfo{}, fault("TooManyHostedZones", 400, "Limits Exceeded: at most %d hosted zones.", zonesMax)
	}
	for _, z := range s.zones {
		if z.Zone.CallerReference == in.CallerReference {
			return HostedZone{}, ChangeInfo{}, fault("HostedZoneAlreadyExists", 409, "A hosted zone has already been created with the specified caller reference.")
		}
		if z.Zone.Name == name {
			return HostedZone{}, ChangeInfo{}, fault("ConflictingDomainExists", 400, "The zone %s is served already, on the same port.", name)
		}
	}
	soaTTL, nsTTL := int64(900), int64(172800)
	made := &zone{
		Zone:   HostedZone{Id: "/hostedzone/" + newID("Z"), Name: name, CallerReference: in.CallerReference, Config: in.HostedZoneConfig, ResourceRecordSetCount: 2},
		Serial: 1,
		Sets: []ResourceRecordSet{
			{Name: name, Type: "NS", TTL: &nsTTL, ResourceRecords: []ResourceRecord{{nameServers[0]}, {nameServers[1]}}},
			{Name: name, Type: "SOA", TTL: &soaTTL, ResourceRecords: []ResourceRecord{{fmt.Sprintf(soaText, nameServers[0])}}},
		},
	}
	info, err := s.replace(made, "")
	return made.Zone, info, err
}

// GetHostedZone returns a zone.
func (s *Service) GetHostedZone(id string) (HostedZone, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, err := s.zone(id)
	if err != nil {
		return HostedZone{}, err
	}
	return z.Zone, nil
}

// DeleteHostedZone deletes a zone that has only its SOA and NS records left.
func (s *Service) DeleteHostedZone(id string) (ChangeInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, err := s.zone(id)
	if err != nil {
		return ChangeInfo{}, err
	}
	if len(z.Sets) > 2 {
		return ChangeInfo{}, fault("HostedZoneNotEmpty", 400, "The specified hosted zone contains non-required resource record sets and so cannot be deleted.")
	}
	zones := maps.Clone(s.zones)
	delete(zones, z.Zone.Id)
	return s.become(zones, "")
}

// ListHostedZones returns a page of zones in order of their IDs, or of their names from one on.
func (s *Service) ListHostedZones(marker, fromName string, byName bool, most int) ListHostedZonesResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Collect(maps.Values(s.zones))
	order := func(z *zone) string { return strings.TrimPrefix(z.Zone.Id, "/hostedzone/") }
	from := marker
	if byName {
		order = func(z *zone) string { return orderOf(ResourceRecordSet{Name: z.Zone.Name}) }
		if from = ""; fromName != "" {
			from = orderOf(ResourceRecordSet{Name: canonical(fromName)})
		}
	}
	slices.SortFunc(all, func(a, b *zone) int { return strings.Compare(order(a), order(b)) })
	out := ListHostedZonesResponse{Marker: marker, DNSName: fromName, MaxItems: most}
	for _, z := range all {
		switch {
		case order(z) < from:
		case len(out.HostedZones) == most:
			out.IsTruncated = true
			if byName {
				out.NextDNSName, out.NextHostedZoneId = z.Zone.Name, strings.TrimPrefix(z.Zone.Id, "/hostedzone/")
			} else {
				out.NextMarker = order(z)
			}
			return out
		default:
			out.HostedZones = append(out.HostedZones, z.Zone)
		}
	}
	return out
}

// GetChange returns how far a change has come.
func (s *Service) GetChange(id string) (ChangeInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id = "/change/" + strings.TrimPrefix(id, "/change/")
	if i := slices.IndexFunc(s.changes, func(c ChangeInfo) bool { return c.Id == id }); i >= 0 {
		return s.changes[i], nil
	}
	return ChangeInfo{}, fault("NoSuchChange", 404, "Could not find resource with ID: %s", id)
}

// TestDNSAnswer asks our own name server, and says what it answers.
func (s *Service) TestDNSAnswer(id, name, kind string) (TestDNSAnswerResponse, error) {
	zone, err := s.GetHostedZone(id)
	if err != nil {
		return TestDNSAnswerResponse{}, err
	}
	code, known := dns.StringToType[kind]
	if name = canonical(name); !known || !dns.IsSubDomain(zone.Name, name) {
		return TestDNSAnswerResponse{}, invalidInput("RecordName %s and RecordType %s: write a name in %s and a type.", name, kind, zone.Name)
	}
	reply, err := s.options.Hosting.Answer(new(dns.Msg).SetQuestion(name, code))
	if err != nil {
		return TestDNSAnswerResponse{}, err
	}
	out := TestDNSAnswerResponse{Nameserver: strings.TrimSuffix(nameServers[0], "."), RecordName: name, RecordType: kind, ResponseCode: dns.RcodeToString[reply.Rcode], Protocol: "UDP", RecordData: []string{}}
	for _, record := range reply.Answer {
		if record.Header().Rrtype == code {
			out.RecordData = append(out.RecordData, strings.TrimPrefix(record.String(), record.Header().String()))
		}
	}
	return out, nil
}

// build returns the zones as they are served. The error says what of them cannot be.
func (s *Service) build(zones map[string]*zone) ([]*authority.Zone, error) {
	b := builder{sets: map[string][]ResourceRecordSet{}, held: map[string][]dns.RR{}}
	for _, z := range zones {
		for _, set := range z.Sets {
			key := set.Name + " " + set.Type
			b.sets[key] = append(b.sets[key], set)
		}
	}
	var served []*authority.Zone
	for _, id := range slices.Sorted(maps.Keys(zones)) {
		one, err := b.zone(zones[id])
		if err != nil {
			return nil, err
		}
		served = append(served, one)
	}
	return served, nil
}

// builder makes zones to be served of all sets that there are, for aliases lead from one to the other.
type builder struct {
	sets map[string][]ResourceRecordSet // by name and type
	held map[string][]dns.RR
}

func (b *builder) zone(z *zone) (*authority.Zone, error) {
	hosted := authority.Hosted{Name: z.Zone.Name, Sets: map[string]map[uint16]failover.RecordSet{}, Held: b.held}
	for _, set := range z.Sets {
		if set.Type == "SOA" {
			records, err := set.records()
			if err != nil {
				return nil, err
			}
			soa := records[0].(*dns.SOA)
			soa.Serial = z.Serial
			hosted.SOA = soa
			continue
		}
		kind := dns.StringToType[set.Type]
		if hosted.Sets[set.Name] == nil {
			hosted.Sets[set.Name] = map[uint16]failover.RecordSet{}
		}
		if _, done := hosted.Sets[set.Name][kind]; done {
			continue
		}
		made, err := b.recordSet(set.Name, set.Type, aliasDeep)
		if err != nil {
			return nil, err
		}
		hosted.Sets[set.Name][kind] = *made
	}
	return authority.NewHosted(hosted)
}

// recordSet makes of all sets for a name and type what is chosen from.
func (b *builder) recordSet(name, kind string, deep int) (*failover.RecordSet, error) {
	sets := b.sets[name+" "+kind]
	made := &failover.RecordSet{Routing: failover.RoutingFailover}
	switch sets[0].routing() {
	case "weighted":
		made.Routing = failover.RoutingWeighted
	case "multivalue":
		made.Routing = failover.RoutingMultivalue
	}
	primary := slices.ContainsFunc(sets, func(r ResourceRecordSet) bool { return r.Failover != "SECONDARY" })
	for _, set := range sets {
		record := failover.Record{ID: strings.Join([]string{name, kind, set.SetIdentifier}, " "), Check: set.HealthCheckId, Secondary: primary && set.Failover == "SECONDARY"}
		if set.Weight != nil {
			record.Weight = *set.Weight
		}
		if set.AliasTarget == nil {
			records, err := set.records()
			if err != nil {
				return nil, err
			}
			b.held[record.ID] = records
			made.Records = append(made.Records, record)
			continue
		}
		target := canonical(set.AliasTarget.DNSName)
		if len(b.sets[target+" "+kind]) == 0 {
			return nil, fmt.Errorf("Tried to create an alias that targets %s, type %s in zone %s, but that target was not found", target, kind, set.AliasTarget.HostedZoneId)
		}
		if deep == 0 {
			return nil, fmt.Errorf("Tried to create an alias that leads in a circle, or is too deep: %s, type %s", target, kind)
		}
		behind, err := b.recordSet(target, kind, deep-1)
		if err != nil {
			return nil, err
		}
		record.Alias, record.EvaluateTarget = behind, set.AliasTarget.EvaluateTargetHealth
		made.Records = append(made.Records, record)
	}
	return made, nil
}

// Delegation names the servers that zones are delegated to.
func Delegation() DelegationSet { return DelegationSet{NameServers: nameServers} }
