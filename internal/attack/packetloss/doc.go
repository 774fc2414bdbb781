// Package packetloss loses a share of the packets that this host sends, at random and each for itself, as a bad link does: the sender is
// not told. Asked to corrupt, it flips one bit of each instead and leaves the checksum as it was, so that the receiver finds out.
//
// It never touches what comes in, except what is on its way through the host to a target. Its invariant is that of package traffic: a spare
// is never hit.
//
// Start reading at Kind (packetloss.go), then package traffic.
package packetloss
