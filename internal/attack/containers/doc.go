// Package containers finds the first process of a container: by asking the runtime (Docker, Podman, and what else speaks Docker's API on a
// Unix socket), by looking where containerd keeps its tasks, in the control groups of all processes, where every runtime leaves the
// container's ID, and on the command lines of the monitors of Podman and CRI-O, where its name is.
//
// What it never does: start, stop or change a container, or talk to a runtime over a network.
//
// Its invariant: a name that could mean two containers means none.
//
// Start reading at Finder.Find.
package containers
