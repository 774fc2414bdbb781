// Package client asks a server of a fleet, in Go: for CI, chat and pagers of your own. It speaks to the HTTPS API (firedrill server --fleet-http) with a token of
// firedrill fleet api-token, within the scopes of that token.
//
// Its invariant: with a pin it speaks to the holder of that key alone, and a call that was not answered may have been heard; ask what became of it
// before it is made again.
//
// Start reading at New, then Attack and Await. Everything that is not a method here is at Call, by the names of the scopes.
package client
