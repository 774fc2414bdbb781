// Package drills holds the example that the demo runs, as files that a user may copy and own: the service file, the lab's topology, the
// zone and the published application.
//
// It holds files and no behaviour, and nothing in it is read by any other way than these files. Its invariant: what the demo runs is
// what a user finds here.
//
// Start reading at bookstore/firedrill.yaml.
package drills
