// Package cli is the command line: flags, wiring, exit codes. It is the only package that knows all others, and nothing imports it but
// main.
//
// It decides nothing about drills. Its invariant: every error reaches the user once, with its cure where there is one, and every exit
// code means what docs/ARCHITECTURE.md says.
//
// Start reading at Main (main.go).
package cli
