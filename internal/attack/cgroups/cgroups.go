package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The interfaces that attacks use, as the file that controls each in version 2 and in version 1.
var (
	// Members are in every hierarchy.
	Members = Interface{V2: "cgroup.procs", V1: "cgroup.procs"}
	PIDs    = Interface{V2: "pids.max", V1: "pids.max", Controller: "pids"}
	Freezer = Interface{V2: "cgroup.freeze", V1: "freezer.state", Controller: "freezer"}
)

// Interface names what is to be controlled. It is a value: compare it with ==.
type Interface struct {
	V2, V1     string // the file that controls it
	Controller string // of version 1; empty for any
}

// Group is a control group.
type Group struct {
	Name      string `json:"name"`      // below the root of its hierarchy, as /proc/PID/cgroup shows it on the host: /system.slice/api.service
	Directory string `json:"directory"` // where it is
	V2        bool   `json:"v2,omitempty"`
}

// String names the group for people.
func (g Group) String() string { return "cgroup " + g.Name }

// ErrNone says that no hierarchy has such a group.
var ErrNone = errors.New("there is no such cgroup")

// Find looks for a group that has the interface. name is as /proc/PID/cgroup or systemd shows it, or the path of its directory. Where both
// versions have it, the one with processes counts. root is "/", or a tree that looks like one.
//
// The error wraps ErrNone when there is no such group. The root group is refused.
func Find(root string, what Interface, name string) (Group, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return Group{}, fmt.Errorf("%q: a name of a cgroup has no ..", name)
	}
	mounts, err := hierarchies(root, what)
	if err != nil {
		return Group{}, err
	}
	var found []Group
	for _, m := range mounts {
		below := path.Clean("/" + name)
		if rest, inside := strings.CutPrefix(below, m.at+"/"); inside {
			below = "/" + rest
		}
		if below == "/" || below == m.at {
			return Group{}, errors.New("the root cgroup is the whole host: name one below it")
		}
		g := Group{Name: below, Directory: filepath.Join(root, m.at, below), V2: m.v2}
		if _, err := os.Stat(filepath.Join(g.Directory, what.file(m.v2))); err == nil {
			found = append(found, g)
		}
	}
	if len(found) == 0 {
		return Group{}, fmt.Errorf("%q with %s: %w", name, what.V2, ErrNone)
	}
	for _, g := range found {
		if pids, err := g.Processes(); err == nil && len(pids) > 0 {
			return g, nil
		}
	}
	return found[0], nil
}

func (i Interface) file(v2 bool) string {
	if v2 {
		return i.V2
	}
	return i.V1
}

type hierarchy struct {
	at string // mount point
	v2 bool
}

// hierarchies are the mounts that can have the interface, version 2 first.
func hierarchies(root string, what Interface) ([]hierarchy, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	var all []hierarchy
	for line := range strings.Lines(string(text)) {
		// "36 35 98:0 /root /mount/point options - type source superoptions"
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, more := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(more) < 3 {
			continue
		}
		switch {
		case more[0] == "cgroup2":
			all = append([]hierarchy{{at: fields[4], v2: true}}, all...)
		case more[0] == "cgroup" && (what.Controller == "" || slices.Contains(strings.Split(more[2], ","), what.Controller)):
			all = append(all, hierarchy{at: fields[4]})
		}
	}
	return all, nil
}

// Read returns the content of one of the group's files, trimmed.
func (g Group) Read(file string) (string, error) {
	text, err := os.ReadFile(filepath.Join(g.Directory, file))
	return strings.TrimSpace(string(text)), err
}

// Write writes one of the group's files.
func (g Group) Write(file, text string) error {
	// Never made: a group that is gone must not come back as a plain file.
	opened, err := os.OpenFile(filepath.Join(g.Directory, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = opened.WriteString(text)
	return errors.Join(err, opened.Close())
}

// Gone reports whether the group has been removed.
func (g Group) Gone() bool {
	_, err := os.Stat(g.Directory)
	return errors.Is(err, os.ErrNotExist)
}

// Number reads a file with one number; "max" is -1.
func (g Group) Number(file string) (int, error) {
	text, err := g.Read(file)
	if err != nil {
		return 0, err
	}
	if text == "max" {
		return -1, nil
	}
	return strconv.Atoi(text)
}

// Field reads the number behind a name in a file with a line for each, as pids.events and cgroup.events are.
func (g Group) Field(file, name string) (int, error) {
	text, err := g.Read(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == name {
			return strconv.Atoi(fields[1])
		}
	}
	return 0, fmt.Errorf("%s of %s says nothing of %s", file, g, name)
}

// Processes returns the numbers of all processes in the group and in those below it, sorted. Those in other PID namespaces that we cannot
// see are left out.
func (g Group) Processes() ([]int, error) {
	var all []int
	err := filepath.WalkDir(g.Directory, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return tolerate(err)
		}
		text, err := os.ReadFile(filepath.Join(at, "cgroup.procs"))
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				all = append(all, pid)
			}
		}
		return tolerate(err)
	})
	slices.Sort(all)
	return slices.Compact(all), err
}

// tolerate lets groups vanish while we look.
func tolerate(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Own is the group of the calling thread in the hierarchy of another group of version 1. It may be the root.
func Own(root string, what Interface, beside Group) (Group, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc/thread-self/cgroup"))
	if err != nil {
		return Group{}, err
	}
	top := strings.TrimSuffix(beside.Directory, beside.Name)
	name := ownName(string(text), what, false)
	return Group{Name: name, Directory: filepath.Join(top, name)}, nil
}

// ownName reads "0::/path" for version 2, "9:pids:/path" for version 1; "/" when neither is there.
func ownName(text string, what Interface, v2 bool) string {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if v2 && parts[0] == "0" && parts[1] == "" || !v2 && slices.Contains(strings.Split(parts[1], ","), what.Controller) {
			return parts[2]
		}
	}
	return "/"
}

// OwnAndAbove returns the groups that we are in and that have the interface, in each hierarchy, up to the root. What cannot be read is left
// out: it bounds nothing.
func OwnAndAbove(root string, what Interface) []Group {
	mounts, err := hierarchies(root, what)
	text, err2 := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if errors.Join(err, err2) != nil {
		return nil
	}
	var all []Group
	for _, m := range mounts {
		for name := path.Clean(ownName(string(text), what, m.v2)); name != "/" && name != "."; name = path.Dir(name) {
			g := Group{Name: name, Directory: filepath.Join(root, m.at, name), V2: m.v2}
			if _, err := os.Stat(filepath.Join(g.Directory, what.file(m.v2))); err == nil {
				all = append(all, g)
			}
		}
	}
	return all
}
