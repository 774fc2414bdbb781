// Package durable keeps one value in one file: after a crash the file holds the value of before or the one of after, never a part.
//
// It knows nothing of what it keeps. Its invariant: what Save has returned nil for is what Load gives, also after a loss of power.
//
// Start reading at Save (durable.go).
package durable
