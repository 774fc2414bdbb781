// Package drill holds the words that every other room uses: Service, Environment, Host, Dependency, Drill, Order, Expectation,
// Objective and Plan, the service file that a user writes (firedrill.yaml), and Compile, which makes a pipeline concrete.
//
// It does no I/O and reads no clock. Its invariant: Compile is a pure function, so the same file and the same facts give the same
// Plan, byte for byte; and a mistake in a file is answered with line, column and the cure, never with a guess.
//
// Start reading at Service (service.go), then Plan (plan.go), then Parse (parse.go).
package drill
