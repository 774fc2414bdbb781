// Package move holds what all share who move answers in servers of others: writers on one host wait for each other at a file, a file is
// replaced in one step, and what is waited for is looked at again and again.
//
// It knows nothing of the servers. It never deletes the file of a lock, since another writer may hold it at that moment. Its invariants: the
// kernel lets a lock go when its holder ends, however it ends; and whoever reads a replaced file reads the old text or the new one.
//
// Start reading at Take.
package move
