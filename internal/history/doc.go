// Package history is the record of a run: an append-only list of events, each a fact with the time at which it happened.
//
// Every part of the program that sees something speaks this one language: an attack on a host, a probe on a client, the watch that
// raises alarms. Their events travel as JSON lines; the conductor appends them to the run's log, where each line carries the hash of
// the line before it. Reports and verdicts read nothing else.
//
// The package decides nothing and forgets nothing. Its invariant: a log that decodes without error is exactly what was written, or a
// whole prefix of it; any altered, dropped or reordered line is named by its sequence number.
//
// Start reading at Event (event.go), then the facts (facts.go), then Writer and Read (log.go).
package history
