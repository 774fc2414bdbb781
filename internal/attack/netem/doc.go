// Package netem delays and corrupts packets by the kernel's own netem, so that nothing is in force any more the moment that we die.
//
//	device ── prio, at the root ──▶ bands 1 to 3: as without it
//	                            └─▶ band 4 and up: netem, one band for each attack
//
// A packet gets into such a band only by its priority, and only the table of package traffic, which dies with us, gives that. What is left
// of a dead attack is a discipline that nothing leads to; the guardian or the next start of any firedrill command removes it, for it is
// written down first.
//
// What the package never does: touch a device whose root discipline somebody has set up. The kernel's default comes back by itself when
// ours is deleted; of any other we could not promise that.
//
// Its invariant: what it finds by its number and place is deleted, and nothing else.
//
// Start reading at Step (step.go), then Survey (survey.go), then Undo (undo.go).
package netem
