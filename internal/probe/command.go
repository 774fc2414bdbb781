package probe

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"firedrill/internal/history"
)

// outputMax is how much of a command's output is looked at.
const outputMax = 4 << 10

// attemptCommand runs a program. It is good when the program ends with 0; its value is what it printed as a number, or its exit code. One
// that does not end in time is killed with all that it has started.
func attemptCommand(ctx context.Context, spec Spec) result {
	command := exec.CommandContext(ctx, spec.Command[0], spec.Command[1:]...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	output := &head{limit: outputMax}
	command.Stdout, command.Stderr = output, &head{limit: outputMax}
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return result{}.failed(history.CauseTimeout, "%s did not end in time", spec.Command[0])
	case errors.Is(err, exec.ErrWaitDelay):
		return result{}.failed(history.CauseTimeout, "%s left something behind that keeps its output open", spec.Command[0])
	case errors.As(err, &exit) && exit.Exited():
		outcome := result{}.failed(history.CauseExit, "exit status %d: %s", exit.ExitCode(), firstLine(command.Stderr.(*head).kept.Bytes()))
		if spec.Value == "exit_code" {
			outcome = outcome.with(float64(exit.ExitCode()))
		}
		return outcome
	case errors.As(err, &exit):
		return result{}.failed(history.CauseExit, "%v", err)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return result{}.failed(history.CauseProber, "%v", err) // the service is not asked at all
	case err != nil:
		return result{}.failed(history.CauseProber, "%v", err)
	}
	if spec.Value == "exit_code" {
		return result{}.with(0)
	}
	if spec.Value != "number" {
		return result{}
	}
	text := strings.TrimSpace(output.kept.String())
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return result{}.failed(history.CauseContent, "it printed %q, which is no number", firstLine([]byte(text)))
	}
	return result{}.with(value)
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return string(line[:min(len(line), 200)])
}

// head keeps the begin of what is written to it.
type head struct {
	limit int
	kept  bytes.Buffer
}

func (h *head) Write(text []byte) (int, error) {
	h.kept.Write(text[:min(len(text), h.limit-h.kept.Len())])
	return len(text), nil
}
