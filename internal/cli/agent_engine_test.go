//go:build !hostpart

package cli

import (
	"strings"
	"testing"
)

// engineSampled is what it samples where no agent ran before.
var engineSampled = engineSamples

// The name is one of another module's insides: when it is gone or means something else, this says so.
func TestTheNameOfWhatTheEngineSamplesIsRight(t *testing.T) {
	if !strings.HasPrefix(engineSampled, "/proc/") || !strings.HasSuffix(engineSampled, "/stat") {
		t.Errorf("the engine samples %q", engineSampled)
	}
}
