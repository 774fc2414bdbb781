// Package critest is a runtime of pods for tests: the server that k8s.io/cri-api generates, on a Unix socket, with pods that a test makes up
// and whose processes are real.
//
// It never runs a pod. Its invariant: what it says is on the wire as a kubelet would hear it.
//
// Start reading at Serve.
package critest
