// Package remotetest holds the contract that package remote keeps on every SSH server, an SSH server of our own for tests, and Debian's
// sshd made ready for them.
//
// It never listens anywhere but on the loopback, and ends what it started by process id. Its invariant: each promise of the suite has a
// twin that breaks it, which the same check must catch.
//
// Start reading at Run (suite.go), then Serve (server.go) and OpenSSH (openssh.go).
package remotetest
