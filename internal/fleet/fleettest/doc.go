// Package fleettest tries a control plane and its agents together: in one process with attacks that are only files, where time is short and
// planted bugs can be put in; and as the built program on the hosts of a lab, where the attacks are real.
//
// It holds tests alone. Its invariant: each promise of the fleet is tried with a way to break it that the try notices.
//
// Start reading at world_test.go.
package fleettest
