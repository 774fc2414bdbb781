// Package disk fills the volume below a directory to a share, and holds it there, for a while.
//
// One worker process (see package worker) holds files that have no name. It asks the file system for room (fallocate), which takes
// milliseconds for any size; where that is not supported, it writes. While the attack is in force it takes again what becomes free, so a
// service that tidies up does not end the drill. Shares are those of df: what is kept for root alone is neither used nor available, and
// is never taken.
//
// What the package never does: write to a file of somebody else's, leave a file with a name behind, or go below what root has in reserve.
//
// Its invariant: with the worker's end the room is free; see package worker for when that is.
//
// Start reading at Kind (disk.go), then fill (fill.go), then files (files.go).
package disk
