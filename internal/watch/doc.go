// Package watch is the part that stays on: it has every host of a service sampled, turns the samples into alarms and the alarms into
// answers, and tells both to whoever asks. The conductor reads the alarms from it during a drill, and the name servers the answers.
//
// It never attacks anything, never publishes DNS data itself, and never takes silence for good news: a host whose stream is lost has no
// heartbeat, and an alarm that runs out of data speaks as it spoke last. Its invariant: one goroutine owns all state (the loop in
// watch.go, over the core in core.go), everything else sends to it or receives from it; so what followers see is one sequence, and a
// follower that is too slow is cut off instead of waited for.
//
// Three decisions worth knowing:
//
//   - Time. A sample belongs to the moment it was scheduled for, by the clock of its host. That clock is corrected for each connection by
//     the smallest difference between arrival and sending of the last minute (clock.go): it is off by no more than the fastest
//     delivery takes. The exact offset does not matter for alarms on periods of a second and more.
//   - Our own stalls. When the loop comes to an evaluation more than stallMin late, this process was stopped, not the hosts: the samples
//     that wait in the sockets are taken in first.
//   - Persistence. An answer is written to the state file before it is told, but a disk that hangs delays it no longer than saveMax:
//     failing over matters more than remembering.
//
// Start reading at Options and Run (watch.go), then core (core.go), then follow (stream.go) and the HTTP interface (api.go).
package watch
