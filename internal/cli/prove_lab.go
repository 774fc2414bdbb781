//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"firedrill/internal/drill"
	"firedrill/internal/lab"
	"firedrill/internal/prove"
)

// demoAddresses are the hosts of the demo's environments, by their names in the lab.
var demoAddresses = map[string]string{"blue": "10.77.1.10", "green": "10.77.1.20"}

const demoName = "bookstore.example.test"

// proof is one run of one case.
type proof struct {
	prove.Case
	run int
}

// proveInLab runs every case in a lab, or in several side by side that share the work. A lab is a network and a file system of its own: what
// is broken in one is not broken in another.
func proveInLab(ctx context.Context, s streams, options proveOptions, cases []prove.Case, told func(prove.Result), caught *caughtSignal) error {
	work := make(chan proof, len(cases)*options.runs)
	for _, c := range cases {
		for run := range options.runs {
			work <- proof{c, run}
		}
	}
	close(work)
	var mutex sync.Mutex
	tell := func(result prove.Result) {
		mutex.Lock()
		defer mutex.Unlock()
		told(result)
	}
	group, ctx := errgroup.WithContext(ctx)
	for range min(options.labs, len(work)) {
		group.Go(func() error {
			d := newDemo(s, demoOptions{out: options.out, json: true}) // what it says of itself is no row of the table
			return d.inLab(ctx, func() error { return d.proveAll(ctx, work, tell, caught) })
		})
	}
	return group.Wait()
}

func (d *demo) proveAll(ctx context.Context, work <-chan proof, tell func(prove.Result), caught *caughtSignal) error {
	if err := d.firstReleases(ctx); err != nil {
		return err
	}
	for next := range work {
		if ctx.Err() != nil {
			return nil
		}
		began := time.Now()
		result := d.proveOne(ctx, next.Case, next.run, caught)
		result.Run, result.Seconds = next.run+1, time.Since(began).Seconds()
		tell(result)
	}
	return nil
}

// proveOne plants one sabotage in the lab, has the drill run inside of it, and takes the sabotage back.
func (d *demo) proveOne(ctx context.Context, c prove.Case, run int, caught *caughtSignal) prove.Result {
	broken := func(err error) prove.Result {
		return prove.Result{Case: c.Name, Breaks: c.Breaks, Expected: c.Want, Error: err.Error(), Exit: exitInconclusive}
	}
	live, err := d.live(ctx)
	if err != nil {
		return broken(err)
	}
	heal, err := d.plant(ctx, c, live)
	if err != nil {
		return broken(errors.Join(err, heal(ctx)))
	}
	var output, problems bytes.Buffer
	where := fmt.Sprintf("%s/%d", demoOut, run+1)
	code, err := d.lab.Exec(context.WithoutCancel(ctx), demoHost, lab.Cmd{
		Args:   []string{"firedrill", "prove", demoService, "--inside", "--json", "--case", c.Name, "--out", where},
		Env:    terminalEnvironment(),
		Stdout: &output, Stderr: &problems, Signals: caught.forward(),
	})
	err = errors.Join(err, heal(ctx))
	var result prove.Result
	if decodeErr := json.Unmarshal(output.Bytes(), &result); decodeErr != nil && err == nil {
		err = fmt.Errorf("exit status %d: %s", code, strings.TrimSpace(problems.String()))
	}
	if err != nil {
		return broken(err)
	}
	if result.Log, err = d.keepLog(ctx, c, run, result.Log); err != nil {
		return broken(err)
	}
	return result
}

// keepLog brings the files of a run out of the lab.
func (d *demo) keepLog(ctx context.Context, c prove.Case, run int, log string) (string, error) {
	if log == "" {
		return "", nil
	}
	return d.copyRun(context.WithoutCancel(ctx), fmt.Sprintf("%s/%d/%s", demoOut, run+1, c.Name), fmt.Sprintf("%s/%d", c.Name, run+1))
}

// liveMax is how long the lab's name server may take to answer again after it was started anew.
const liveMax = 15 * time.Second

// live says which environment the name leads to, as a client sees it.
func (d *demo) live(ctx context.Context) (string, error) {
	deadline := time.Now().Add(liveMax)
	for {
		answer, err := d.quiet(ctx, "client", "getent", "ahostsv4", demoName)
		for name, address := range demoAddresses {
			if err == nil && strings.HasPrefix(answer, address+" ") {
				return name, nil
			}
		}
		if err == nil {
			err = fmt.Errorf("%s leads to no environment: %s", demoName, answer)
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return "", err
		}
		pause(ctx, watchRetry)
	}
}

// plant does what a sabotage does to hosts of the lab. heal takes it back, and must be called whatever happens.
func (d *demo) plant(ctx context.Context, c prove.Case, live string) (heal func(context.Context) error, err error) {
	idle := "green"
	if live == idle {
		idle = "blue"
	}
	environment := []string{
		"NAME=" + demoName, "LIVE=" + live, "IDLE=" + idle, "LIVE_ADDRESS=" + demoAddresses[live], "IDLE_ADDRESS=" + demoAddresses[idle],
		"LIVE_HOST=bookstore-api-" + live, "IDLE_HOST=bookstore-api-" + idle,
	}
	host := func(p prove.Plant) string {
		switch p.Host {
		case "live":
			return live
		case "idle":
			return idle
		}
		return p.Host
	}
	during, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	planted := 0
	heal = func(ctx context.Context) error {
		stop()
		running.Wait()
		var all []error
		for _, p := range slices.Backward(c.Plants[:planted]) {
			if p.Heal != "" {
				all = append(all, d.script(context.WithoutCancel(ctx), host(p), environment, p.Heal))
			}
		}
		return errors.Join(all...)
	}
	for _, p := range c.Plants {
		planted++
		if p.Break != "" {
			if err := d.script(ctx, host(p), environment, p.Break); err != nil {
				return heal, err
			}
		}
		if p.While != "" {
			running.Go(func() {
				_, _ = d.lab.Exec(during, host(p), lab.Cmd{Args: []string{"sh", "-c", p.While}, Env: environment, Stdout: io.Discard, Stderr: io.Discard}) // it is ended by us
			})
		}
	}
	return heal, nil
}

// script runs a script on a host of the lab and shows what it said only if it fails.
func (d *demo) script(ctx context.Context, host string, environment []string, script string) error {
	var output bytes.Buffer
	code, err := d.lab.Exec(ctx, host, lab.Cmd{Args: []string{"sh", "-c", script}, Env: environment, Stdout: &output, Stderr: &output})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d of %q:\n%s", code, script, strings.TrimSpace(output.String()))
	}
	if err != nil {
		return &drill.Error{Op: "prove", Host: host, Kind: drill.Internal, Err: err}
	}
	return nil
}
