// Package failovertest is the contract of an answering server: what any DNS server that serves failover names must do, as checks over
// the wire.
//
// It knows nothing of the server under test but its address; the zone that it must serve is given here, in our own format and as a zone
// file for other servers. A check returns an error instead of ending a test, so that a broken server can be shown to fail it.
//
// Beside it stands the contract of backends: what whoever moves an answer in servers that others run (name servers, load balancers, a hosts
// file) must do. It knows a backend by its two methods and looks from outside, as a client, at what came of it.
//
// Start reading at Subject and Checks (checks.go); the zone stands in zone.go. Backends: BackendSubject and BackendChecks (backend.go).
package failovertest
