package containers

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A runtime that answers on a socket knows its names. Where none does, they are found where the others leave them: containerd's clients
// write them into the bundle of the task, and Podman and CRI-O onto the command line of the container's monitor.

// nameNotes are the annotations of a task that hold a name that people know: nerdctl's, and that of a container in a Kubernetes pod.
var nameNotes = []string{"nerdctl/name", "io.kubernetes.cri.container-name"}

// named looks for containerd's tasks by the names that their clients gave them.
func (f Finder) named(name string) ([]Container, error) {
	paths, err := filepath.Glob(filepath.Join(f.taskRoot(), "*", "*", "config.json"))
	if err != nil {
		return nil, err
	}
	var found []Container
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		var bundle struct {
			Annotations map[string]string `json:"annotations"`
		}
		if json.Unmarshal(text, &bundle) != nil || !slices.ContainsFunc(nameNotes, func(note string) bool { return bundle.Annotations[note] == name }) {
			continue
		}
		directory := filepath.Dir(path)
		if c, err := fromPIDFile(filepath.Join(directory, pidFile), filepath.Base(directory), "containerd"); err == nil {
			found = append(found, c)
		}
	}
	return found, nil
}

// fromPIDFile makes a container of the process whose number is in a file.
func fromPIDFile(path, id, engine string) (Container, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Container{}, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return Container{}, err
	}
	return of(id, engine, pid)
}

// monitored looks for the monitors of Podman and CRI-O, of which each watches one container.
func (f Finder) monitored(name string) ([]Container, error) {
	paths, err := filepath.Glob(filepath.Join(f.procRoot(), "[0-9]*", "cmdline"))
	if err != nil {
		return nil, err
	}
	var found []Container
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		m, ok := readMonitor(strings.Split(string(text), "\x00"))
		if !ok || m.name != name {
			continue
		}
		if c, err := fromPIDFile(m.pidFile, m.id, m.engine); err == nil {
			found = append(found, c)
		}
	}
	return found, nil
}

// monitor is what the command line of a monitor says.
type monitor struct{ id, name, pidFile, engine string }

// readMonitor reads "conmon ... -c ID ... -p PIDFILE -n NAME ... --exit-command /usr/bin/podman ...".
func readMonitor(args []string) (monitor, bool) {
	if filepath.Base(args[0]) != "conmon" {
		return monitor{}, false
	}
	m := monitor{engine: "cri-o"}
	for i := 1; i+1 < len(args); i++ { // some options have no value; the first of each counts
		switch value := args[i+1]; args[i] {
		case "-c", "--cid":
			m.id = cmp.Or(m.id, value)
		case "-n", "--name":
			m.name = cmp.Or(m.name, value)
		case "-p", "--container-pidfile":
			m.pidFile = cmp.Or(m.pidFile, value)
		case "--exit-command":
			if filepath.Base(value) == "podman" {
				m.engine = "podman"
			}
		}
	}
	return m, m.id != "" && m.name != "" && m.pidFile != ""
}
