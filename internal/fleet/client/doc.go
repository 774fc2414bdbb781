// Package client asks a control plane, for a person or a program that holds credentials.
//
// It never decides anything, and keeps nothing but the connection. Its invariant: it speaks to the holder of the pinned key alone; over HTTPS
// without a pin, to whom an authority of this machine vouches for.
//
// Start reading at Connect and Call (client.go), and at FetchDrill (fetch.go), which brings the files of a drill here; OverHTTPS (https.go) is the way of programs with a token.
package client
