// Package fd uses up file descriptors: whoever wants to open a file or to take a connection gets EMFILE, as a service does that leaks them
// or whose limit was set too low.
//
// There are two ways. For chosen processes, or all of a control group, the limit (RLIMIT_NOFILE) is lowered to what each has open now:
// nothing is opened, and nobody else on the host feels it. What was open stays open. That limit the kernel does not take back, so it is
// written into the journal first, and a guardian puts it back when we die; children that were started meanwhile inherit it, and are put
// right too. With --amount a worker holds so many open files, which all the host shares; they are closed with it.
//
// What it never does: narrow us, sshd or process 1; change a hard limit, so that putting back needs no rights; take so many files that what
// is kept in reserve is gone; or raise a limit.
//
// Its invariant: a limit that we lowered is in a journal with what it was.
//
// Start reading at Order, then squeeze (squeeze.go) and files (files.go).
package fd
