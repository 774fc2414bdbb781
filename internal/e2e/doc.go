// Package e2e holds the tests that run the built program as a user does: the demo from begin to end, as root and as an ordinary user,
// sabotaged, interrupted, and killed at random instants.
//
// It holds no code of the product. Its invariant: after each run the machine is compared with what it was before, as a whole, not by a
// list of what we believe to have changed.
//
// Start reading at TestDemoPasses (demo_test.go).
package e2e
