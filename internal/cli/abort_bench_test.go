//go:build !hostpart

package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/history"
	"firedrill/internal/lab"
)

// abortDrills are put before the drills of the Bookstore. The alarm that stops the second is raised by the watch, as at night.
const abortDrills = `
drills:
  interrupted:
    on: idle environment
    attack: {blackhole: {hostnames: [db], length: 60s}}
    until: length
    steady_for: 1s
    steady_within: 60s
    expect: [answer stays]
  stopped:
    on: idle environment
    attack: {blackhole: {hostnames: [db], length: 60s}}
    until: length
    steady_for: 1s
    steady_within: 60s
    stop_when: ['alarm "{host}-db-connectivity-failed" is raised']
    expect: [answer stays]
`

// pongs answers every packet, and pings sends one every 0.2 ms from an attacked host: it says each time when nothing has come back for half a
// second, and then the moment of the first answer, in nanoseconds since 1970.
const (
	pongs = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 4000))
while True:
    data, back = s.recvfrom(64); s.sendto(data, back)`
	pings = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 4000)); s.settimeout(0.0002)
last, cut = time.time(), False
while True:
    try:
        s.send(b"x"); s.recv(64); now = time.time_ns()
    except OSError:
        if not cut and time.time() - last > 0.5:
            cut = True; print("cut", flush=True)
        continue
    if cut:
        cut = False; print(now, flush=True)
    last = time.time()`
)

// BenchmarkAbortToReverted measures, in a lab of the demo over SSH, how long the service stays cut off once a drill is given up: from Ctrl-C, and
// from the line of the log in which a stop condition holds, to the first packet that is answered on the attacked host. ABORTS says how many of
// each, 10 by default. The clock is the machine's: all hosts of a lab have the same.
func BenchmarkAbortToReverted(b *testing.B) {
	if _, err := exec.LookPath("python3"); err != nil {
		b.Skip("needs python3, to send packets on a host")
	}
	count := 10
	if wanted, err := strconv.Atoi(os.Getenv("ABORTS")); err == nil {
		count = wanted
	}
	ctx := b.Context()
	d := newDemo(streams{in: strings.NewReader(""), out: io.Discard, err: os.Stderr}, demoOptions{out: b.TempDir(), json: true})
	took, failed := map[string][]time.Duration{}, 0
	err := d.inLab(ctx, func() error {
		if err := d.firstReleases(ctx); err != nil {
			return err
		}
		text, err := d.lab.ReadFile(ctx, demoHost, demoService)
		if err != nil {
			return err
		}
		text = []byte(strings.Replace(string(text), "\ndrills:\n", abortDrills, 1))
		if err := d.lab.WriteFile(ctx, demoHost, abortService, text, 0o600); err != nil {
			return err
		}
		ponging, end := context.WithCancel(ctx)
		defer end()
		go func() { _, _ = d.lab.Exec(ponging, "db-a", lab.Cmd{Args: []string{"python3", "-c", pongs}}) }() // ended by us
		for b.Loop() {
			for i := range count {
				for _, name := range []string{"interrupted", "stopped"} {
					span, err := d.abort(b, name, i)
					if err != nil {
						b.Logf("%s, run %d: %v", name, i+1, err)
						failed++
						continue
					}
					took[name] = append(took[name], span)
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for name, spans := range took {
		slices.Sort(spans)
		b.ReportMetric(float64(spans[len(spans)/2].Microseconds())/1000, name+"-median-ms")
		b.ReportMetric(float64(spans[len(spans)-1].Microseconds())/1000, name+"-most-ms")
	}
	b.ReportMetric(float64(count), "runs-of-each")
	b.ReportMetric(float64(failed), "runs-not-counted")
	b.ReportMetric(0, "ns/op")
}

const abortService = "/etc/firedrill/abort.yaml"

// abort runs one of the two drills and returns how long the host was cut off after it was given up.
func (d *demo) abort(b *testing.B, name string, number int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	out, in := io.Pipe()
	go func() {
		_, err := d.lab.Exec(ctx, "green", lab.Cmd{Args: []string{"python3", "-c", pings, "10.77.2.10"}, Stdout: in, Stderr: in})
		in.CloseWithError(err)
	}()
	var said strings.Builder
	signals, where, ended := make(chan os.Signal, 1), fmt.Sprintf("/root/abort/%s-%d", name, number), make(chan error, 1)
	go func() {
		code, err := d.lab.Exec(ctx, demoHost, lab.Cmd{Args: []string{"firedrill", "run", name, "--file", abortService, "--out", where}, Stdout: &said, Stderr: &said, Signals: signals})
		if err == nil && (code == exitPassed || code == exitUsage || code == exitNotReverted || code == exitRefused) {
			err = fmt.Errorf("exit status %d: %s", code, said.String())
		}
		ended <- err
	}()
	var given time.Time
	var answers []time.Time
	lines, read := make(chan string), bufio.NewScanner(out)
	go func() {
		defer close(lines)
		for read.Scan() {
			lines <- read.Text()
		}
	}()
	for running := true; running; {
		select {
		case line := <-lines:
			if line != "cut" {
				nanoseconds, err := strconv.ParseInt(line, 10, 64)
				if err != nil {
					return 0, fmt.Errorf("pings: %q", line)
				}
				answers = append(answers, time.Unix(0, nanoseconds))
			} else if name == "interrupted" && given.IsZero() {
				given = time.Now()
				signals <- syscall.SIGINT
			}
		case err := <-ended:
			if err != nil {
				return 0, err
			}
			running = false
		}
	}
	cancel() // who sends packets does so until it is ended
	for range lines {
	}
	return d.spanOf(b, name, where, given, answers, said.String())
}

// spanOf holds what was seen of a drill against its log. On a busy machine a host may have gone without an answer before it was attacked: such a run
// is an error, and says so.
func (d *demo) spanOf(b *testing.B, name, where string, given time.Time, answers []time.Time, said string) (time.Duration, error) {
	log, err := d.copyRun(b.Context(), where, filepath.Base(where))
	if err != nil {
		return 0, err
	}
	events, err := readAll(streams{}, log)
	if err != nil {
		return 0, err
	}
	var inForce time.Time
	for _, event := range events {
		switch event.Fact.(type) {
		case *history.AttackInForce:
			inForce = event.At
		case *history.Stop:
			given = event.At
		}
	}
	after := slices.IndexFunc(answers, func(at time.Time) bool { return at.After(given) })
	if inForce.IsZero() || given.Before(inForce) || after < 0 {
		return 0, fmt.Errorf("%s was in force at %s, given up at %s and answered at %s: %s", name, inForce, given, answers, said)
	}
	return answers[after].Sub(given), nil
}
