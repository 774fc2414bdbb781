package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
)

// fenceMax bounds fencing over SSH: longer than a clean stop of a busy primary takes.
const fenceMax = 30 * time.Second

// armScript makes the next start of PostgreSQL one as a standby.
const armScript = `
as sh -c 'umask 077; : > "$1/standby.signal"; sync "$1/standby.signal"; sync "$1"' sh "$data"
test -f "$data/standby.signal"
`

// fenceScript arms, stops, and looks: $mode is fast or immediate. What a hung server does not do is done to it. Whoever restarts it in between
// restarts a standby.
const fenceScript = armScript + `
postmaster=
if running; then
  postmaster=$pid
  as timeout 15 "$programs/pg_ctl" stop -D "$data" -m "$mode" -w -t 12 >/dev/null 2>&1 || true
  if [ "$(readlink "/proc/$postmaster/cwd" 2>/dev/null)" = "$(readlink -f "$data")" ]; then
    children=$(ps -o pid= --ppid "$postmaster" || true)
    kill -KILL "$postmaster" $children 2>/dev/null || true # pg_ctl comes back a moment before the server is gone; the next line is the proof
    while [ -e "/proc/$postmaster" ] && ! grep -q '^State:.*Z' "/proc/$postmaster/status"; do sleep 0.05; done
  fi
fi
if running && [ "$pid" != "$postmaster" ]; then echo restarted; else echo stopped; fi
`

// Fence keeps the old primary from writing: armed and stopped over SSH; or, when it is out of reach, powered off; or, if the policy lets that
// count, out of reach and seen armed before.
func (d *Driver) Fence(ctx context.Context, move database.Move) (string, error) {
	if move.From == "" {
		return "", &drill.Error{Op: "fence", Kind: drill.Refused, Err: errors.New("which host was the primary is not known"), Hint: "Look at the hosts yourself; firedrill database promote --unfenced goes on without."}
	}
	host, err := d.host(move.From)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, fenceMax)
	defer cancel()
	mode := "immediate"
	if move.Planned {
		mode = "fast"
	}
	looked := make(chan database.Member, 1) // beside the attempt over SSH, which takes as long when the host is dead
	go func() {
		member, _ := d.look(ctx, host)
		looked <- member
	}()
	said, sshErr := d.script(ctx, host, fenceScript, "mode", mode)
	before := <-looked
	if sshErr == nil {
		return d.fencedOverSSH(ctx, host, said)
	}
	if len(d.options.PowerOff) > 0 && !move.Planned {
		return d.powerOff(ctx, host)
	}
	if drill.KindOf(sshErr) == drill.Unreachable && !move.Planned && d.options.TrustArmed && move.Armed {
		if before.Role == database.Down {
			return "it is out of reach over SSH and SQL, and was seen armed: whenever it comes back it is a standby", nil
		}
		return "", &drill.Error{Op: "fence", Host: host.Name, Kind: drill.Refused, Err: fmt.Errorf("it answers over SQL and not over SSH: %w", sshErr), Hint: "Mend the way over SSH, or name fence.power_off in the service file."}
	}
	return "", &drill.Error{
		Op: "fence", Host: host.Name, Kind: drill.Refused, Err: fmt.Errorf("that it writes no more is not certain: %w", sshErr),
		Hint: "Name fence.power_off in the service file, or arm the primaries and set fence.trust_armed; when you know that it is dead: firedrill database promote --unfenced",
	}
}

// fencedOverSSH believes what it sees: no server, or one that is a standby.
func (d *Driver) fencedOverSSH(ctx context.Context, host drill.Host, said string) (string, error) {
	if said == "stopped" {
		return "PostgreSQL is stopped there, and armed: it starts as a standby", nil
	}
	for {
		member, _ := d.look(ctx, host)
		switch member.Role {
		case database.Standby:
			return "PostgreSQL was started again there, as a standby", nil
		case database.Primary:
			return "", &drill.Error{Op: "fence", Host: host.Name, Kind: drill.Failed, Err: errors.New("it was stopped and is a primary again"), Hint: "Who starts it there, and removes standby.signal?"}
		case database.Down:
		}
		if now, err := d.script(ctx, host, "if running; then echo running; else echo stopped; fi"); err == nil && now == "stopped" {
			return "PostgreSQL is stopped there, and armed: it starts as a standby", nil
		}
		select {
		case <-ctx.Done():
			return "", &drill.Error{Op: "fence", Host: host.Name, Kind: drill.Timeout, Err: errors.New("PostgreSQL was started again there and does not say what it is"), Hint: "Stop it: firedrill database fence " + host.Name}
		case <-time.After(pollEvery):
		}
	}
}

// powerOff switches the host off and believes it once the host answers nowhere.
func (d *Driver) powerOff(ctx context.Context, host drill.Host) (string, error) {
	var args []string
	for _, arg := range d.options.PowerOff {
		args = append(args, strings.ReplaceAll(arg, "{host}", host.Name))
	}
	if err := d.options.Command(ctx, args); err != nil {
		return "", &drill.Error{Op: "fence", Host: host.Name, Kind: drill.Refused, Err: fmt.Errorf("switch it off: %w", err), Hint: "Switch it off yourself, then: firedrill database promote --unfenced"}
	}
	if member, _ := d.look(ctx, host); member.Role != database.Down {
		return "", &drill.Error{Op: "fence", Host: host.Name, Kind: drill.Refused, Err: fmt.Errorf("it was switched off, and still is a %s", member.Role), Hint: "Does fence.power_off switch off the right machine?"}
	}
	return "the host is switched off", nil
}

// arm makes a primary start as a standby whenever it starts again.
func (d *Driver) arm(ctx context.Context, host drill.Host) error {
	if _, err := d.script(ctx, host, armScript); err != nil {
		return fmt.Errorf("arm %s: %w", host.Name, err)
	}
	return nil
}

// Arm arms the primary that there is.
func (d *Driver) Arm(ctx context.Context, name string) error {
	host, err := d.host(name)
	if err != nil {
		return err
	}
	return d.arm(ctx, host)
}

// stoppedAt returns where a stopped primary ended.
func (d *Driver) stoppedAt(ctx context.Context, host drill.Host) (uint64, error) {
	text, err := d.script(ctx, host, `as "$programs/pg_controldata" -D "$data" | sed -n 's/^Latest checkpoint location: *//p'`)
	if err != nil {
		return 0, err
	}
	high, low, ok := strings.Cut(text, "/")
	a, errA := strconv.ParseUint(high, 16, 32)
	b, errB := strconv.ParseUint(low, 16, 32)
	if !ok || errA != nil || errB != nil {
		return 0, fmt.Errorf("pg_controldata on %s says %q", host.Name, text)
	}
	return a<<32 | b, nil
}
