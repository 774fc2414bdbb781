// Package reject answers for the targets, at once and with a no, as a firewall or a host without the service does: what is sent to them, and
// what comes from them, is refused.
//
// A UDP sender on this host is told by its own kernel, at once and as "operation not permitted"; behind a firewall elsewhere it would learn
// of the refusal a round trip later.
//
// It never stays silent about a packet that it takes, which is what package blackhole is for. Its invariant is that of package traffic: a
// spare is never hit.
//
// Start reading at Kind (reject.go), then package traffic.
package reject
