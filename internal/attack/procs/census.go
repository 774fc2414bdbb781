package procs

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// settle is for how long a process that came up is looked at each time: it begins as a copy of its parent, and becomes what it is to be
	// when it has called exec.
	settle = time.Second
	// lookAll is how often all are looked at: one may change its name or its owner late, and a number may be given again.
	lookAll = 5 * time.Second
)

// Census lists the processes again and again at a price that does not grow with those that stay: an attack does it twice a second, on hosts
// with thousands. Who came up is looked at, also a second later; all are looked at every 5 s. Its zero value is ready to use, by one goroutine.
type Census struct {
	known  map[int]resident
	looked time.Time // when all were looked at last
	buffer []byte
}

// resident is a process that was there when one last looked.
type resident struct {
	Process
	since time.Time // seen first
}

// Survey is what the Survey without a Census returns, at most 5 s old for those that were there a second ago already.
func (c *Census) Survey() ([]Process, error) {
	all, err := c.list(time.Now())
	if err != nil {
		return nil, err
	}
	return protect(all), nil
}

// list returns all processes that we can see, sorted by number, with their command lines. Those that end meanwhile are left out.
func (c *Census) list(now time.Time) ([]Process, error) {
	directory, err := os.Open(proc)
	if err != nil {
		return nil, fmt.Errorf("procs: %w", err)
	}
	defer directory.Close()
	names, err := directory.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("procs: %w", err)
	}
	everybody := now.Sub(c.looked) >= lookAll
	if everybody {
		c.looked = now
	}
	here := make(map[int]resident, len(names))
	all := make([]Process, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		r, ok := c.known[pid]
		if !ok || everybody || now.Sub(r.since) <= settle {
			id := r.ID
			if r.Process, c.buffer, err = look(pid, c.buffer); err != nil || r.Ended() {
				continue
			}
			if r.ID != id {
				r.since = now
			}
		}
		here[pid] = r
		all = append(all, r.Process)
	}
	c.known = here
	slices.SortFunc(all, byPID)
	return all, nil
}

// look is stat with the command line.
func look(pid int, buffer []byte) (Process, []byte, error) {
	p, buffer, err := stat(pid, buffer)
	if err != nil {
		return p, buffer, err
	}
	p.Command = p.Name
	if buffer, err = ReadFile(proc+"/"+strconv.Itoa(pid)+"/cmdline", buffer); err == nil && len(buffer) > 0 {
		p.Command = strings.TrimSpace(string(bytes.ReplaceAll(buffer, []byte{0}, []byte{' '})))
	}
	return p, buffer, nil
}

// List returns all processes that we can see, sorted by number, with their command lines. Those that end meanwhile are left out.
func List() ([]Process, error) { return new(Census).list(time.Now()) }
