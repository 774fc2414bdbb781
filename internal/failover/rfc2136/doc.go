// Package rfc2136 moves the answer of a name in name servers that others run (BIND, Knot, PowerDNS, ...), by dynamic updates (RFC 2136) that
// are signed (RFC 8945), and then looks whether every name server gives the new answer.
//
// It never deletes a name, never touches a record beside the name's addresses and its own mark, and never says "published" before each
// server was seen to answer so. Its invariant: an older decision never undoes a newer one, whoever else writes, and at every instant the
// name has the old addresses or the new ones.
//
// # How the newest decision wins
//
// Beside the addresses stands a mark, a TXT record at _firedrill.NAME with the serial number of the decision and its addresses. One update
// message replaces all of them, and has as its prerequisites that addresses and mark still are what was read: compare and swap. The server
// carries out all of it or nothing. If someone was faster, what is there is read again, and a mark with a higher serial number ends it.
//
// # PowerDNS
//
// It may put an old answer into its packet cache while a change is being written, and then tells it for cache-ttl (20 s by default): set
// cache-ttl=0 and query-cache-ttl=0 there.
//
// Start reading at Publisher, then Publish (publish.go), then read (read.go).
package rfc2136
