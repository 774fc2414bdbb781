// Package lockfile lets writers on one host wait for each other at a file.
//
// It never deletes the file, since another writer may hold it at that moment. Its invariant: the kernel lets the lock go when its holder ends,
// however it ends.
//
// Start reading at Take.
package lockfile
