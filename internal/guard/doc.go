// Package guard says whether a step may start and whether an attack must stop.
//
// It is pure: it looks only at a Plan and at a World, which is folded from the events of the run. Any doubt means no. Its invariant:
// with every step that it admits, at least one environment runs a known release, is healthy, and is not under attack; and while an
// attack is in force, the moment that environment is in danger MustStop says so.
//
// Start reading at World (world.go), then Admit and MustStop (guard.go).
package guard
