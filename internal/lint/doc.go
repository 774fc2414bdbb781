// Package lint finds what a service file or a hosted zone can get wrong without being wrong: alarms that say nothing when a host dies, records
// that are always healthy, checks that decide by the other side, objectives that no setting could meet.
//
// It decides from what it is given, and asks nobody. A finding says what will happen on the day, not what is unusual, and names the cure. Its
// invariant: an error is a failover or a drill that does not do what its owner believes; everything weaker is a warning.
//
// Start reading at Service (service.go), then Zone (zone.go) and checks.go.
package lint
