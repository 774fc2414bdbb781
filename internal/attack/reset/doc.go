// Package reset breaks TCP connections with a reset the moment that a packet passes, established ones and new ones, as a middlebox that has
// lost its state does.
//
// It never touches what is not TCP, and a connection on which nothing is sent stays as it is. Its invariant is that of package traffic: a
// spare is never hit.
//
// Start reading at Kind (reset.go), then package traffic.
package reset
