//go:build !vm

package attacktest

import "time"

// patience bounds how long anything is waited for. It is generous: a busy machine is slow, and only a failure lasts this long.
const patience = 15 * time.Second

// setupLength is the length, in seconds, of attacks that are killed while they are set up: it is enough to set any attack up.
const setupLength = 1

// brief is the length, in seconds, of attacks that are to reach their deadline.
const brief = 2
