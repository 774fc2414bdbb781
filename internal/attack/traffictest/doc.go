// Package traffictest is what the test suites of all network attacks share: bugs to plant by name, and effects that are felt by counting.
//
// It never decides what an attack must hold: that is package attacktest. Its invariant: a bug that has no name here makes a test fail.
//
// Start reading at Plant (plant.go).
package traffictest
