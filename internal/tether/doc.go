// Package tether starts processes that the kernel ends when this one ends. Its death signal (SysProcAttr.Pdeathsig) is sent when the thread ends
// that started the process, and threads end while programs go on: with a goroutine that was locked to one, for instance. So a thread is kept for
// each process, and does nothing but wait for it.
//
// Start reading at Start.
package tether
