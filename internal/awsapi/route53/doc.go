// Package route53 keeps hosted zones, records and health checks as Amazon Route 53 does, and means them: records are answered over DNS on a
// port, by the tables of package failover, and health checks are really made.
//
// It speaks no HTTP of its API (package awsapi does) and decides nothing about health that failover.Checks does not. It never applies a part of
// a change batch. Its invariant: the answer to a query follows the records of the last change that was answered with success and the health
// that was seen last; a restart changes neither the records nor the checks.
//
// Differences from Route 53: checks are made from this host alone, by three checkers; private addresses may be checked; records by latency,
// place or traffic policy are refused; changes are in force when they are answered.
//
// Start reading at Service (service.go), then records.go, checks.go and zones.go (what is served). The shapes of the API stand in types.go.
package route53
