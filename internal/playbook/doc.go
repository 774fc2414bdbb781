// Package playbook reads what a team wrote down for the day on which something is lost, so that a machine can hold the team to it: whether
// everything that must stand in a playbook stands there, which commands it consists of and what each must print, and who agreed to exactly
// this text.
//
// A playbook is Markdown with a head of YAML; docs/playbooks.md shows one. What a rehearsal did is judged from its log (Judge), like a
// drill.
//
// It does no I/O and runs nothing: the command line does. Its invariant: only what stands in the playbook can be run through it, and an
// approval holds for one text alone: one changed byte voids it.
//
// Start reading at Playbook, then Parse, then Judge.
package playbook
