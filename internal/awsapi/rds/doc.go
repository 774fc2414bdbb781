// Package rds shows databases that a driver of ours moves as Amazon RDS shows Multi-AZ instances of PostgreSQL: what they are, the reboot that
// fails over, and the events of it. The servers of a database are availability zones, in their order: the first is "a" of whichever region is asked.
//
// It makes and deletes no instance, and promotes nothing unasked: that is for the database's own manager, or for the watch. Its invariant: what it
// shows is what the servers say at that moment, and a reboot that cannot fail over is refused before anything is touched.
//
// Start reading at Service (service.go); what clients read and write is in types.go.
package rds
