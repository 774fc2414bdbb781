// Command init is process 1 of the machines that tools/vm boots: it mounts, loads modules, and starts the runs of its errand one after
// the other, telling on the second serial port what they print and how they end.
//
//	init                process 1: prepares the machine, starts "init run", reaps; or becomes systemd, whose service starts "init run"
//	init run            the runs; it keeps on the disk how far it came, so that a run may take the machine down and go on after it
//
// It refuses to do anything unless the kernel was started by tools/vm. Its invariant: whatever happens, the machine is switched off at the
// end, or hangs visibly; it never says that a test passed.
//
// Start reading at prepare, then carryOut (run.go).
package main
