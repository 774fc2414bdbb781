// Package kinds is the explicit list of all attacks. It registers nothing and decides nothing.
//
// Its invariant: what is not in the list does not exist, for the command line, the compiler of service files, and the reference pages
// alike. Start reading at All.
package kinds
