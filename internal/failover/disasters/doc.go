// Package disasters holds a benchmark alone: eight disasters in a lab, each with the time until it was detected, decided, answered and until
// clients recovered; and beside the first one, in the same run, how long PowerDNS takes whose own checks (ifurlup) choose the answer.
//
// It asserts no time: figures are for reading. Its invariant: all times count from the moment at which the disaster was in force, by the one
// clock that all hosts of a lab share.
//
// Start reading at BenchmarkDisasters.
package disasters
