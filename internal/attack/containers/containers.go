package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// Container is one that runs.
type Container struct {
	ID     string   `json:"id"`     // in full
	Engine string   `json:"engine"` // who runs it, as far as we can tell: "docker", "podman", "containerd", "cri-o"
	Init   procs.ID `json:"init"`   // its first process, by our PID namespace
}

// idShown is how much of an ID people are shown, as runtimes do.
const idShown = 12

// String names the container for people.
func (c Container) String() string {
	return fmt.Sprintf("container %.*s (%s)", idShown, c.ID, c.Engine)
}

// ErrNone says that no such container runs here.
var ErrNone = errors.New("no such container runs here")

// Finder says where to look. The zero value looks where runtimes are on a host.
type Finder struct {
	Sockets []string // that speak Docker's API
	Tasks   string   // where containerd keeps its tasks: NAMESPACE/ID/init.pid
	Proc    string
}

// names is what a container may be called.
var names = drill.Pattern(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Find returns the container that is meant by an ID, a beginning of one that no other has, or, where the runtime's socket answers, a name.
// The error wraps ErrNone when there is none.
func (f Finder) Find(ctx context.Context, name string) (Container, error) {
	if !names().MatchString(name) {
		return Container{}, fmt.Errorf("%q is neither the ID nor the name of a container", name)
	}
	for _, socket := range f.sockets() {
		found, err := askRuntime(ctx, socket, name)
		if err == nil || !errors.Is(err, ErrNone) {
			return found, err
		}
	}
	for _, look := range []func(string) (map[string]Container, error){f.tasks, f.groups} {
		found, err := look(name)
		if err != nil {
			return Container{}, err
		}
		if len(found) > 1 {
			return Container{}, fmt.Errorf("%q could be any of %d containers: write more of its ID", name, len(found))
		}
		for _, c := range found {
			return c, nil
		}
	}
	return Container{}, fmt.Errorf("%q: %w", name, ErrNone)
}

func (f Finder) sockets() []string {
	if f.Sockets != nil {
		return f.Sockets
	}
	sockets := []string{"/run/docker.sock", "/run/podman/podman.sock"}
	if path, isUnix := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); isUnix {
		sockets = append([]string{path}, sockets...)
	}
	return sockets
}

// of makes a container of a process that a runtime names.
func of(id, engine string, pid int) (Container, error) {
	p, err := procs.Stat(pid)
	if err != nil {
		return Container{}, fmt.Errorf("the first process of container %s, %d: %w", id, pid, err)
	}
	return Container{ID: id, Engine: engine, Init: p.ID}, nil
}

// tasks looks where containerd keeps them.
func (f Finder) tasks(name string) (map[string]Container, error) {
	root := f.Tasks
	if root == "" {
		root = "/run/containerd/io.containerd.runtime.v2.task"
	}
	paths, err := filepath.Glob(filepath.Join(root, "*", name+"*", "init.pid"))
	if err != nil {
		return nil, err
	}
	found := map[string]Container{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		id := filepath.Base(filepath.Dir(path))
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if c, err := of(id, "containerd", pid); err == nil {
			found[id] = c
		}
		if id == name {
			return map[string]Container{id: found[id]}, nil
		}
	}
	return found, nil
}

// inGroup finds the ID of a container in one part of the path of a control group, as "docker-ID.scope", "ID" or "cri-containerd-ID.scope".
// Podman's monitor has a group of its own that carries the ID too.
var inGroup = drill.Pattern(`^(?:(docker|libpod|crio|cri-containerd|nerdctl)[-:])?([0-9a-f]{64})(?:\.scope)?$`)

// idPartMin is the least part of an ID that is looked for in control groups: nothing says there what else it could be.
const idPartMin = 6

// groups looks into the control groups of all processes. The first process of a container is the one that is there for longest.
func (f Finder) groups(name string) (map[string]Container, error) {
	if len(name) < idPartMin {
		return nil, nil
	}
	proc := f.Proc
	if proc == "" {
		proc = "/proc"
	}
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	found := map[string]Container{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, entry.Name(), "cgroup"))
		if err != nil {
			continue
		}
		id, engine := containerOf(string(text), name)
		if id == "" {
			continue
		}
		c, err := of(id, engine, pid)
		if before, known := found[id]; err == nil && (!known || older(c.Init, before.Init)) {
			found[id] = c
		}
	}
	return found, nil
}

func older(a, b procs.ID) bool { return a.Start < b.Start || a.Start == b.Start && a.PID < b.PID }

// containerOf finds the container whose ID begins with name in the text of /proc/PID/cgroup.
func containerOf(text, name string) (id, engine string) {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		segments := strings.Split(parts[2], "/")
		for i, segment := range segments {
			match := inGroup().FindStringSubmatch(segment)
			if match == nil || !strings.HasPrefix(match[2], name) {
				continue
			}
			runtime := match[1]
			if runtime == "" && i > 0 {
				runtime = segments[i-1]
			}
			engines := map[string]string{"docker": "docker", "libpod": "podman", "libpod_parent": "podman", "crio": "cri-o"}
			if known, ok := engines[runtime]; ok {
				return match[2], known
			}
			return match[2], "containerd"
		}
	}
	return "", ""
}
