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
func haltFleet(_ context.Context, _ streams, far farHalt) error {
	args := []string{"firedrill", "fleet", "halt", "--fleet=" + far.credentials, "--reason=" + far.reason}
	if far.json {
		args = append(args, "--json")
	}
	return fmt.Errorf("start the whole program: %w", syscall.Exec("/proc/self/exe", args, os.Environ()))
}
