// Package service stops a unit of systemd and brings it back: what a service looks like to others that was stopped for maintenance, or that
// systemd gave up on.
//
// With the unit go those that would start it again when it is used (its sockets, timers and paths) and those that systemd stops along with
// it because they need it. All that ran comes back, and nothing else. Whether a unit is enabled or masked is never touched. systemd does not
// bring back what was stopped on purpose, so it is written into the journal first, and a guardian starts it when we die.
//
// What it never does: stop what holds us; stop sshd, the bus, or a part of systemd without a person's consent (--yes); stop a target, whose
// return would start more than ran before.
//
// Its invariant: whatever we stop is in a journal, and ran before.
//
// Start reading at Order, then step (step.go), then systemd (systemd.go).
package service
