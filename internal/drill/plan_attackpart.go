//go:build attackpart

package drill

// Plan is what a run is going to do. Attacks are told what to do by flags, and no attack reads a plan.
type Plan struct{}
