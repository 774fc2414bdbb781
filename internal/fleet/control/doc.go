// Package control is the control plane of a fleet: who may speak, which hosts are there, what they are ordered to do, and how all of it is
// ended. NATS with JetStream runs inside of it: one process, one directory, one port. Several such processes form a cluster, or share an engine that
// others run; then one of them leads (lead.go).
//
//	agents ──TLS, a key each──▶ engine ──▶ presence, answers, journals ──▶ runs, permits, lever ──▶ JetStream, on disk
//	people ──TLS, a key each──▶ engine ──▶ calls
//
// What the package never does: attack anything, or take an agent's word for what another agent said. It holds no lock that protects a host:
// the host's own deadline, leash and policy do that, and hold when all of this is gone.
//
// Its invariants. A run is on disk before its first order leaves. The permit of a service is held by one run at a time, and is not handed on
// before the deadline of that run and a margin are over, or all of its hosts have said that they reverted. Nothing is ordered while the lever
// is engaged. Of several servers one leads at a time, and what the one before still writes or orders does not count. It answers a member on the member's own subjects alone.
//
// Start reading at Open (control.go), then Attack (attack.go), Halt (halt.go) and gate.Check (gate.go).
package control
