// Package nfqueue holds packets in a queue between the kernel and this process: the way to delay and corrupt packets on a kernel that has
// no netem.
//
//	kernel ── a rule sends a packet to queue N ──▶ Read ──▶ held until it is due ──▶ Verdict: go on, as it was or with one bit flipped
//
// A Queue speaks the kernel's protocol; a Holder decides when each packet goes on, on one thread that does nothing else, so that neither
// the scheduler of Go nor its collector adds to the delay. The package makes no rules: whoever sends packets here must ask the kernel to
// let them pass when nobody listens (bypass). Then the kernel takes the impact back the moment that this process dies; only what was held
// at that moment is lost, as on a link that breaks.
//
// What the package never does: drop a packet, or hold more than the kernel is told to keep; what is beyond that passes at once.
//
// Its invariant: a packet that was read is given back exactly once, in the order of its time.
//
// Start reading at Holder (holder.go), then Queue (queue.go), then message.go for the bytes.
package nfqueue
