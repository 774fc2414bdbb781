// Command mutants changes the deciders on purpose, one small thing at a time, and counts which changes their tests notice.
//
//	go run ./tools/mutants [-only TEXT] [-threshold PERCENT] alarm guard verdict
//
// Which changes there are is gremlins' word (github.com/go-gremlins/gremlins, through the Go proxy, with the operators that it has on by
// default). Gremlins builds a test binary for each; here all of a package are built into one, each in a copy of its function, and a variable
// of the environment says which one is meant. So a package takes minutes and not hours, and a change that does not compile is told from
// one that was noticed, which gremlins does not do with the Go of today: both end with status 1.
//
// Coverage is not asked: a change that no test reaches has survived. What cannot be noticed because it changes nothing stands in
// equivalent, each with its reason; one that is noticed after all, or that is there no more, is an error.
//
// Start reading at run.
package main
