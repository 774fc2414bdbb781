// Package programs moves the primary of any database by programs that its owner names: status, write, fence, promote, rebuild.
//
// The programs are told what to do and say whether they have done it; the package believes none of them alone. A fence that ends well is tried
// with a write before anything is promoted, a promotion counts when status shows it, and the mover writes to both sides in the end. What cannot
// be caught is a program for writes that lies in the same way as the others.
//
// It never guesses: an answer with a field, a host or a role that is not known is an error. Its invariant: Fence returns nil only when its
// program ended with 0 and a write on that host was not acknowledged after it.
//
// Start reading at Driver (driver.go), then Answer (answer.go), which is what a status program prints.
package programs
