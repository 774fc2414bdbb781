// Package dns cuts a host off from its DNS servers, so that names stop resolving the way they do when the servers are gone: questions are
// not answered, and nothing says why.
//
// It never cuts the questions of firedrill itself, or the names of other attacks could not be followed. Its invariant is that of package
// traffic: a spare is never hit.
//
// Start reading at Kind (dns.go), then package traffic.
package dns
