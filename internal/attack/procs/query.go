package procs

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Query says which processes are meant. Its fields mean what the flags of process_killer mean.
type Query struct {
	Process  string // a number, or a regular expression that is looked for in names
	Group    string // name or number; only for matches by name
	User     string // likewise
	Newest   bool
	Oldest   bool
	Exact    bool // the whole name, not a part of it
	Full     bool // the full command line instead of the name
	Children bool // and all that descend from the matches
}

// Selector is a Query that was understood.
type Selector struct {
	query   Query
	pid     int
	pattern *regexp.Regexp
	uid     *uint32
	gid     *uint32
}

// Selector looks up user and group and compiles the pattern.
func (q Query) Selector() (Selector, error) {
	s := Selector{query: q}
	if q.Process == "" {
		return s, fmt.Errorf("--process is missing: name a process, a pattern or a number")
	}
	if q.Newest && q.Oldest {
		return s, fmt.Errorf("--newest and --oldest exclude each other")
	}
	if pid, err := strconv.Atoi(q.Process); err == nil {
		if pid < 1 {
			return s, fmt.Errorf("--process=%s: numbers of processes are from 1", q.Process)
		}
		s.pid = pid
		return s, nil
	}
	text := q.Process
	if q.Exact {
		text = "^(?:" + text + ")$"
	}
	var err error
	if s.pattern, err = regexp.Compile(text); err != nil {
		return s, fmt.Errorf("--process=%s: %w", q.Process, err)
	}
	if q.User != "" {
		if s.uid, err = lookUp(q.User, userNumber); err != nil {
			return s, fmt.Errorf("--user=%s: %w", q.User, err)
		}
	}
	if q.Group != "" {
		if s.gid, err = lookUp(q.Group, groupNumber); err != nil {
			return s, fmt.Errorf("--group=%s: %w", q.Group, err)
		}
	}
	return s, nil
}

// UserNumber returns the number of a user who is given by name or number. A number need not belong to anybody.
func UserNumber(text string) (uint32, error) {
	id, err := lookUp(text, userNumber)
	if err != nil {
		return 0, err
	}
	return *id, nil
}

func lookUp(text string, byName func(string) (string, error)) (*uint32, error) {
	if _, err := strconv.ParseUint(text, 10, 32); err != nil {
		number, err := byName(text)
		if err != nil {
			return nil, err
		}
		text = number
	}
	number, err := strconv.ParseUint(text, 10, 32)
	id := uint32(number)
	return &id, err
}

func userNumber(name string) (string, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return found.Uid, nil
}

func groupNumber(name string) (string, error) {
	found, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return found.Gid, nil
}

// Select returns which of the processes are meant, sorted by number. spared are those that would be, were they not protected. It is pure.
func (s Selector) Select(all []Process) (meant, spared []Process) {
	for _, p := range all {
		if s.matches(p) {
			meant = append(meant, p)
		}
	}
	// Protected ones cannot be the newest or the oldest: else the flag would pick one that is then left out.
	meant, spared = part(meant)
	if len(meant) > 1 && (s.query.Newest || s.query.Oldest) {
		slices.SortFunc(meant, byAge)
		if s.query.Newest {
			slices.Reverse(meant)
		}
		meant = meant[:1]
	}
	if s.query.Children {
		below, alsoSpared := part(descend(all, meant))
		meant, spared = append(meant, below...), append(spared, alsoSpared...)
	}
	slices.SortFunc(meant, byPID)
	slices.SortFunc(spared, byPID)
	return meant, slices.CompactFunc(spared, func(a, b Process) bool { return a.ID == b.ID })
}

func part(all []Process) (free, protected []Process) {
	for _, p := range all {
		if p.Protected == "" {
			free = append(free, p)
		} else {
			protected = append(protected, p)
		}
	}
	return free, protected
}

func byPID(a, b Process) int { return a.PID - b.PID }

func byAge(a, b Process) int {
	if a.Start != b.Start {
		if a.Start < b.Start {
			return -1
		}
		return 1
	}
	return byPID(a, b)
}

func (s Selector) matches(p Process) bool {
	if s.pid > 0 {
		return p.PID == s.pid
	}
	if s.uid != nil && p.UID != *s.uid || s.gid != nil && p.GID != *s.gid {
		return false
	}
	if s.query.Full {
		return s.pattern.MatchString(p.Command)
	}
	return s.pattern.MatchString(p.longName())
}

// nameMax is where the kernel cuts names off.
const nameMax = 15

// longName is the name, which the kernel cuts off after 15 bytes, made whole from the command line where that fits.
func (p Process) longName() string {
	first, _, _ := strings.Cut(p.Command, " ")
	if base := filepath.Base(first); len(p.Name) == nameMax && strings.HasPrefix(base, p.Name) {
		return base
	}
	return p.Name
}

// descend returns all that descend from roots, without the roots.
func descend(all, roots []Process) []Process {
	within := map[int]bool{}
	for _, root := range roots {
		within[root.PID] = true
	}
	var below []Process
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if within[p.Parent] && !within[p.PID] {
				within[p.PID], grown = true, true
				below = append(below, p)
			}
		}
	}
	return below
}

// Survey lists all processes and says of each why no attack may touch it, if so. It never shows what could cut off the one who asked or
// the way back: process 1, the kernel's own, us and our ancestors, sshd, and other attacks with their guardians.
func Survey() ([]Process, error) { return new(Census).Survey() }

// protect fills in why no attack may touch them.
func protect(all []Process) []Process {
	parents := map[int]int{}
	for _, p := range all {
		parents[p.PID] = p.Parent
	}
	ours := map[int]bool{}
	for pid, depth := os.Getpid(), 0; pid > 0 && depth < len(all)+1; depth++ {
		ours[pid] = true
		pid = parents[pid]
	}
	self := executable(os.Getpid())
	for i, p := range all {
		all[i].Protected = protection(p, ours, self)
		all[i].Consent = all[i].Protected != "" && p.PID != os.Getpid() && (p.PID == 1 || isSSHD(p))
	}
	return all
}

// Consented returns the processes without the protection that a person's consent lifts: that of process 1 and of sshd. We, those that we
// descend from, the kernel's and the parts of attacks stay protected. It is pure.
func Consented(all []Process) []Process {
	all = slices.Clone(all)
	for i := range all {
		if all[i].Consent {
			all[i].Protected = ""
		}
	}
	return all
}

func isSSHD(p Process) bool { return strings.HasPrefix(p.Name, "sshd") }

func protection(p Process, ours map[int]bool, self string) string {
	switch {
	case p.PID == 1:
		return "it is process 1"
	case p.PID == os.Getpid():
		return "it is us"
	case ours[p.PID]:
		return "we descend from it"
	case isSSHD(p):
		return "it is sshd"
	case p.kernel:
		return "it is a part of the kernel"
	case strings.HasPrefix(p.Command, "firedrill: "), strings.HasPrefix(p.Command, "firedrill-worker"):
		return "it is a part of an attack"
	}
	if words := strings.Fields(p.Command); len(words) > 1 && words[1] == "attack" && self != "" && executable(p.PID) == self {
		return "it is an attack"
	}
	return ""
}

// executable names the file that a process runs: "" when that cannot be told.
func executable(pid int) string {
	path, err := os.Readlink(filepath.Join(proc, strconv.Itoa(pid), "exe"))
	if err != nil {
		return ""
	}
	return path
}
