// Package backup packs a directory of files into one file, and unpacks it only whole: each file with the digest that it had.
//
// What it never does: follow a link, write outside of the directory that it was given, or leave half of one behind.
//
// Its invariant: what Unpack returns without an error for is byte for byte what Pack read.
//
// Start reading at Pack.
package backup
