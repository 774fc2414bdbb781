package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// settleMax bounds how long the kernel may take to end the processes of a lab after its world is gone.
const settleMax = 20 * time.Second

// machine is what a run must not change: everything that the program could leave behind, read from outside.
type machine struct {
	Mounts     []string // mount points of the machine
	Links      []string // network interfaces
	Namespaces []string // namespaces that any process is in
	Files      []string // in the directories for temporary files
}

func lookAtMachine(t *testing.T, temporary ...string) machine {
	t.Helper()
	var m machine
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		m.Mounts = append(m.Mounts, fields[4])
	}
	slices.Sort(m.Mounts)
	m.Links = names(t, "/sys/class/net")
	m.Namespaces = namespaces()
	for _, directory := range append(temporary, "/dev/shm", "/run/lock") {
		for _, name := range names(t, directory) {
			m.Files = append(m.Files, filepath.Join(directory, name))
		}
	}
	return m
}

func names(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

// namespaces lists every network, mount and process namespace that some process is in.
func namespaces() []string {
	var all []string
	links, _ := filepath.Glob("/proc/[0-9]*/ns/*")
	for _, link := range links {
		switch filepath.Base(link) {
		case "net", "mnt", "pid", "user":
		default:
			continue
		}
		if target, err := os.Readlink(link); err == nil { // a process may end meanwhile
			all = append(all, target)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// processesOf lists the processes that run the program file.
func processesOf(program string) []string {
	var all []string
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && strings.TrimSuffix(target, " (deleted)") == program {
			all = append(all, strings.TrimSuffix(strings.TrimPrefix(link, "/proc/"), "/exe"))
		}
	}
	return all
}

// added is what is there now and was not before. What went away meanwhile was not ours.
func added(before, now machine) machine {
	fresh := func(old, all []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(item string) bool { return slices.Contains(old, item) })
	}
	var m machine
	for _, part := range []struct {
		into     *[]string
		old, now []string
	}{
		{&m.Mounts, before.Mounts, now.Mounts},
		{&m.Links, before.Links, now.Links},
		{&m.Namespaces, before.Namespaces, now.Namespaces},
		{&m.Files, before.Files, now.Files},
	} {
		if items := fresh(part.old, part.now); len(items) > 0 {
			*part.into = items
		}
	}
	return m
}

// leftBehind waits until the machine is as it was before, and returns what is not.
func leftBehind(t *testing.T, before machine, program string, temporary ...string) string {
	t.Helper()
	var difference string
	deadline := time.Now().Add(settleMax)
	for {
		difference = cmp.Diff(machine{}, added(before, lookAtMachine(t, temporary...)))
		if processes := processesOf(program); len(processes) > 0 {
			difference += fmt.Sprintf("processes: %v\n", processes)
		}
		if difference == "" || time.Now().After(deadline) {
			return difference
		}
		wait(100 * time.Millisecond)
	}
}

// wait lets time pass between two looks at something that has no way to tell us.
func wait(span time.Duration) { <-time.After(span) }
