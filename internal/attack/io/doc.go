// Package io keeps a volume busy with reads and writes, for a while.
//
// One worker process (see package worker) has files without a name on the volume, one for each writer, and reads or writes their blocks
// over and over, as fast as the volume answers. It goes past the page cache where the file system lets it (O_DIRECT); elsewhere it waits
// for each round to be on the disk, and drops it from the cache before it is read.
//
// What the package never does: read or write a file of somebody else's, or take more room than it says at the start.
//
// Its invariant: with the worker's end the reads and writes end and the room is free; see package worker for when that is.
//
// Start reading at Kind (io.go), then churn (churn.go), then meter (meter.go).
package io
