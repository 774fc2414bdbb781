// Package attack breaks something on this host, for real, and always takes it back.
//
// An Order is what a user asks for, typed, one struct for each kind. With the Facts of the host it becomes a Plan by a pure function: the
// same order and the same facts give the same plan, byte for byte, and a plan can be printed instead of run. A plan is a list of Steps,
// each with Apply and Revert and a declaration of what remains if all of us die at once. Run applies them, tends them while they are in
// force, reverts them, and gives account: whether the attack bit, on what evidence, and whether nothing is left.
//
//	flags ──Kind.Order──▶ Order ──Plan(Facts)──▶ Plan ──Run──▶ events ... AttackAccount
//
// What the package never does: decide whether an attack may start (that is guard), judge whether the service did well (that is verdict),
// or change anything that its own kernel objects do not undo by themselves when the process dies.
//
// Its invariant: when Run returns, nothing of the impact is in force, or the error is of kind drill.NotReverted; and when the process is
// killed or frozen at any instant, the impact is over at the deadline at the latest.
//
// Start reading at Kind and Plan (kind.go), then Run (run.go), then blackhole.
package attack
