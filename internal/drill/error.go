package drill

import (
	"errors"
	"fmt"
	"strings"
)

// ErrorKind says how a caller must react to an Error. Values are written into logs: append, never reorder.
type ErrorKind int

// The kinds of errors that someone must act on differently.
const (
	Internal    ErrorKind = iota // our own fault
	Invalid                      // the input is wrong: file, flag, name
	Refused                      // a safeguard said no
	Unsupported                  // this kernel, host or peer lacks what is needed
	Unreachable                  // the other side could not be reached
	Timeout                      // it did not happen in time
	NotReverted                  // impact may still be in force
	Interrupted                  // a signal or the caller ended it; impact is reverted
	Unproven                     // it ran, but nothing proves that it bit
	Failed                       // it was done and the outcome is a failure
)

var errorKindNames = [...]string{
	Internal: "internal", Invalid: "invalid", Refused: "refused", Unsupported: "unsupported", Unreachable: "unreachable",
	Timeout: "timeout", NotReverted: "not reverted", Interrupted: "interrupted", Unproven: "unproven", Failed: "failed",
}

// String returns the word for the kind.
func (k ErrorKind) String() string {
	if k < 0 || int(k) >= len(errorKindNames) {
		return fmt.Sprintf("ErrorKind(%d)", int(k))
	}
	return errorKindNames[k]
}

// Error is an error that tells an operator what to do next. Everything else in the program uses plain wrapped errors.
type Error struct {
	Op   string    // what was being done, as "deploy green" or "attack blackhole"
	Host string    // where, if on a host
	Kind ErrorKind // how to react; decides the exit code
	Hint string    // the operator's next command or the cure; one sentence, may be empty
	Err  error     // the cause
}

// Error prints operation, host and cause; the hint is printed by the command line on a line of its own.
func (e *Error) Error() string {
	var parts []string
	for _, part := range []string{e.Op, e.Host} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	} else {
		parts = append(parts, e.Kind.String())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first Error in err's chain, Internal when there is none.
func KindOf(err error) ErrorKind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// HintOf returns the first non-empty hint in err's chain.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
