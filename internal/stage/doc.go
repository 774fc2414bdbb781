// Package stage says which of the five stages of resiliency a service has reached, from what was proven and when: playbooks with their
// approvals, rehearsals, and the verdicts of runs judged from their logs.
//
// Every item has its evidence, its age, when it expires, and the command that would renew it. Evidence expires, so a stage is lost by
// itself. It does no I/O and reads no clock. Its invariant: no evidence is stage 0, and taking evidence away never raises a stage.
//
// Start reading at Judge, then items.go.
package stage
