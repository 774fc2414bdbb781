//go:build !hostpart

package cli

import _ "unsafe" // for the name below

// engineSamples is the file of which the package of the engine, which an agent has in its program and never starts, reads the processor time of this process
// once a second for as long as it can. It has no other switch.
//
//go:linkname engineSamples github.com/nats-io/nats-server/v2/server/pse.procStatFile
var engineSamples string

// unsampled ends that: it is half of what wakes an agent up.
func unsampled() { engineSamples = "" }
