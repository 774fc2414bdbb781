// Package timetravel shifts the clock of the host, and brings it back to within milliseconds: what the clock would show had nobody
// touched it is known from the time since boot, which nobody can set.
//
//	base   = clock - time since boot, before the first change           never changes while nobody sets the clock
//	wanted = base + the offsets of all attacks that are in force        what a change and its undo both aim at
//	change = wanted - (clock - time since boot)                         so each of them may be made twice, or from halfway
//
// The kernel does not take the shift back, so it is journalled and guarded. A restart of the host takes it back: the kernel does not write a
// clock that was set by hand into the hardware.
//
// What it never does: wait by the clock that it shifts, or set it twice by an amount.
//
// Its invariant: the undo of a change needs nothing but its record and the records of others.
//
// Start reading at clock (clock.go), then Order.
package timetravel
