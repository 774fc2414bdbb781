//go:build !hostpart

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
	"firedrill/internal/tether"
)

// viaClockMax bounds the measuring of a clock at a client's place: what gets there may take seconds to do so.
const viaClockMax = 30 * time.Second

// viaCommand is our program at a client's place. It ends with us, and its whole group with ctx.
func (c *crew) viaCommand(ctx context.Context, client drill.Client, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, client.Via[0], append(client.Via[1:len(client.Via):len(client.Via)], args...)...)
	command.Dir = filepath.Dir(c.file)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = killGrace
	return command
}

func viaFailed(client drill.Client, err error, said *tail) error {
	if text := said.String(); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return &drill.Error{
		Op: "reach client", Host: client.Name, Kind: drill.Unreachable, Err: err,
		Hint: "via: must run firedrill of this version there. Try: " + strings.Join(client.Via, " ") + " version",
	}
}

// viaClock measures the clock at a client's place.
func (c *crew) viaClock(ctx context.Context, client drill.Client) (history.Clock, error) {
	ctx, cancel := context.WithTimeout(ctx, viaClockMax)
	defer cancel()
	command, said := c.viaCommand(ctx, client, "probe", "--clock"), &tail{}
	command.Stderr = said
	ask, err := command.StdinPipe()
	if err != nil {
		return history.Clock{}, err
	}
	answers, err := command.StdoutPipe()
	if err != nil {
		return history.Clock{}, err
	}
	wait, err := tether.Start(command)
	if err != nil {
		return history.Clock{}, viaFailed(client, err, said)
	}
	offset, bound, err := remote.ClockOver(ask, answers)
	_ = ask.Close() // it ends with its input
	if err != nil {
		cancel()
	}
	if ended := wait(); ended != nil {
		err = errors.Join(ended, err)
	}
	switch {
	case err != nil:
		return history.Clock{}, viaFailed(client, err, said)
	case offset.Abs() > offsetLimit:
		return history.Clock{}, &drill.Error{Op: "read the clock", Host: client.Name, Kind: drill.Unsupported, Hint: "Set the clock there.", Err: fmt.Errorf("it is %s off", offset)}
	}
	return history.Clock{Host: client.Name, Offset: drill.Seconds(offset), Error: drill.Seconds(bound)}, nil
}

// probesVia runs probes at a client's place that a program of the user's leads to, until ctx ends.
func (c *crew) probesVia(ctx context.Context, client drill.Client, specs []probe.Spec, emit func(history.Event)) error {
	clock, err := c.viaClock(ctx, client)
	if err != nil {
		return err
	}
	emit(history.New(time.Now(), client.Name, &clock))
	order, err := json.Marshal(probeRequest{Source: client.Name, Probes: specs})
	if err != nil {
		return err
	}
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	command, said := c.viaCommand(running, client, "probe"), &tail{}
	lines := &eventLines{offset: clock.Offset.Duration(), emit: emit}
	command.Stdout, command.Stderr = lines, said
	input, err := command.StdinPipe()
	if err != nil {
		return err
	}
	wait, err := tether.Start(command)
	if err != nil {
		return viaFailed(client, err, said)
	}
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	_, _ = input.Write(append(order, '\n')) // what ends before it has read this says why
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = input.Close()
		select {
		case err = <-ended:
		case <-time.After(probeEndMax(specs) + killGrace):
			kill()
			err = errors.Join(errors.New("it did not end when its input did"), <-ended)
		}
	}
	lines.flush()
	if err != nil {
		return viaFailed(client, err, said)
	}
	return nil
}
