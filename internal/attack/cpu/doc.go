// Package cpu burns processor time: a share of each of some cores, for a while.
//
// One worker process (see package worker) has one thread for each core, pinned to it. A thread burns until it has used its share of the
// time that has passed, by its own clock of processor time, and then sleeps until the next period: the share that is held is the share
// that was asked, however long the kernel lets it sleep or others take the core in between.
//
// What the package never does: raise its own priority, or run on a core that we are not allowed to use.
//
// Its invariant: with the worker's end the impact ends; see package worker for when that is.
//
// Start reading at Kind (cpu.go), then burn (burn.go), then meter (meter.go).
package cpu
