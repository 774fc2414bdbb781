// Package postgresql moves the primary of a plain PostgreSQL with streaming replication, 13 and newer: no other manager is needed.
//
// It looks, promotes and writes over SQL (driver.go, sql.go), and fences and rebuilds over SSH on the hosts (fence.go, rebuild.go).
//
// Arming is what makes an old primary harmless when it comes back: a file standby.signal in the data directory of a primary that runs.
// PostgreSQL reads it only at a start, and starts as a standby then. So a host that lost its power returns without taking writes, with
// nobody there to stop it, and only a promotion makes a primary again. Every primary that this package makes is armed.
//
// It never decides what is promoted: that is Choose's. Its invariant: Fence returns nil only when PostgreSQL on the host was seen stopped or
// read-only, and armed; or the host was powered off; or it is out of reach, was seen armed, and the policy lets that count.
//
// Start reading at Driver (driver.go).
package postgresql
