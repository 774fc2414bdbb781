// Package cgroups finds control groups by name in either version of the interface, and reads and writes their files.
//
// What it never does: make or remove a group, move a process, or name the root group, which is the whole host.
//
// Its invariant: the directory of a Group lies below the mount of its hierarchy, and holds the file that was asked for when it was found.
//
// Start reading at Find.
package cgroups
