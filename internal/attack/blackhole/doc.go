// Package blackhole cuts a host off from addresses, names, ports or everything, so that it looks like a dead path: nothing is refused,
// nothing answers, new and established flows alike, IPv4 and IPv6, in both directions.
//
// It never does anything by itself: package traffic, whose plainest effect it is, holds the table, the gate and the targets. Its
// invariant is that of traffic: a spare is never hit.
//
// Start reading at Kind (blackhole.go), then package traffic.
package blackhole
