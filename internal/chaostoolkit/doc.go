// Package chaostoolkit reads an experiment of the Chaos Toolkit (JSON or YAML), and writes what it does as a service file with a drill:
// the hypothesis as probes and expectations, actions that a drill has a counterpart for as attacks, and a list of all that was carried
// over, changed and lost, each with its place in the experiment.
//
// It runs nothing of an experiment, imports no Python, and reads no variable or file that an experiment names. Secrets are never copied.
//
// Invariant: every value of the experiment stands in the list under one of the three headings; a change of what it meant is never silent.
//
// Start reading at Import.
package chaostoolkit
