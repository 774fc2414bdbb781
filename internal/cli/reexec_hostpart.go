//go:build hostpart

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
)

// wholeReexec is for processes that only the whole program starts.
func wholeReexec([]string, io.Writer, io.Writer) (code int, ours bool) { return 0, false }

// haltFleet starts this file again as the whole program, which can speak to a server.
func haltFleet(_ context.Context, _ streams, far farFleet) error {
	return whole(far.json, "halt", "--server="+far.server, "--fleet="+far.credentials, "--reason="+far.reason)
}

// statusFleet does likewise.
func statusFleet(_ context.Context, _ streams, far farFleet) error {
	return whole(far.json, "status", "--server="+far.server, "--fleet="+far.credentials)
}

// whole starts this file again as the whole program, with a command of the fleet. It returns only when that fails.
func whole(asJSON bool, args ...string) error {
	args = append([]string{"firedrill", "fleet"}, args...)
	if asJSON {
		args = append(args, "--json")
	}
	return fmt.Errorf("start the whole program: %w", syscall.Exec("/proc/self/exe", args, os.Environ()))
}
