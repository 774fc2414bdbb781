package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/failover/database/databasetest"
)

// TestMain lets scripts start this test binary as firedrill, each run in a process of its own. A process that another test started has
// a command of its own to run, and may be of a user who must not set up anything.
func TestMain(m *testing.M) {
	databasetest.Main()                                                                                                  // on the hosts of a lab this binary is everything
	if self, err := os.Executable(); err == nil && strings.HasPrefix(filepath.Base(filepath.Dir(self)), ".firedrill-") { // pushed to a host of one
		os.Exit(Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	// doctor starts this binary again, in a network namespace that is thrown away.
	if code, ours := hostfacts.Reexec(os.Args, os.Stdout, os.Stderr); ours {
		os.Exit(code)
	}
	if _, another := os.LookupEnv(envCommand); another {
		os.Exit(m.Run())
	}
	testscript.Main(m, map[string]func(){
		"firedrill": func() { os.Exit(Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) },
	})
}
