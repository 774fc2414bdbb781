// Package amazon opens the way to Amazon's services for all that speaks to them as a client: region, endpoint and credentials, as a service
// file names them.
//
// It speaks to nobody itself, and writes no secret anywhere. Its invariant: what the service file names is used, and nothing else is looked
// for in its place.
//
// Start reading at Config.
package amazon
