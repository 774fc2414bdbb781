// Package remote runs commands on a host over SSH, copies files there, and starts our own binary there without installing it.
//
// It never accepts a host key that known_hosts does not vouch for, by the key itself or by an authority, never asks a question (passphrases
// and sudo's password come from a Secret, over standard input), and never leaves a file of its own behind: the binary is unlinked before its
// first byte is sent. It decides nothing about releases or drills.
//
// Its invariant: when Run, Wait or Kill return without drill.Unreachable, every process that they started on the host is gone, or the
// error names those that are not. A lost connection is never reported as the exit of a command.
//
// Start reading at Dial (client.go), then Run (run.go), then Push (push.go). What a connection is to be like comes from config.go, out of
// sshconfig; who both sides are is settled in auth.go and hostkey.go, root in sudo.go. The contract that every SSH server must let us keep
// is in remotetest.
package remote
