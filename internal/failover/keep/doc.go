// Package keep keeps the servers of others at the decided answers: each decision of the watch is published, again and again until every
// server was seen to follow, and what somebody else changes there is put right.
//
// It decides nothing, and never lets an old decision wait in the way of a new one. Its invariant: for each name there is at most one
// publication at a time, and the next one is always of the newest decision.
//
// Start reading at Keeper.
package keep
