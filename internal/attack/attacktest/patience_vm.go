//go:build vm

package attacktest

import (
	"math"
	"os"
	"os/exec"
	"sync"
	"time"
)

// On an emulated processor (see tools/vm) all times are a multiple of what it takes there to start a program that does nothing. A real one
// needs some ten milliseconds for that.

// slowness is that time, in seconds: the longest of three.
var slowness = sync.OnceValue(func() float64 {
	longest := 0.0
	for range 3 {
		began := time.Now()
		_ = exec.Command(os.Args[0], "-test.run=^$").Run()
		longest = max(longest, time.Since(began).Seconds())
	}
	return longest
})

// patience bounds how long anything is waited for. Only a failure lasts this long.
func patience() time.Duration {
	return 30*time.Second + time.Duration(60*slowness()*float64(time.Second))
}

// setupLength is the length, in seconds, of attacks that are killed while they are set up: it is enough to set any attack up.
func setupLength() int { return 5 + int(math.Ceil(30*slowness())) }

// brief is the length, in seconds, of attacks that are to reach their deadline: they are set up before it.
func brief() int { return 3 + int(math.Ceil(12*slowness())) }

// volleySilence is how long after the last answer no more is expected. What is late counts as lost, so it is as long as the peer, which
// answers from this very process, can be kept from the processor.
func volleySilence() time.Duration {
	return 60*time.Millisecond + time.Duration(slowness()*float64(time.Second))
}
