package postgresql

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

// prelude is what every script of ours begins with. $data, $owner, $service and $programs are ours; as runs a program as PostgreSQL's owner.
const prelude = `set -eu
cd /
export LC_ALL=C
if [ -z "$programs" ]; then programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1); fi
as() { if [ "$(id -un)" = "$owner" ]; then "$@"; else setpriv --reuid="$owner" --regid="$(id -gn "$owner")" --init-groups -- "$@"; fi; }
running() { pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$(readlink -f "$data")" ]; }
`

// script runs a script of ours on the host as root, and returns what it printed.
func (d *Driver) script(ctx context.Context, host drill.Host, text string, more ...string) (string, error) {
	client, err := remote.Dial(ctx, host, d.options.SSH)
	if err != nil {
		return "", err
	}
	defer client.Close()
	var line strings.Builder
	variables := append([]string{"data", d.options.Data, "owner", d.options.Owner, "service", d.options.Service, "programs", d.options.Programs}, more...)
	for i := 0; i+1 < len(variables); i += 2 {
		fmt.Fprintf(&line, "%s=%s\n", variables[i], quote(variables[i+1]))
	}
	line.WriteString(prelude + text)
	var out, errOut bytes.Buffer
	exit, err := client.Run(ctx, remote.Command{Line: line.String(), Stdout: &out, Stderr: &errOut, Become: host.SSH.Become})
	if err != nil {
		return out.String(), err
	}
	if exit.Code != 0 {
		return out.String(), fmt.Errorf("exit status %d: %s", exit.Code, last(errOut.String()+"\n"+out.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// last returns the last lines of what a program said.
func last(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-6):], " / ")
}

func fields(text string) []string { return strings.Fields(text) }

// runHere runs a program as a child of ours.
func runHere(ctx context.Context, args []string) error {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, last(string(out)))
	}
	return nil
}
