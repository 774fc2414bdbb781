// Package onefile puts two static programs into one executable file, and takes the first out again.
//
// The first is the host part: the attacks and what else runs on a host, with nothing linked in that a host does not need. It starts in half
// the time, and it is all that a push over SSH has to carry. The second is the whole program. Both are linked by the Go linker at
// addresses of their own; the file holds the segments of both, and a few instructions at its entry look at the command line and jump into
// the one or the other. The kernel maps only what is touched, so the part that is not chosen costs nothing.
//
// Invariant: a command line that no rule sends to the host part starts the whole program, which can do everything; so the choice is about
// time and size and never about what happens. Start reading at Join.
package onefile
