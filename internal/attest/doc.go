// Package attest makes a run something that a stranger can check offline: a statement that names every file of the run by its digest and
// the head of its log, and a signature over that statement.
//
// The statement (attestation.json) is plain JSON; the signature (attestation.json.minisig) is minisign's, Ed25519 over BLAKE2b-512, so
// that `minisign -V` checks it as well as we do. It says who ran the drill and that nothing was changed since; what the run proved is
// said by judging its log again, which Verify does not do: that is verdict's part.
//
// It never decides about a run, and never writes a file: callers do. Its invariant: a file of the run that was changed, dropped, added
// to the statement or signed by another key is named by Check or Verify; there is no answer "probably".
//
// Start reading at Statement.
package attest
