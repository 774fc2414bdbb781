// Package failovertest is the contract of an answering server: what any DNS server that serves failover names must do, as checks over
// the wire.
//
// It knows nothing of the server under test but its address; the zone that it must serve is given here, in our own format and as a zone
// file for other servers. A check returns an error instead of ending a test, so that a broken server can be shown to fail it.
//
// Start reading at Subject and Checks (checks.go); the zone stands in zone.go.
package failovertest
