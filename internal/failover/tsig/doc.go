// Package tsig holds the secrets with which name servers trust each other: it reads them from a key file and signs messages with them.
//
// It never prints a secret and never makes one. Its invariant: a key that is returned can be used, so that a mistake in the file shows
// when the program starts, and not when the answer has to move.
//
// The file is what tsig-keygen writes and what BIND and Knot's keymgr read (a clause key "NAME" { algorithm ...; secret ...; };), or one
// line ALGORITHM:NAME:SECRET, as dig -y takes it.
//
// Start reading at Parse.
package tsig
