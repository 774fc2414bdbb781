package programs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
)

const (
	timeoutDefault = time.Minute
	tryDefault     = 2 * time.Second
	pollEvery      = 100 * time.Millisecond
	// saidMax is how much of what a program prints is kept: a status of a hundred servers is some ten kilobytes.
	saidMax = 1 << 20
	// ReadOnly is the exit code with which a write program says that the server answered and takes no writes.
	ReadOnly = 10
)

// Options are what a Driver must know; Hosts and all programs are required. In their arguments {host}, {from} and {to} are filled in.
type Options struct {
	Hosts   []drill.Host
	Status  []string      // prints an Answer
	Write   []string      // one write on {host}; exit code 0: acknowledged, ReadOnly: it answered and refused, any other: neither
	Fence   []string      // {host} takes no writes any more, whatever restarts there; 0: that is certain. Its first line of output says how
	Promote []string      // {to} becomes the primary in place of {from}, which is fenced; FIREDRILL_PLANNED=1: it must have all that {from} wrote
	Rebuild []string      // {host} becomes a standby of {from}
	Dir     string        // where they run
	Timeout time.Duration // of each, default one minute; then it is killed with all that it started
}

// Driver moves one database by programs. It is a database.Driver; methods may be called concurrently if the programs may.
type Driver struct {
	options  Options
	tryMax   time.Duration // of a write that tries a fence
	shownMax time.Duration // until status shows what a program says that it has done
}

var _ database.Driver = (*Driver)(nil)

// New returns a driver; it starts nothing.
func New(options Options) *Driver {
	if options.Timeout == 0 {
		options.Timeout = timeoutDefault
	}
	return &Driver{options: options, tryMax: tryDefault, shownMax: options.Timeout}
}

func (d *Driver) names() []string {
	var names []string
	for _, host := range d.options.Hosts {
		names = append(names, host.Name)
	}
	return names
}

// program is one start of a program.
type program struct {
	op             string // what it is for, as the service file calls it
	args           []string
	host, from, to string
	planned        bool
}

// run runs a program to its end and returns what it printed.
func (d *Driver) run(ctx context.Context, p program) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	fill := strings.NewReplacer("{host}", p.host, "{from}", p.from, "{to}", p.to)
	var args []string
	for _, arg := range p.args {
		args = append(args, fill.Replace(arg))
	}
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Dir = d.options.Dir
	command.Env = append(command.Environ(), "FIREDRILL_HOST="+p.host, "FIREDRILL_FROM="+p.from, "FIREDRILL_TO="+p.to)
	if p.planned {
		command.Env = append(command.Env, "FIREDRILL_PLANNED=1")
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second // what it started may hold its output open
	out, errOut := &kept{}, &kept{}
	command.Stdout, command.Stderr = out, errOut
	err := command.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return out.String(), &drill.Error{Op: p.op, Host: p.host, Kind: drill.Timeout, Err: fmt.Errorf("%s was killed after %s: %w", args[0], d.options.Timeout, ctx.Err()), Hint: "Run it by hand, or raise timeout in exec: of the service file."}
	}
	return out.String(), &drill.Error{Op: p.op, Host: p.host, Kind: drill.Failed, Err: fmt.Errorf("%s: %w: %s", args[0], err, last(errOut.String()+"\n"+out.String())), Hint: "Run it by hand: " + strings.Join(args, " ")}
}

// kept keeps the beginning of what is written to it.
type kept struct{ bytes.Buffer }

func (k *kept) Write(p []byte) (int, error) {
	if room := saidMax - k.Len(); room > 0 {
		_, _ = k.Buffer.Write(p[:min(room, len(p))]) // a buffer takes everything
	}
	return len(p), nil
}

// last returns the last lines of what a program said.
func last(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " / ")
}

