// Package agent carries out what a control plane orders on this host. It dials out, opens no port, and is bounded by the host's own policy.
//
//	signed order ──Open, Admit, ledger──▶ dry run ──accepted──▶ go ──▶ firedrill attack (a child) ──events──▶ journal ──▶ control plane
//
// An order is carried out by the same program and the same command that a person would type, as a child that ends when we end: its input and
// output are pipes of ours. So the kernel's lease, the guardian, and the policy of the host hold as they do for a person.
//
// What the package never does: attack by itself, decide for the host's owner, or trust that somebody else ends what it began.
//
// Its invariants. An order is written down and synced before it is answered, and never begun twice, whatever is replayed and whoever restarts.
// Nothing goes on past its deadline, or for longer than the leash after the control plane was heard last. What was done is written down before it
// is told, and told until the control plane has it on its disk.
//
// Start reading at Run (agent.go), then take (task.go), ledger.go, and ship (journal.go).
package agent
