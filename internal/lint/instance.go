package lint

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Instance is what RDS says of one database, as far as its failover depends on it. A nil pointer: it was not said.
type Instance struct {
	Database  string // as the service file calls it
	Name      string // DBInstanceIdentifier
	Status    string
	MultiAZ   bool
	Standby   string       // zone of its standby; "" where there is none at the moment
	Endpoint  string       // the name that clients connect to
	Addresses []netip.Addr // that it leads to now; nil when that is not known
	Backups   *int         // days for which automated backups are kept
	Protected *bool        // it cannot be deleted
	Replica   string       // of which instance it is a read replica
}

// What Amazon says of its own failovers, and of programs that remember addresses.
const (
	rdsFailsFrom  = 60 * time.Second
	rdsFailsUntil = 120 * time.Second
	rdsCacheMax   = 60 * time.Second // the longest that a program should remember the address of a name
	rdsAvailable  = "available"
)

// OnInstance returns the traps in an instance of RDS, and in what the service file says about it.
func OnInstance(i Instance, s drill.Service) []Finding {
	var f findings
	where := "databases." + i.Database
	switch {
	case i.Replica != "":
		f.add(Error, "rds-read-replica", where, "Name the instance that it is made from.", "%s is a read replica of %s: it takes no writes, and a reboot with failover does not make it do so", i.Name, i.Replica)
	case !i.MultiAZ:
		f.add(Error, "rds-single-zone", where, "Convert it to Multi-AZ: aws rds modify-db-instance --multi-az --apply-immediately.", "%s is not Multi-AZ: it has no standby, and nothing takes over when its zone is lost", i.Name)
	case i.Status == rdsAvailable && i.Standby == "":
		f.add(Warning, "rds-no-standby", where, "Wait until RDS names the zone of a standby: firedrill database status.", "%s is Multi-AZ, and has no standby at the moment: a failover now is refused, or ends with no database", i.Name)
	}
	if i.Status != "" && i.Status != rdsAvailable {
		f.add(Warning, "rds-not-available", where, "Wait until it is available.", "%s is %s: a reboot with failover is taken only of an instance that is available", i.Name, i.Status)
	}
	if i.Backups != nil && *i.Backups == 0 {
		f.add(Error, "rds-no-backups", where, "Keep them for some days: aws rds modify-db-instance --backup-retention-period 7.",
			"%s keeps automated backups for 0 days, which turns them off: what is deleted or corrupted is so on the standby too, and there is no earlier moment to go back to", i.Name)
	}
	if i.Protected != nil && !*i.Protected {
		f.add(Warning, "rds-deletable", where, "aws rds modify-db-instance --deletion-protection.", "%s can be deleted by one call", i.Name)
	}
	f.instanceClients(i, s, where)
	return f.sorted()
}

// instanceClients looks at what the service promises, and how it names the instance.
func (f *findings) instanceClients(i Instance, s drill.Service, where string) {
	promise, from := s.Objectives.RTO.Duration(), "objectives.rto"
	for _, dependency := range s.Dependencies {
		host, _, err := net.SplitHostPort(dependency.Address)
		if err != nil {
			continue
		}
		address, notAddress := netip.ParseAddr(host)
		_, literal := netip.ParseAddr(i.Endpoint)
		switch {
		case notAddress == nil && literal != nil && slices.Contains(i.Addresses, address.Unmap()):
			f.add(Error, "rds-address-pinned", "dependencies."+dependency.Name+".address", "Write the name: "+i.Endpoint+".",
				"%s is where %s leads now: at a failover the name is led elsewhere, and this address to a server that is gone", address, i.Endpoint)
		case strings.EqualFold(strings.TrimSuffix(host, "."), strings.TrimSuffix(i.Endpoint, ".")) && dependency.RTO > 0:
			promise, from = dependency.RTO.Duration(), "dependencies."+dependency.Name+".rto"
		}
	}
	switch {
	case promise <= 0:
	case promise < rdsFailsFrom:
		f.add(Error, "rds-rto-out-of-reach", where, "Admit a longer objective for it, or take a database that fails over faster: a Multi-AZ cluster takes less than 35 s as a rule.",
			"a failover of a Multi-AZ instance takes 60 to 120 s as a rule, and %s is %s", from, promise)
	case promise < rdsFailsUntil+rdsCacheMax:
		f.add(Warning, "rds-rto-tight", where, "Have programs remember addresses for 60 s at most (of a JVM: networkaddress.cache.ttl, which may be for ever) and give up dead connections soon; then measure: firedrill database switch.",
			"a failover takes 60 to 120 s as a rule, and clients follow when they ask for the name again, after up to 60 s more: %s is %s", from, promise)
	}
}
