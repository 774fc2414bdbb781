// Package ready holds the ready-made drills for the failures that every service meets: each a page that says what a healthy service does,
// what to expect and what is needed, with the drill as a template that is filled from a service file.
//
// It writes no file and runs nothing. Its invariant: every drill that it fills can be compiled, and what a service file does not tell is
// asked for, never guessed.
//
// Start reading at Drill.Fill (ready.go); the pages are in drills/ready.
package ready
