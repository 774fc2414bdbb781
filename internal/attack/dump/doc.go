// Package dump asks the kernel for a list of network objects until the list is whole.
//
// The kernel hands a list out in parts. When something is added or removed between two parts it marks what it hands out as interrupted: an
// object may be missing, or be there twice. On a host where containers come and go that is an everyday event, and no reason to refuse an
// attack, and even less to leave one that must be taken back.
//
// What the package never does: hand out a list that the kernel has marked so.
//
// Its invariant: Whole returns a list of one instant, or an error.
//
// Start reading at Whole.
package dump
