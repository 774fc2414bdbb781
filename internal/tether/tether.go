package tether

import (
	"bytes"
	"os/exec"
	"runtime"
)

// Start starts the command, whose attributes name the death signal, and returns when it runs. wait returns how it ended, as exec.Cmd.Wait does,
// and may be called by many and often.
func Start(command *exec.Cmd) (wait func() error, err error) {
	started, done := make(chan error, 1), make(chan struct{})
	var ended error
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := command.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		ended = command.Wait()
		close(done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return func() error { <-done; return ended }, nil
}

// Run is Start, and then the wait.
func Run(command *exec.Cmd) error {
	wait, err := Start(command)
	if err != nil {
		return err
	}
	return wait()
}

// CombinedOutput is Run, and returns what the command printed on both of its outputs.
func CombinedOutput(command *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := Run(command)
	return out.Bytes(), err
}
