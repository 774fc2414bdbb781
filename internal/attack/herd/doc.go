// Package herd puts processes into a control group of their own for a while, so that the kernel tells the sockets which they make from then
// on apart from all others. The group lies below the one in which a process is, so every limit that holds for it goes on holding.
//
// What it never does: enable a controller, or touch a process that another attack holds.
//
// Its invariant: before a process is moved it is written down where it was; taken back, all that lives in the group is there again, children
// too, and the group is gone.
//
// Start reading at Step.
package herd
