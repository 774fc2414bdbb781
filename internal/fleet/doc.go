// Package fleet holds the words that agents and the control plane say to each other, and the rules by which both decide: orders with their
// signatures, presence, enrolment, the choice of hosts, and the bounds on how many may be hit.
//
//	operator ──api──▶ control ──order, signed──▶ agent ──firedrill attack──▶ host
//	                     ▲                         │
//	                     └── presence, journal ────┘        pulse: control ──▶ every agent
//
// What the package never does: open a connection, start a process, or read a clock; control, agent and client do.
//
// Its invariants. An order is carried out by the host that it names alone, once, between its issue and its expiry, and never behind a halt that was
// given after it; whoever holds an agent's key can neither make one nor change one. What comes over the wire is bounded and checked before
// anything looks at it. A choice of hosts is a function of the fleet and the seed, and never leaves a service without a healthy host.
//
// Start reading at Order (order.go), then Choose (choose.go).
package fleet
