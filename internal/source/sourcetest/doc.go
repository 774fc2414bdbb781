// Package sourcetest is the contract that every source of alarms keeps. A system is what a test can do to the other side: make the alarm
// be raised and clear, take it away, and let the whole system fall silent.
package sourcetest
