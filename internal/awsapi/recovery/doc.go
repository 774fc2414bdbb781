// Package recovery keeps routing controls as Amazon's Application Recovery Controller does: switches that are on or off, changed together or not
// at all, and safety rules that refuse what would leave nothing in rotation.
//
// It speaks no protocol. It never changes a part of what is asked for. Its invariant: unless somebody overrides a rule by its name, no change of
// controls leaves an assertion unmet or passes a gate that is shut.
//
// Start reading at Update (recovery.go).
package recovery
