// Package latency makes the way between this host and its targets longer, as if they were farther away: each packet is delayed by itself,
// new and established flows alike.
//
// Where the kernel has netem it delays what this host sends. Where it has not, what comes back is held in a queue of this process, which
// adds the same to each round trip; the plan and the account say which of the two it was.
//
// It never loses a packet while it is in force. Its invariant is that of package traffic: a spare is never delayed.
//
// Start reading at Kind (latency.go), then treat.go of package traffic, then package nfqueue.
package latency