// Status implements database.Driver.
func (d *Driver) Status(ctx context.Context) (database.Status, error) {
	said, err := d.run(ctx, program{op: "status", args: d.options.Status})
	if err != nil {
		return database.Status{}, err
	}
	status, err := read([]byte(said), d.names())
	if err != nil {
		return status, &drill.Error{Op: "status", Kind: drill.Failed, Err: fmt.Errorf("%s prints no status: %w", d.options.Status[0], err), Hint: "docs/databases.md shows what it must print."}
	}
	return status, nil
}

// Write implements database.Driver.
func (d *Driver) Write(ctx context.Context, host string) error {
	if !slices.Contains(d.names(), host) {
		return &drill.Error{Op: "write", Kind: drill.Invalid, Err: fmt.Errorf("there is no host %q", host), Hint: drill.Suggest(host, d.names())}
	}
	_, err := d.run(ctx, program{op: "write", args: d.options.Write, host: host})
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == ReadOnly {
		return fmt.Errorf("%s: %w", host, database.ErrReadOnly)
	}
	return err
}

// Fence runs the program, and then tries the host with a write: one that is acknowledged shows that it is not fenced.
func (d *Driver) Fence(ctx context.Context, move database.Move) (string, error) {
	if move.From == "" {
		return "", &drill.Error{Op: "fence", Kind: drill.Refused, Err: errors.New("which host was the primary is not known"), Hint: "Look at the hosts yourself; firedrill database promote --unfenced goes on without."}
	}
	said, err := d.run(ctx, program{op: "fence", args: d.options.Fence, host: move.From, from: move.From, to: move.To, planned: move.Planned})
	if err != nil {
		return "", &drill.Error{Op: "fence", Host: move.From, Kind: drill.Refused, Err: fmt.Errorf("that it writes no more is not certain: %w", err), Hint: "When you know that it is dead: firedrill database promote --unfenced"}
	}
	trying, cancel := context.WithTimeout(ctx, d.tryMax)
	defer cancel()
	if err := d.Write(trying, move.From); err == nil {
		return "", &drill.Error{
			Op: "fence", Host: move.From, Kind: drill.Refused, Err: fmt.Errorf("%s says that it is fenced, and it acknowledged a write after that", d.options.Fence[0]),
			Hint: "Mend the program for fence. Nothing was promoted.",
		}
	}
	how, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if how == "" {
		how = "by " + d.options.Fence[0]
	}
	return how + "; a write there was not acknowledged", nil
}

// Promote runs the program and returns once status shows that it did it.
func (d *Driver) Promote(ctx context.Context, move database.Move) error {
	if _, err := d.run(ctx, program{op: "promote", args: d.options.Promote, host: move.To, from: move.From, to: move.To, planned: move.Planned}); err != nil {
		return err
	}
	return d.await(ctx, "promote", move.To, func(m database.Member) bool { return m.Role == database.Primary })
}

// Rebuild runs the program and returns once the host follows.
func (d *Driver) Rebuild(ctx context.Context, host, from string) error {
	if _, err := d.run(ctx, program{op: "rebuild", args: d.options.Rebuild, host: host, from: from}); err != nil {
		return err
	}
	return d.await(ctx, "rebuild", host, func(m database.Member) bool { return m.Role == database.Standby && m.Streaming })
}

// await waits until the status program shows what another program says that it has done.
func (d *Driver) await(ctx context.Context, op, host string, done func(database.Member) bool) error {
	ctx, cancel := context.WithTimeout(ctx, d.shownMax)
	defer cancel()
	var shown database.Status
	for {
		status, err := d.Status(ctx)
		if err == nil {
			shown = status
		}
		if m := status.Member(host); err == nil && m != nil && done(*m) {
			return nil
		}
		select {
		case <-ctx.Done():
			return &drill.Error{
				Op: op, Host: host, Kind: drill.Failed, Err: fmt.Errorf("the program says that it is done, and after %s the status is: %s", d.shownMax, shown),
				Hint: "Run the programs for " + op + " and status by hand: one of them is wrong.",
			}
		case <-time.After(pollEvery):
		}
	}
}
