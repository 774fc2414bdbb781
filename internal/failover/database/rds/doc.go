// Package rds moves the primary of a Multi-AZ instance of Amazon RDS for PostgreSQL: a reboot with failover, seen through to the end.
//
// The instance is one name with a primary in one availability zone and a standby, which has no address, in another; the members of its status
// are those zones. RDS promotes by itself when a primary is lost, and fences it itself. The package orders a failover only of an instance that is
// Multi-AZ and available, waits until the zone has changed, reads the events that RDS recorded, and tries the address that the name led to before.
//
// It never makes, changes or deletes an instance. Its invariant: Promote returns nil only when RDS says that the instance is available in the zone
// that was asked for.
//
// Start reading at Driver (driver.go).
package rds
