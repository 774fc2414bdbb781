// Package hostsfile moves the answer of a name in the hosts file of this host: for clients that ask no name server, and as the last resort
// when there is none.
//
// It never touches a line that is not its own, never makes the file where there is none, and never leaves half a file. Its invariant: the
// lines of a name stand between two marks, of which the first says the serial number of the decision, and an older decision never undoes a
// newer one.
//
// Programs look into the file at each look-up; what keeps a copy (nscd, systemd-resolved) notices that the file is another one.
//
// Start reading at Publisher, then Publish.
package hostsfile
