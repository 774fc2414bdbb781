// Package databasetest is the contract of a database driver: what whoever moves a primary must keep to, as a story on a pair of servers that
// are really there.
//
// It knows a driver by its interface, cuts the power of hosts through the subject, and believes only writes: what was acknowledged must be
// found again, and an old primary must not acknowledge any. Fake is a pair in memory with bugs to plant, which shows that each clause can fail.
//
// Start reading at Subject and Checks (checks.go).
package databasetest
