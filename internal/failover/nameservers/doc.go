// Package nameservers looks at the name servers of others: what a name leads to there, and the mark that a provider left below it, a TXT
// record with the serial number and the addresses of the change.
//
// It asks and never changes anything. Its invariant: an answer counts only when the server gives it as its own knowledge.
//
// Start reading at Read, then Verify.
package nameservers
