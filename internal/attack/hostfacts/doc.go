// Package hostfacts finds out what this kernel, this host and this user can do, before an attack needs it.
//
// Each need has a name (Need), which a kind of attack lists among its needs, and a fact: yes, no or unknown, in what state it is, what it
// is for, and the cure. What the kernel can do with packets is tried for real: in a network namespace that belongs to a child process,
// where nothing is but its own loopback, and that is gone with the child. All other facts are read, or asked for in a way that changes
// nothing: a file without a name, a signal to nobody.
//
//	Probe ──Facts──▶ Here(kind) ──▶ yes, no and why, or unknown
//
// What the package never does: touch the tables, queues, clock, cgroups or files of the host. One thing it cannot avoid: the kernel may load
// a module because it was asked for, as the attack would have made it do.
//
// Its invariant: yes is only said of what was seen. What could not be looked at is unknown, and with an unknown need no kind is said to run.
//
// Start reading at Fact and Here (facts.go), then Probe (probe.go), then the room (room.go).
package hostfacts
