//go:build vm

package attacktest

import "time"

// patience bounds how long anything is waited for on an emulated processor: see tools/vm.
const patience = 90 * time.Second
