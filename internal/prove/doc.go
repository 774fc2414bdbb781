// Package prove is the list of sabotages: what is broken on purpose to find out whether a drill turns red, how each one is done, which
// verdict it must get and which check must notice. `firedrill prove` runs them one after the other, `firedrill demo --sabotage` one of them.
//
// It runs nothing by itself and knows no host: a sabotage is a change to what the drill believes (Service), to what its instruments say
// (Tamper), to what the watch does (through Hands), to the log, or a script for a host of the lab. Its invariant: every sabotage is
// declared with its outcome before it is run, and what was declared is never passed.
//
// Start reading at Case (case.go); the list is in cases.go.
package prove
