// Package certificate looks at the certificates of TLS endpoints and of PEM files as if it were some days later: what a clock that has gone
// on would break is found before it breaks.
//
// It does no damage and changes nothing. It bit when every certificate that was asked for was looked at; that one would be expired is a
// failure of what was looked at, not of the attack, and has the exit code of one. What could not be looked at proves nothing.
//
// What it never does: send anything but a TLS handshake; or call an endpoint fine of which it has not seen the certificates.
//
// Its invariant: the verdict on certificates is a pure function of them, of the date, and of the roots (judge.go).
//
// Start reading at Order, then judge.
package certificate
