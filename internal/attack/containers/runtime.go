package containers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	askTimeout = 3 * time.Second
	answerMax  = 4 << 20 // what a runtime says of one container is some 10 KB
)

// inspected is what we need of the answer to GET /containers/NAME/json.
type inspected struct {
	ID    string `json:"Id"`
	State struct {
		Running bool
		Pid     int
	}
	Message string `json:"message"` // of an error
}

// askRuntime asks a runtime for a container. The error wraps ErrNone when nobody answers there or it knows no such container.
//
// The question is written by hand: HTTP of the library would take the larger part of the time that an attack needs to start.
func askRuntime(ctx context.Context, socket, name string) (Container, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return Container{}, ErrNone
	}
	if err != nil {
		return Container{}, fmt.Errorf("ask the runtime: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "GET /containers/"+name+"/json HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
		return Container{}, fmt.Errorf("ask the runtime at %s: %w", socket, err)
	}
	status, said, err := readAnswer(conn)
	switch {
	case err != nil:
		return Container{}, fmt.Errorf("ask the runtime at %s: %w", socket, err)
	case status == 404:
		return Container{}, ErrNone
	case status != 200:
		return Container{}, fmt.Errorf("the runtime at %s says: %s (%d)", socket, said.Message, status)
	case !said.State.Running || said.State.Pid <= 0:
		return Container{}, fmt.Errorf("container %.*s does not run: %w", idShown, said.ID, ErrStopped)
	}
	engine := "docker"
	if strings.Contains(socket, "podman") {
		engine = "podman"
	}
	return of(said.ID, engine, said.State.Pid)
}

// ErrStopped says that there is such a container, and that it does not run.
var ErrStopped = errors.New("start it first")

// readAnswer reads an answer of HTTP/1.0: a line, headers, and the body up to the end.
func readAnswer(r io.Reader) (status int, said inspected, err error) {
	reader := bufio.NewReader(io.LimitReader(r, answerMax))
	line, err := reader.ReadString('\n')
	if err != nil {
		return 0, said, err
	}
	fields := strings.Fields(line)
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/") {
		return 0, said, fmt.Errorf("%q is no answer", line)
	}
	if status, err = strconv.Atoi(fields[1]); err != nil {
		return 0, said, fmt.Errorf("%q is no answer", line)
	}
	for strings.TrimSpace(line) != "" {
		if line, err = reader.ReadString('\n'); err != nil {
			return 0, said, err
		}
	}
	if err := json.NewDecoder(reader).Decode(&said); err != nil && status == 200 {
		return 0, said, err
	}
	return status, said, nil
}
