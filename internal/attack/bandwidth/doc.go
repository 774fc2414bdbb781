// Package bandwidth narrows the path between this host and its targets: what goes beyond a rate is lost, as at the policer of a provider.
//
// It never delays a packet. Its invariant is that of package traffic: a spare is never hit, and uses up nothing of the rate.
//
// Start reading at Kind (bandwidth.go), then package traffic.
package bandwidth
