// Package hoard takes a number of something away that all of a host share, such as open files or threads, by a worker that holds them and
// does nothing else. Kinds that are about one such thing describe it as a Good.
//
// What it never does: take the reserve, whoever else takes at the same time.
//
// Its invariant: all that is held is held by the worker process alone, so that the kernel takes it back with it.
//
// Start reading at Good, then Step and Job.
package hoard
