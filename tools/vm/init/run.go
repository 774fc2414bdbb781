package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"firedrill/tools/vm/guest"
)

// progressFile is on the disk: how far the machine came before it went down.
const progressFile = guest.State + "/vm-progress.json"

type progress struct {
	Run    int `json:"run"`    // which is next, or was begun
	Starts int `json:"starts"` // how often it was begun
}

// environment is what programs are started with. Nothing that a test needs may be missing here: a skip is a failure.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "TERM=dumb", "TMPDIR=/tmp", "FIREDRILL_REQUIRE=kernel"}
}

// service carries the errand out.
func service() error {
	errand, err := read()
	if err != nil {
		return err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	report(guest.Boot(unix.ByteSliceToString(name.Release[:])))
	if err := carryOut(errand); err != nil {
		return err
	}
	report(guest.Done())
	return nil
}

func carryOut(errand guest.Errand) error {
	var at progress
	if text, err := os.ReadFile(progressFile); err == nil {
		if err := json.Unmarshal(text, &at); err != nil {
			return fmt.Errorf("%s: %w", progressFile, err)
		}
	}
	for ; at.Run < len(errand.Runs); at = (progress{Run: at.Run + 1}) {
		run := errand.Runs[at.Run]
		report(guest.Begin(run))
		if at.Starts > run.Restarts {
			report(guest.End(run, fmt.Sprintf("the machine went down under it %d times", at.Starts)))
			continue
		}
		at.Starts++
		if err := keep(at); err != nil {
			return err
		}
		status := ""
		if err := start(run); err != nil {
			status = err.Error()
		}
		report(guest.End(run, strings.ReplaceAll(status, "\n", " ")))
	}
	return nil
}

// keep writes down how far we are, so that it is there whatever happens to the kernel next.
func keep(at progress) error {
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	file, err := os.Create(progressFile)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	directory, err := os.Open(filepath.Dir(progressFile))
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func start(run guest.Run) error {
	out, err := results()
	if err != nil {
		return err
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(context.Background(), run.Limit)
	defer cancel()
	program := exec.CommandContext(ctx, run.Program, run.Args...)
	program.Env, program.Dir = environment(), "/root"
	program.Stdout, program.Stderr = out, out
	if err := program.Run(); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}

// results opens the second serial port, on which nothing may be rewritten: a test's line must come out as it went in.
func results() (*os.File, error) {
	port, err := os.OpenFile(guest.ResultsTTY, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	state, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return nil, errors.Join(err, port.Close())
	}
	state.Oflag &^= unix.OPOST
	state.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	return port, unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, state)
}

// report writes a line of ours. When that is not possible the runner sees a machine that says nothing, which is a failure.
func report(line string) {
	port, err := results()
	if err != nil {
		fmt.Fprintln(os.Stderr, line, err)
		return
	}
	defer port.Close()
	// What stands on the line already is of a program that was killed.
	fmt.Fprintln(port, "\n"+line)
}
