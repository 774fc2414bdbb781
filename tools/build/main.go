// Command build makes the program as it is shipped: one static file, for linux/amd64 with the host part in it that starts in half the time.
//
//	go run ./tools/build [-o firedrill]
//
// "go build ." makes the same program without that part; it does the same, and starts a little later.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"firedrill/internal/onefile"
)

// Tags that leave out of a part what it does not need: see the build constraints in internal/cli and internal/drill.
const (
	hostTag   = "hostpart"
	attackTag = "hostpart,attackpart"
)

// hostAt and wholeAt are the lowest addresses of those parts. The attack part begins at 4 MiB, where the Go linker puts programs by default;
// 256 MiB leave each more room than it will ever need, and the rest lies far below what the kernel uses itself.
const (
	hostAt  = "0x10001000"
	wholeAt = "0x20001000"
)

func main() {
	out := flag.String("o", "firedrill", "where to put the program")
	flag.Parse()
	if err := build(*out); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build(out string) error {
	if architecture() != "amd64" {
		return goBuild(out, "-ldflags=-s -w")
	}
	directory, err := os.MkdirTemp("", "firedrill-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	var parts [][]byte
	for _, flags := range [][]string{
		{"-ldflags=-s -w", "-tags=" + attackTag},
		{"-ldflags=-s -w -T " + hostAt, "-tags=" + hostTag},
		{"-ldflags=-s -w -T " + wholeAt},
	} {
		name := filepath.Join(directory, strconv.Itoa(len(parts)))
		if err := goBuild(name, flags...); err != nil {
			return err
		}
		part, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		parts = append(parts, part)
	}
	joined, err := onefile.Join(parts[0], parts[1], parts[2], rules())
	if err != nil {
		return err
	}
	// Renamed into place: the program that is being replaced may be running.
	fresh := out + ".new"
	if err := os.WriteFile(fresh, joined, 0o755); err != nil {
		return err
	}
	return os.Rename(fresh, out)
}

func architecture() string {
	if set := os.Getenv("GOARCH"); set != "" {
		return set
	}
	return runtime.GOARCH
}

func goBuild(out string, flags ...string) error {
	command := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", out}, flags...), "firedrill")...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}
