package lint

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

// sound is an instance without traps, with what the service file says of it.
func sound() (Instance, drill.Service) {
	days, protected := 7, true
	return Instance{Database: "books", Name: "books", Status: "available", MultiAZ: true, Standby: "eu-west-2b", Endpoint: "books.c1.eu-west-2.rds.example.test",
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, Backups: &days, Protected: &protected},
		drill.Service{Objectives: drill.Objectives{RTO: drill.Seconds(5 * time.Minute)}, Dependencies: []drill.Dependency{{Name: "db", Address: "books.c1.eu-west-2.rds.example.test:5432"}, {Name: "cdn", Address: "10.0.0.9:80"}}}
}

func TestEachTrapOfAnInstanceIsFound(t *testing.T) {
	none, open := 0, false
	for _, row := range []struct {
		rule, severity string
		plant          func(*Instance, *drill.Service)
	}{
		{"", "", func(*Instance, *drill.Service) {}},
		{"", "", func(i *Instance, _ *drill.Service) { i.Backups, i.Protected, i.Addresses = nil, nil, nil }},
		{"", "", func(i *Instance, s *drill.Service) { // an address where there is no name
			i.Endpoint, s.Dependencies[0].Address = "10.0.0.5", "10.0.0.5:5432"
		}},
		{"", "", func(_ *Instance, s *drill.Service) { s.Objectives.RTO = 0 }},
		{"rds-single-zone", Error, func(i *Instance, _ *drill.Service) { i.MultiAZ, i.Standby = false, "" }},
		{"rds-read-replica", Error, func(i *Instance, _ *drill.Service) { i.Replica, i.MultiAZ = "other", false }},
		{"rds-no-standby", Warning, func(i *Instance, _ *drill.Service) { i.Standby = "" }},
		{"rds-not-available", Warning, func(i *Instance, _ *drill.Service) { i.Status = "modifying" }},
		{"rds-no-backups", Error, func(i *Instance, _ *drill.Service) { i.Backups = &none }},
		{"rds-deletable", Warning, func(i *Instance, _ *drill.Service) { i.Protected = &open }},
		{"rds-address-pinned", Error, func(_ *Instance, s *drill.Service) { s.Dependencies[0].Address = "10.0.0.5:5432" }},
		{"rds-rto-out-of-reach", Error, func(_ *Instance, s *drill.Service) { s.Objectives.RTO = drill.Seconds(30 * time.Second) }},
		{"rds-rto-out-of-reach", Error, func(_ *Instance, s *drill.Service) { s.Dependencies[0].RTO = drill.Seconds(30 * time.Second) }},
		{"rds-rto-tight", Warning, func(_ *Instance, s *drill.Service) { s.Objectives.RTO = drill.Seconds(2 * time.Minute) }},
		{"", "", func(_ *Instance, s *drill.Service) { // of the database more time is admitted than of the service
			s.Objectives.RTO, s.Dependencies[0].RTO = drill.Seconds(30*time.Second), drill.Seconds(5*time.Minute)
		}},
	} {
		instance, service := sound()
		row.plant(&instance, &service)
		found := OnInstance(instance, service)
		if row.rule == "" {
			if len(found) > 0 {
				t.Errorf("what is right is accused: %+v", found)
			}
			continue
		}
		if got := rules(found); !slices.Equal(got, []string{row.rule}) || found[0].Severity != row.severity || found[0].Cure == "" || !strings.Contains(found[0].Where, ".") {
			t.Errorf("%s: found %+v", row.rule, found)
		}
	}
}
