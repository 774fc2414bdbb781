package main

import (
	"firedrill/internal/attack"
	"firedrill/internal/onefile"
)

// rules say which part takes a command line. An attack goes to the part that starts fastest, and all else that runs on hosts, with what
// starts itself again there, to the host part.
func rules() []onefile.Rule {
	return []onefile.Rule{
		{Index: 0, Word: "firedrill: guardian", To: onefile.Host},
		{Index: 0, Word: "firedrill-worker", To: onefile.Host},
		{Index: 0, Word: attack.ByHostPart, To: onefile.Host},
		{Index: 2, Word: "list", To: onefile.Whole},   // attack list tells what this host has; trying that takes more than an attack needs
		{Index: 2, Word: "--help", To: onefile.Whole}, // it is named there
		{Index: 2, Word: "-h", To: onefile.Whole},
		{Index: 1, Word: "attack", To: onefile.Attack},
		{Index: 1, Word: "halt", To: onefile.Host},
		{Index: 1, Word: "status", To: onefile.Host},
		{Index: 1, Word: "recover", To: onefile.Host},
		{Index: 1, Word: "probe", To: onefile.Host},
	}
}
