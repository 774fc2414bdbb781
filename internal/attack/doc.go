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
// or change anything that nobody would undo when the process dies. What the kernel does not take back is first written down:
//
//	worker    Journal.Record ▶ synced ▶ change ........................ Journal.Undo ▶ journal removed
//	guardian  starts before the first record, waits for the worker's end or the deadline, then does the same from the journal alone
//	Recover   the next start of any command does the same when both of them are dead, or frozen past the deadline
//
// Its invariant: when Run returns, nothing of the impact is in force, or the error is of kind drill.NotReverted; and when the process is
// killed or frozen at any instant, the impact is over at the deadline at the latest. Only where a Step says "until next start" do two
// processes have to die for it to last longer: worker and guardian.
//
// Start reading at Kind and Plan (kind.go), then Run (run.go), then blackhole; for the journal at Journal (journal.go),
// then guardian.go and recover.go, with pause as the example.
package attack
