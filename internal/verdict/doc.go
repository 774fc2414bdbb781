// Package verdict says what a run proved: a pure function of the plan and the log, so a log can be judged again years later, on
// another machine, and gives the same answer.
//
// There are three answers. Passed: every expectation was seen, the attack was proven to bite, and the impact was proven to be gone.
// Failed: something that was looked at properly was not as it must be. Inconclusive: nobody can tell, because the attack did not bite,
// a monitor was silent or a piece of evidence is missing. Silence is never success: each check begins as inconclusive and evidence
// moves it from there.
//
// The package reads no clock, does no I/O and knows no attack's inner workings. Its invariant: taking evidence out of a log never
// turns a verdict into passed, and a mistake of our own (a panic) is inconclusive.
//
// Start reading at Verdict (verdict.go), then Judge (judge.go), then one file for each question: steady.go, injection.go, bite.go,
// expect.go, clients.go, revert.go, deploy.go. Decided (decided.go) tells a running drill that nothing is left to wait for.
package verdict
