// Package probe looks at a service the way its clients do, on a fixed schedule, and says what it saw.
//
// It is an open loop: a try is sent at its scheduled time whatever became of the tries before it, resolves its name again, and opens a
// connection of its own. So an outage of seven seconds costs seven seconds of tries, however long each of them hangs. A sample belongs
// to the moment for which it was scheduled; how much later it was sent stands in it as Lag. What was our own fault (a stalled prober, no
// file descriptors left) is marked as such, so that nobody blames the service for it.
//
// The package decides nothing: whether samples mean an alarm or an outage is for others to say. Its invariant: every scheduled moment
// between start and stop yields exactly one sample, or, when that is impossible, a note that says how many are missing.
//
// Start reading at Spec (spec.go), then Run (run.go), then attempt (attempt.go).
package probe
