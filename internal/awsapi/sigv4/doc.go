// Package sigv4 says whether a request carries a valid signature of AWS's version 4, made with one of the keys that are known here.
//
// It signs nothing, and gives no right beside "this is a holder of the key". Its invariant: a request whose method, path, query, body, host or
// any signed header was changed after the signing, or that is more than fifteen minutes off, is refused.
//
// Start reading at Verify (sigv4.go); keys are read in keys.go.
package sigv4
