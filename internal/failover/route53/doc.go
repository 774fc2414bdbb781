// Package route53 moves names in Amazon Route 53, in one of three ways: it writes the records of the name; or it turns the routing controls, or
// the health checks, of records that stand there for both environments.
//
// It never deletes a name, never has both environments off on the way, never breaks a safety rule, and touches nothing but the records of the
// name, its mark and what it was given to turn. A change is compared and written in one batch, which Route 53 carries out as a whole or not at
// all: a record that is deleted must be named with all that it holds. Its invariant: nil is returned only when the name servers were seen to
// answer with the change and its mark.
//
// Routing controls are the way for the day on which Route 53's own control plane is away: then the mark, which keeps several followers in
// order, is not written, and the controls are turned all the same.
//
// Start reading at Publisher.Publish (publish.go), then records.go and turn.go.
package route53
