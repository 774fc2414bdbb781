//go:build !attackpart

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

// probeRequestMax bounds the first line: a thousand probes fit.
const probeRequestMax = 1 << 20

// probeGrace is how much longer than its own limits a probe may take to end. After it the process goes, so that nothing stays on a host
// whose connection is stuck.
const probeGrace = 5 * time.Second

// probeRequest is the first line of standard input.
type probeRequest struct {
	Source string       `json:"source"`
	Probes []probe.Spec `json:"probes"`
}

func newProbeCommand(s streams) *cobra.Command {
	tellsTime := false
	command := &cobra.Command{
		Use:    "probe",
		Short:  "Sample a service on a fixed schedule and print what is seen, as JSON lines",
		Hidden: true,
		Args:   cobra.NoArgs,
		Long: `Reads one JSON line from standard input:

  {"source":"bookstore-api-green","probes":[{"name":"db","kind":"tcp","address":"db:5432","every_seconds":1}]}

then prints events as JSON lines until standard input ends or a signal asks to stop. Ledgers are read back before it exits.
The watch and the conductor start it on other hosts; nothing of it stays there. With --clock it answers each line with the time instead.

EXIT STATUS
  0   stopped as asked
  2   the request is wrong
  3   standard output could not be written`,
		RunE: func(command *cobra.Command, _ []string) error {
			if tellsTime {
				return tellTime(s)
			}
			return runProbe(command.Context(), s)
		},
	}
	command.Flags().BoolVar(&tellsTime, "clock", false, "answer each line of standard input with the time, in seconds since 1970")
	command.Flags().Bool("help", false, "show this help")
	return command
}

// tellTime answers as remote.ClockOver asks.
func tellTime(s streams) error {
	for lines := bufio.NewScanner(s.in); lines.Scan(); {
		now := time.Now()
		if _, err := fmt.Fprintf(s.out, "%d.%09d\n", now.Unix(), now.Nanosecond()); err != nil {
			return &drill.Error{Op: "probe", Kind: drill.Unreachable, Err: err}
		}
	}
	return nil
}

func runProbe(ctx context.Context, s streams) error {
	input := bufio.NewReader(s.in)
	request, err := readProbeRequest(input)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with standard input, at the latest with the process: a read of it cannot be taken back
		_, _ = io.Copy(io.Discard, input)
		cancel()
	}()

	ended := make(chan error, 1)
	go func() {
		encoder := json.NewEncoder(s.out)
		var broken error
		err := probe.Run(ctx, request.Source, request.Probes, func(event history.Event) {
			if broken != nil {
				return
			}
			if broken = encoder.Encode(event); broken != nil {
				cancel() // nobody hears us any more
			}
		})
		ended <- errors.Join(err, broken)
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		select {
		case err = <-ended:
		case <-time.After(probeEndMax(request.Probes)):
			err = errors.New("standard output is stuck")
		}
	}
	if err != nil && drill.KindOf(err) != drill.Invalid {
		return &drill.Error{Op: "probe", Host: request.Source, Kind: drill.Unreachable, Err: err}
	}
	return err
}

func readProbeRequest(input *bufio.Reader) (probeRequest, error) {
	var request probeRequest
	line, err := readLine(input, probeRequestMax)
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&request)
	}
	if err == nil && request.Source == "" {
		err = errors.New("source is missing")
	}
	if err != nil {
		return request, &drill.Error{
			Op: "probe", Kind: drill.Invalid, Err: fmt.Errorf("first line of standard input: %w", err),
			Hint: `Send one line such as {"source":"here","probes":[{"name":"api","kind":"http","url":"http://...","every_seconds":1}]}.`,
		}
	}
	return request, nil
}

// readLine reads up to and without the next newline, or the end, and no more than limit bytes.
func readLine(input *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := input.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > limit:
			return nil, fmt.Errorf("longer than %d bytes", limit)
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return bytes.TrimSpace(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// probeEndMax returns how long the probes may take to end after they were asked to.
func probeEndMax(specs []probe.Spec) time.Duration {
	longest := time.Duration(0)
	for _, spec := range specs {
		longest = max(longest, spec.EndMax())
	}
	return longest + probeGrace
}
