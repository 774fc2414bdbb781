// Package simulation plays whole runs in one process, in a time of its own: hosts crash and freeze, messages are lost, doubled and late,
// clocks are wrong, name servers are slow, people interrupt. Everything that decides is the real code (drill.Compile, conductor.State,
// guard, alarm, failover, verdict); hosts, kernels and the network are models, whose faults are drawn from a seed.
//
// Beside each run a fleet is played: servers that all believe to lead take permits of several services at once and of the redundancy groups
// that these belong to, over a network that loses requests and answers, and order hosts (permits_test.go).
//
// It waits for nothing and touches nothing: the same seed gives the same run, event by event. After each event it is asked whether what
// must never happen has happened (invariants_test.go). Seeds that once failed stand in testdata/seeds and are played for ever.
//
//	go test ./internal/simulation -run Fresh -seconds 60        a minute of seeds that nobody has played
//	go test ./internal/simulation -run Fresh -seed 4711         one of them again
//
// The invariant of the package itself: each thing that must never happen has a planted bug which is found within 10,000 events.
//
// Start reading at world (world_test.go), then invariants_test.go.
package simulation
