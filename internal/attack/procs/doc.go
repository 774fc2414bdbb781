// Package procs finds processes: by name, pattern, number, owner; tells one process from a later one with the same number; and knows
// which ones no attack may ever touch.
//
// It only reads /proc and never signals anybody, except through a handle that was checked after it was taken.
//
// Its invariant: an ID names one process for ever, as far as one boot reaches: the number alone is never enough.
//
// Start reading at ID, then Query.
package procs
