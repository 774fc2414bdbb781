// Package memory takes memory away from everybody else on this host, for a while.
//
// One worker process (see package worker) holds the amount as private pages that are written to, so that they are really there, and locks
// them where it may, so that they are not swapped out. It is the first victim of the OOM killer, and a reserve is always kept: the amount
// is refused when it would not leave the reserve, before the start by what /proc and our control groups say, and again before each part.
//
// What the package never does: take the last of the memory, of the host or of a control group that we are in.
//
// Its invariant: with the worker's end the memory is free; see package worker for when that is. The kernel takes the pages back while the
// process ends: 256 MB took 60 ms, and 150 ms with eight busy processes for each core.
//
// Start reading at Kind (memory.go), then hold (hold.go), then available (available.go).
package memory
