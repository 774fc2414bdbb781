// Package jenkins reads the job of a Jenkins server that publishes over SSH (its config.xml), and writes what it does as a service file:
// a skeleton with the hosts, the files, the restart and the drills, and a list of what could not be carried over, with reasons.
//
// It never talks to a Jenkins server, and it never guesses in silence: what a person must fill in is written as TODO, and what was left
// out is said. The XML is a stranger's: it is bounded, and a document type or an entity of its own is refused.
//
// Invariant: every field of every publisher that holds something either shows up in the skeleton or in the list.
//
// Start reading at Read.
package jenkins
