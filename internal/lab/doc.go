// Package lab makes hosts out of Linux namespaces from a topology file: for the demo, for rehearsals of the user's own pipeline, and for
// tests. A host has its own init, address, processes, names and file system view, can be rebooted and powered off, and speaks SSH.
//
// It never touches the machine that it runs on: no file, no address, no route and no process outlives a lab, and a host has no way to the
// machine's network. The invariant is that everything hangs on one process, the world, which is PID 1 of a PID namespace: when it goes,
// the kernel takes all of the lab with it, and it goes when the program that called Up goes, however that happens.
//
//	caller ──control socket, parent-death signal──▶ world (PID 1: bridge, disks)
//	                                                 ├─ init of host blue (PID 1: eth0, services, SSH)
//	                                                 └─ init of host green
//
// Start reading at Up (lab.go), then the world (world.go), then the init of a host (init.go).
package lab
