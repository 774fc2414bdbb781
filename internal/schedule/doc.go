// Package schedule decides what runs by itself: which entries of a service file are due, when something may be due next, and for each
// entry why it does not run now.
//
// It never starts anything, and it has no clock: now comes in as a value, and what happened before comes in as a State. So one day or ten
// years of a schedule are a table in a test, and the embedded scheduler and a control plane decide alike.
//
// Invariant: no entry is due outside of its window, on a frozen date, later than it may be caught up, twice for one moment, or beside
// another run of the same service. Whatever is in doubt is not due, and Why says so.
//
// Start reading at Decide.
package schedule
