//go:build !vm

package attacktest

import "time"

// patience bounds how long anything is waited for. It is generous: a busy machine is slow, and only a failure lasts this long.
func patience() time.Duration { return 15 * time.Second }

// setupLength is the length, in seconds, of attacks that are killed while they are set up: it is enough to set any attack up.
func setupLength() int { return 1 }

// brief is the length, in seconds, of attacks that are to reach their deadline.
func brief() int { return 2 }

// volleySilence is how long after the last answer no more is expected. What is late counts as lost.
func volleySilence() time.Duration { return 60 * time.Millisecond }
