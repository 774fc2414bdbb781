package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// Find returns the container that is meant by an ID, a beginning of one that no other has, or a name. The error wraps ErrNone when there is
// none.
func (f Finder) Find(ctx context.Context, name string) (Container, error) {
	if !names().MatchString(name) {
		return Container{}, fmt.Errorf("%q is neither the ID nor the name of a container", name)
	}
	found := map[string]Container{}
	for _, socket := range f.sockets() {
		c, err := askRuntime(ctx, socket, name)
		switch {
		case err == nil:
			found[c.key()] = c
		case !errors.Is(err, ErrNone):
			return Container{}, err
		}
	}
	for _, look := range []func(string) ([]Container, error){f.tasks, f.groups, f.named, f.monitored} {
		more, err := look(name)
		if err != nil {
			return Container{}, err
		}
		for _, c := range more {
			if _, known := found[c.key()]; !known {
				found[c.key()] = c
			}
		}
	}
	if len(found) > 1 {
		return Container{}, fmt.Errorf("%q could be any of %d containers: write more of its ID", name, len(found))
	}
	for _, c := range found {
		return c, nil
	}
	return Container{}, fmt.Errorf("%q: %w", name, ErrNone)
}

// key is the same for one container, wherever it was found. The long IDs that runtimes draw are unique; those that people choose are only
// within one namespace of containerd.
func (c Container) key() string {
	if drawn().MatchString(c.ID) {
		return c.ID
	}
	return fmt.Sprint(c.ID, c.Init)
}

var drawn = drill.Pattern(`^[0-9a-f]{64}$`)

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
func (f Finder) tasks(name string) ([]Container, error) {
	paths, err := filepath.Glob(filepath.Join(f.taskRoot(), "*", name+"*", pidFile))
	if err != nil {
		return nil, err
	}
	var exact, begin []Container
	for _, path := range paths {
		c, err := fromPIDFile(path, filepath.Base(filepath.Dir(path)), "containerd")
		switch {
		case err != nil: // it ended meanwhile
		case c.ID == name:
			exact = append(exact, c)
		default:
			begin = append(begin, c)
		}
	}
	if len(exact) > 0 {
		return exact, nil
	}
	return begin, nil
}

// pidFile is where containerd writes the number of a task's first process.
const pidFile = "init.pid"

func (f Finder) taskRoot() string {
	if f.Tasks != "" {
		return f.Tasks
	}
	return "/run/containerd/io.containerd.runtime.v2.task"
}

func (f Finder) procRoot() string {
	if f.Proc != "" {
		return f.Proc
	}
	return "/proc"
}

// inGroup finds the ID of a container in one part of the path of a control group, as "docker-ID.scope", "ID" or "cri-containerd-ID.scope".
// Podman's monitor has a group of its own that carries the ID too.
var inGroup = drill.Pattern(`^(?:(docker|libpod|crio|cri-containerd|nerdctl)[-:])?([0-9a-f]{64})(?:\.scope)?$`)

// idPartMin is the least part of an ID that is looked for in control groups: nothing says there what else it could be.
const idPartMin = 6

// groups looks into the control groups of all processes. The first process of a container is the one that is there for longest.
func (f Finder) groups(name string) ([]Container, error) {
	if len(name) < idPartMin {
		return nil, nil
	}
	proc := f.procRoot()
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
	return slices.Collect(maps.Values(found)), nil
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
