// Package pid uses up processes and threads: whoever wants to start one gets EAGAIN, as a service does that leaks threads or whose limit
// was set too low.
//
// There are two ways. With --cgroup the limit of one control group (pids.max) is lowered to what runs there now: nothing is started, nobody
// else on the host feels it, and the kernel itself refuses. That limit the kernel does not take back, so it is written into the journal
// first, and a guardian puts it back when we die. With --amount a worker holds so many threads, which all the host shares; they end with it.
//
// What it never does: narrow a group in which we, sshd or process 1 are; take so many threads that what is kept in reserve for logging in
// and for our own guardian is gone; or raise a limit.
//
// Its invariant: a limit that we lowered is in a journal with what it was.
//
// Start reading at Order, then squeeze (squeeze.go) and threads (threads.go).
package pid
