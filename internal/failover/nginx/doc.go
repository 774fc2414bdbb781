// Package nginx moves the answer of a name in an nginx on this host: it writes the file with the upstream's servers, has nginx test and
// reload it, and asks nginx whether it runs what was written.
//
// It never leaves a file behind that nginx does not accept, never writes another file, and never says "published" before the running nginx
// said so itself. Its invariant: the file is at every instant the old one or the new one, and an older decision never undoes a newer one.
//
// The file is included at the level of http. It holds the upstream, and a server on a port or socket of this host that says the serial number
// of the decision: the same reload brings both, so that what it says is what runs.
//
// Start reading at Publisher, then Publish (publish.go), then render (file.go).
package nginx
