// Package conductor runs a Plan: it starts what the plan says, listens to what happens, writes it all into the log, and takes damage
// back before anything else.
//
// Its core is Step, a pure function of state, time and one input, which answers with commands; Run is a thin loop around it that
// carries them out through the Crew. The conductor decides the order of things and never whether a drill passed: that is judged from
// the log.
//
// The invariant: an attack that was started is always stopped and looked for again before the run goes on or ends, whatever else
// fails; and no attack starts without a steady state and a permit.
//
// When a drill or a promotion fails, what was changed for it goes back by itself (back.go): first the answer, then the release. A run that
// was broken off can be gone on with (resume.go): what an earlier log proves is not done again.
//
// Start reading at State.Step (step.go), then work.go and attack.go for what the phases do, then Run (run.go).
package conductor
