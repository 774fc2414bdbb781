//go:build vm

package attacktest

import "time"

// patience bounds how long anything is waited for on an emulated processor: see tools/vm.
const patience = 90 * time.Second

// setupLength is the length, in seconds, of attacks that are killed while they are set up: it is what an emulated processor needs to set any attack up.
const setupLength = 8

// brief is the length, in seconds, of attacks that are to reach their deadline: an emulated processor sets them up before it.
const brief = 15
