// Package attacktest is the contract of an attack kind, as tests that every kind runs, and the world in which they run: throw-away
// network namespaces, a host under attack and a peer, joined by one cable.
//
// It never touches the namespace of the machine: all sockets and processes are made on threads that have left it and are thrown away
// afterwards. Its invariant: each check returns an error when the guarantee does not hold, so that a kind with a planted bug can be shown
// to fail it.
//
// Start reading at World (world.go), then Attack (process.go), then Contract (contract.go).
package attacktest
