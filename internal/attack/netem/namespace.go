package netem

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// ownNamespace is the number of our network namespace. Devices in another one may have the same names.
func ownNamespace() (uint64, error) { return namespaceAt("/proc/thread-self/ns/net") }

func namespaceAt(path string) (uint64, error) {
	var status unix.Stat_t
	if err := unix.Stat(path, &status); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return status.Ino, nil
}

// within runs do in a network namespace. One that no process is in, and that has no name, is gone with all that was in it: then do does not
// run, and nothing is wrong.
func within(namespace uint64, do func() error) error {
	own, err := ownNamespace()
	if err != nil {
		return err
	}
	if own == namespace {
		return do()
	}
	for _, pattern := range []string{"/proc/[0-9]*/ns/net", "/run/netns/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if number, err := namespaceAt(path); err == nil && number == namespace {
				return enter(path, do)
			}
		}
	}
	return nil
}

// enter runs do on a thread that is thrown away.
func enter(path string, do func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("netem: enter the network namespace of %s: %w", path, err)
			return
		}
		done <- do()
	}()
	return <-done
}
