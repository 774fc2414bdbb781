// Package onefile puts three static programs into one executable file, and takes the second out again.
//
// The first is the attack part: what carries out an attack on this host, and starts fastest. The second is the host part: all that runs on a
// host, with nothing linked in that a host does not need; a push over SSH carries it alone. The third is the whole program. They are linked
// by the Go linker at addresses of their own; the file holds the segments of all, and a few instructions at its entry look at the command
// line and jump into one of them. The kernel maps only what is touched, so the parts that are not chosen cost nothing.
//
// Invariant: a command line that no rule sends elsewhere starts the whole program, which can do everything; so the choice is about time and
// size and never about what happens. Start reading at Join.
package onefile
