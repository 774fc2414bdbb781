// Package client asks a control plane, for a person or a program that holds credentials.
//
// It never decides anything, and keeps nothing but the connection. Its invariant: it speaks to the holder of the pinned key alone.
//
// Start reading at Connect and Call (client.go).
package client
