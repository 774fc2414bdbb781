// Package blackhole cuts a host off from addresses, names, ports or everything, so that it looks like a dead path: nothing is refused,
// nothing answers, new and established flows alike, IPv4 and IPv6, in both directions.
//
// All of it hangs in one nftables table of our own, in the host's network namespace:
//
//	output  ──▶ alive? ──▶ target? ──▶ spare? ──▶ count, mark, send to lo ─┐
//	forward ──▶ alive? ──▶ target? ──▶ spare? ──▶ count, drop              │
//	prerouting ◀── on lo and marked: drop ◀───────────────────────────────┘
//	        └──▶ alive? ──▶ target? ──▶ spare? ──▶ count, drop
//
// The table is flagged "owner": the kernel deletes it when our socket closes, that is when the process dies. "alive" is the gate, a set
// whose elements time out: it is renewed as a lease and never past the deadline, so a frozen process loses its impact on time too.
// A kernel too old for the owner flag keeps the table of a dead process, but the gate shuts, and the next start of any attack, or
// firedrill halt, deletes it.
//
// A drop in the output hook would make sending fail at once, and what a drill must find (missing timeouts) would stay hidden. So what we
// cut on its way out is marked and sent to the loopback device, where it is dropped: the sender notices nothing.
//
// The package never touches a table that is not its own. Its invariant: a spare is never hit, whatever the order of changes.
//
// Start reading at Order (order.go), then layout (rules.go), then table.apply (table.go).
package blackhole
