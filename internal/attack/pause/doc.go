// Package pause stops processes (SIGSTOP) and lets them go on again: the process is there, its port is open, and it does nothing. That is
// what a long garbage collection, a hung disk or a debugger does to a service, and what a health check that only connects does not see.
//
// The kernel does not take a SIGSTOP back, so each process is written into the journal first, and a guardian lets it go on when we die.
// Processes that come up later and match are stopped too; one that somebody lets go on is stopped again.
//
// A whole control group is stopped at once, where the kernel can (the freezer of either version of cgroups): nobody in it can see it or
// resist, and what it starts is frozen too. Elsewhere all in it are stopped one by one.
//
// What it never does: stop a process that was stopped already by somebody else, or let go on one that another attack still holds, or a
// process that only has the number of the one that was stopped;
// or freeze a group in which we, sshd or process 1 are.
//
// Its invariant: whatever is stopped by us is in a journal, and was not stopped before.
//
// Start reading at Order, then step; freeze.go for groups.
package pause
