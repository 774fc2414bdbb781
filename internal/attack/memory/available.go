package memory

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// available says how many bytes can be taken without swapping or meeting a limit: the least of what /proc says of the host and of what each
// of our control groups has left, up to the root. root is "/", or a tree that looks like one.
func available(root string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	kilobytes, found := field(string(text), "MemAvailable:")
	if !found {
		return 0, errors.New("memory: /proc/meminfo does not say what is available")
	}
	least := kilobytes * 1024
	for _, group := range groups(root) {
		least = min(least, group.left(root))
	}
	return least, nil
}

// group is a control group with the names of its files, which differ between the two versions.
type group struct {
	directory string // below root
	top       string // where the hierarchy is mounted
	limits    []string
	usage     string
	cache     string // of memory.stat: what the kernel drops before it refuses
}

// groups finds our control groups for memory: at most one of each version. What cannot be read bounds nothing.
func groups(root string) []group {
	text, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil
	}
	mounts, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil
	}
	var all []group
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		v2 := parts[0] == "0" && parts[1] == ""
		if !v2 && !has(parts[1], "memory") {
			continue
		}
		g := group{limits: []string{"memory.limit_in_bytes"}, usage: "memory.usage_in_bytes", cache: "total_inactive_file"}
		if v2 {
			g = group{limits: []string{"memory.max", "memory.high"}, usage: "memory.current", cache: "inactive_file"}
		}
		if place(&g, string(mounts), parts[2], v2) {
			all = append(all, g)
		}
	}
	return all
}

// place finds where in the file system a group lies. Fields of mountinfo: id parent device root mountpoint options ... - type source super.
func place(g *group, mounts, name string, v2 bool) bool {
	for line := range strings.Lines(mounts) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, more := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(more) < 3 {
			continue
		}
		if v2 != (more[0] == "cgroup2") || (!v2 && (more[0] != "cgroup" || !has(more[2], "memory"))) {
			continue
		}
		g.top, g.directory = fields[4], fields[4]
		// In a container the mount may show only a part of the hierarchy, in which our name begins with that part's.
		if rest, inside := strings.CutPrefix(name, strings.TrimSuffix(fields[3], "/")); inside && !strings.Contains(rest, "..") {
			g.directory = path.Join(g.top, rest)
		}
		return true
	}
	return false
}

func has(list, item string) bool { return strings.Contains(","+list+",", ","+item+",") }

// left is what the tightest group from here to the top has left.
func (g group) left(root string) uint64 {
	least := uint64(math.MaxUint64)
	for directory := g.directory; ; directory = path.Dir(directory) {
		used, known := number(filepath.Join(root, directory, g.usage))
		if known {
			stat, _ := os.ReadFile(filepath.Join(root, directory, "memory.stat"))
			cached, _ := field(string(stat), g.cache)
			used -= min(cached, used)
		}
		for _, name := range g.limits {
			if limit, ok := number(filepath.Join(root, directory, name)); ok && known {
				least = min(least, limit-min(used, limit))
			}
		}
		if directory == g.top || directory == "/" || directory == "." {
			return least
		}
	}
}

// number reads a file that holds one; "max" is none.
func number(file string) (uint64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	value, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return value, err == nil
}

// field finds the number after a name at the start of a line.
func field(text, name string) (uint64, bool) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == name {
			value, err := strconv.ParseUint(fields[1], 10, 64)
			return value, err == nil
		}
	}
	return 0, false
}
