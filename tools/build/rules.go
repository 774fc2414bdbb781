package main

import "firedrill/internal/onefile"

// rules are the command lines that the host part takes: those of commands that run on hosts, and those with which it starts itself again.
func rules() []onefile.Rule {
	return []onefile.Rule{
		{Index: 0, Word: "firedrill: guardian"},
		{Index: 0, Word: "firedrill-worker"},
		{Index: 2, Word: "list", Whole: true},   // attack list tells what this host has; trying that takes more than an attack needs
		{Index: 2, Word: "--help", Whole: true}, // it is named there
		{Index: 2, Word: "-h", Whole: true},
		{Index: 1, Word: "attack"},
		{Index: 1, Word: "halt"},
		{Index: 1, Word: "status"},
		{Index: 1, Word: "recover"},
		{Index: 1, Word: "probe"},
	}
}
