// Package authority is the embedded DNS server: it answers for one zone, whose failover names follow what the watch has decided.
//
// It never recurses, never serves another zone, and never leaves a client without an answer that it could have given. Losing the watch,
// the state file or its own peace of mind changes nothing in what is answered: the last answer stays. Its invariant: for a name of the
// zone that has addresses there is at every instant an authoritative answer with at least one of them; never SERVFAIL, never silence,
// never NXDOMAIN for a type that the name merely lacks.
//
// # Serial numbers
//
// Each decided answer carries a serial number, and one that is not higher than the last is ignored: after a reconnect or with two watches
// an old decision must not undo a new one. So the numbers of a watch must grow over everything, also over the loss of its own memory: a
// watch goes on above the Unix time when it starts, which is higher than any number that the one before it gave.
// Where that was not kept to, stop the authority, remove its state file and start it again: it takes the next decision, whatever its number.
//
// # What decides an answer
//
// A failover name follows the watch's decision. A routed name has several records, and its routing (failover, weighted, multivalue) and the
// health checks on the watch's alarms choose among them for each query, by the tables in package failover. A rotating name follows the
// clock. Secondaries get all addresses of the last two.
//
// Start reading at Zone (zone.go), then Answer (answer.go), which is a pure function, then Server (server.go) and Follow (follow.go).
package authority
