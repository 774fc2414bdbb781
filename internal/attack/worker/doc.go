// Package worker carries out attacks whose impact is a process: burning processor time, holding memory, holding room on a volume.
//
// The worker is this program started again. The kernel ends it, and with its end takes the impact back, in each of these cases, whoever
// of us is frozen or dead by then:
//
//	the attack's process dies           the death signal (PR_SET_PDEATHSIG), and the end of the pipe that is the worker's standard input
//	the deadline has passed             a POSIX timer of the kernel in the worker that sends SIGKILL: a stopped process dies of it too
//	memory runs out                     the OOM killer takes the worker first
//
// So no guardian is needed, and nothing remains on the host that a later start would have to clean up.
//
// What the package never does: start a worker without a deadline, let a job begin before the kernel holds that deadline, or leave a file
// with a name behind.
//
// Its invariant: a job runs only in a process that cannot outlive its parent or its deadline.
//
// Start reading at Step (step.go), then Main (main.go), which is the other side.
package worker
