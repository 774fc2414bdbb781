// Package verdicttest tells the story of the Bookstore as a log: a small simulation of hosts, alarms, answers and clients that gives
// the same events for the same twist, byte for byte. Tests of the verdict and of the reports begin with a story that passes and take
// something away from it.
//
// It is for tests only and looks at nothing but its arguments. Its invariant: a story without a twist is one that must pass.
//
// Start reading at Bookstore (story.go); the plan is in plan.go.
package verdicttest
