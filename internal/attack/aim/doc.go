// Package aim is what attacks on processes and control groups share: whom they mean, when they start and as more come up; looking again as
// long as they are in force; finding in journals what others hold; saying why one could not be touched.
//
// What it never does: change anything, or mean a process that no attack may touch.
//
// Its invariant: who is meant is decided anew at each look, by what the kernel says then.
//
// Start reading at Aim.
package aim
