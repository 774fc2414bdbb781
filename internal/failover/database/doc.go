// Package database moves the primary of a database from one host to another: in which order, under which conditions, and with which proof.
//
// Choose decides, without I/O, whether a standby may be promoted and which; Move carries it out through a Driver: it fences the old
// primary first, promotes the standby, writes to it, and tries to write to the old one, which must refuse. Due says when alarms order that.
// The drivers stand below, a folder each; pgsql is what those that speak SQL share; databasetest is the contract of all.
//
// The package never measures data loss: positions of a log mislead after a failure, and only the ledger of acknowledged writes (package
// probe) tells. Positions only help to choose.
//
// The invariant: no standby is promoted before the old primary is fenced, and a move is done only once a write was acknowledged by the new
// primary and the old one was tried and did not accept one. Any doubt is no.
//
// Start reading at Driver (driver.go), Choose (choose.go), then Move (move.go).
package database
