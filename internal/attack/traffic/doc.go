// Package traffic is what all network attacks of this program stand on: one nftables table of our own for each attack, in the host's
// network namespace, and one language of targets.
//
//	output  ──▶ alive? ──▶ target? ──▶ spare? ──▶ share? rate? ──▶ count ──▶ refuse, or mark and send to lo ─┐
//	forward ──▶ alive? ──▶ target? ──▶ spare? ──▶ share? rate? ──▶ count ──▶ refuse, or drop                 │
//	prerouting ◀── on lo and marked: drop ◀──────────────────────────────────────────────────────────────────┘
//	        └──▶ alive? ──▶ target? ──▶ spare? ──▶ share? rate? ──▶ count ──▶ refuse, or drop
//
// An Order says what happens to the packets (Effect) and which (attack.Targets). Kinds are thin: they turn flags into an Order.
//
// The table is flagged "owner": the kernel deletes it when our socket closes, that is when the process dies. "alive" is the gate, a set
// whose elements time out: it is renewed as a lease and never past the deadline, so a frozen process loses its impact on time too.
// A kernel too old for the owner flag keeps the table of a dead process, but the gate shuts, and the next start of any attack, or
// firedrill halt, deletes it.
//
// A drop in the output hook would make sending fail at once, and what a drill must find (missing timeouts) would stay hidden. So what we
// drop on its way out is marked and sent to the loopback device, where it is dropped: the sender notices nothing.
//
// An attack that is narrower than its host (attack.Scope) asks besides whose socket a packet belongs to: see scope.go.
//
// An effect that delays or corrupts sends a packet where that is done (treat.go): into a netem that only the priority leads to which the
// table gives (package netem), or into a queue that this process holds (package nfqueue). Both end with the table, and so with us.
//
// The package never touches a table that is not its own. Its invariant: a spare is never hit, whatever the order of changes.
//
// Start reading at Order (order.go) and Effect (effect.go), then layout (rules.go), then table.apply (table.go).
package traffic
