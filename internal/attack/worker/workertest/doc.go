// Package workertest looks at workers from outside, and holds what every attack with a worker must keep beyond the contract of
// attacktest: the kernel ends the worker whoever of us is frozen or dead.
//
// It never signals a process that it has not found as a worker in the network namespace of its own world.
//
// Its invariant is that of attacktest: each guarantee is a function that takes a planted bug, and must then fail. Start reading at Run.
package workertest
