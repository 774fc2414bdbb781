package hostfacts

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
)

// cgroupFacts looks at what is mounted, and whether our own cgroup may be written.
func cgroupFacts() Facts {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Facts{fact(CgroupV2, Unknown, err.Error()), fact(CgroupV1, Unknown, err.Error())}
	}
	own, _ := os.ReadFile("/proc/self/cgroup") // without it the mount itself is looked at
	return Facts{cgroupFact(CgroupV2, string(mounts), string(own)), cgroupFact(CgroupV1, string(mounts), string(own))}
}

func cgroupFact(need Need, mounts, own string) Fact {
	kind := "cgroup2"
	if need == CgroupV1 {
		kind = "cgroup"
	}
	for line := range strings.Lines(mounts) {
		// "36 35 98:0 /root /mount/point options - type source superoptions"
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 6 || len(tail) < 3 || tail[0] != kind {
			continue
		}
		controllers := strings.Split(tail[2], ",")
		if kind == "cgroup" && !slices.Contains(controllers, "freezer") && !slices.Contains(controllers, "pids") {
			continue // the hierarchies that attacks would use
		}
		path := filepath.Join(fields[4], ownCgroup(own, kind, controllers))
		if _, err := os.Stat(path); err != nil {
			path = fields[4]
		}
		if err := writable(path); err != nil {
			return fact(need, No, "mounted, but: "+err.Error())
		}
		return fact(need, Yes, path+" can be written")
	}
	return fact(need, No, "not mounted")
}

// ownCgroup finds our path in /proc/self/cgroup: "0::/path" in the second version, "9:pids:/path" in the first.
func ownCgroup(text, kind string, controllers []string) string {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if kind == "cgroup2" && parts[0] == "0" && parts[1] == "" {
			return parts[2]
		}
		if kind == "cgroup" && parts[1] != "" && slices.ContainsFunc(strings.Split(parts[1], ","), func(c string) bool { return slices.Contains(controllers, c) }) {
			return parts[2]
		}
	}
	return "/"
}

func hostFacts() Facts {
	facts := Facts{systemdFact(), logindFact(), clockFact("/sys/devices/system/clocksource/clocksource0/current_clocksource"), pidfdFact()}
	return append(facts, processFacts("/proc")...)
}

func systemdFact() Fact {
	if attack.RunsSystemd() {
		return fact(Systemd, Yes, "it is the init")
	}
	return fact(Systemd, No, "the init is something else")
}

func logindFact() Fact {
	// logind makes this directory when it starts; the bus is how one speaks to it.
	for _, path := range []string{"/run/systemd/seats", "/run/dbus/system_bus_socket"} {
		if _, err := os.Stat(path); err != nil {
			return fact(Logind, No, path+" is not there")
		}
	}
	return fact(Logind, Yes, "")
}

func clockFact(path string) Fact {
	text, err := os.ReadFile(path)
	if err != nil {
		return fact(ClockSource, Unknown, err.Error())
	}
	return fact(ClockSource, Yes, strings.TrimSpace(string(text)))
}

func pidfdFact() Fact {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fact(Pidfd, No, err.Error())
	}
	_ = unix.Close(fd)
	return fact(Pidfd, Yes, "")
}

// timeKeepers are the daemons that set a clock, as /proc shows their names: 15 letters at most.
var timeKeepers = []string{"chronyd", "systemd-timesyn", "ntpd", "openntpd", "ptp4l", "phc2sys"}

// processFacts looks through the processes once.
func processFacts(proc string) Facts {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return Facts{fact(NTP, Unknown, err.Error()), fact(SSHServer, Unknown, err.Error())}
	}
	var keepers []string
	ssh := ""
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, entry.Name(), "comm"))
		name := strings.TrimSpace(string(text))
		if err == nil && slices.Contains(timeKeepers, name) {
			keepers = append(keepers, name)
		}
		if name == "sshd" || name == "dropbear" {
			ssh = name + " runs"
		}
	}
	if ssh == "" && listens(proc, sshPort) {
		ssh = "port 22 is listened on"
	}
	facts := Facts{fact(NTP, No, "none runs"), fact(SSHServer, No, "none runs, and nobody listens on port 22")}
	if len(keepers) > 0 {
		facts[0] = fact(NTP, Yes, strings.Join(keepers, ", ")+" runs")
	}
	if ssh != "" {
		facts[1] = fact(SSHServer, Yes, ssh)
	}
	return facts
}

const sshPort = 22

// listens reports whether somebody listens on a TCP port of our network namespace.
func listens(proc string, port int) bool {
	want := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"tcp", "tcp6"} {
		file, err := os.Open(filepath.Join(proc, "net", table))
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			// "sl local_address rem_address st ...", state 0A is LISTEN.
			if fields := strings.Fields(lines.Text()); len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1], want) {
				_ = file.Close()
				return true
			}
		}
		_ = file.Close()
	}
	return false
}

func directoryFacts(o Options) Facts {
	facts := tmpFileFacts(o.Directory)
	return append(facts, journalFact(o.Journal), execFact(pushDirectories()))
}

// tryBytes is how much is asked of the volume: one block.
const tryBytes = 4096

// tmpFileFacts asks for a file without a name, which the kernel takes back when it is closed.
func tmpFileFacts(directory string) Facts {
	fd, err := unix.Open(directory, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		state := No
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) {
			state = Unknown
		}
		return Facts{fact(TmpFile, state, fmt.Sprintf("%s: %v", directory, err)), fact(Fallocate, Unknown, "without o_tmpfile it is not tried")}
	}
	defer unix.Close(fd)
	facts := Facts{fact(TmpFile, Yes, "on "+directory), fact(Fallocate, Yes, "on "+directory)}
	if err := unix.Fallocate(fd, 0, 0, tryBytes); err != nil {
		facts[1] = fact(Fallocate, No, fmt.Sprintf("%s: %v", directory, err))
	}
	return facts
}

// journalRoom is what a journal may need: a thousand changes of a kilobyte.
const journalRoom = 1 << 20

// journalFact looks at the directory of journals, or at the first one above it that exists.
func journalFact(directory string) Fact {
	if directory == "" {
		return fact(Journal, Unknown, "nobody knows where it would be")
	}
	existing := directory
	for {
		if _, err := os.Stat(existing); err == nil || existing == filepath.Dir(existing) {
			break
		}
		existing = filepath.Dir(existing)
	}
	if err := writable(existing); err != nil {
		return fact(Journal, No, err.Error())
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(existing, &stat); err != nil {
		return fact(Journal, Unknown, err.Error())
	}
	free := stat.Bavail * uint64(stat.Bsize)
	detail := fmt.Sprintf("%d MiB free below %s", free>>20, directory)
	if free < journalRoom {
		return fact(Journal, No, detail)
	}
	return fact(Journal, Yes, detail)
}

// pushDirectories are where the binary of a control host is put, in its order.
func pushDirectories() []string {
	return []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/tmp", "/var/tmp", os.Getenv("HOME")}
}

func execFact(directories []string) Fact {
	var why []string
	for _, directory := range directories {
		var stat unix.Statfs_t
		switch err := unix.Statfs(directory, &stat); {
		case directory == "":
		case err != nil:
			why = append(why, fmt.Sprintf("%s: %v", directory, err))
		case stat.Flags&unix.ST_NOEXEC != 0:
			why = append(why, directory+" is mounted noexec")
		case writable(directory) != nil:
			why = append(why, directory+" cannot be written")
		default:
			return fact(ExecDirectory, Yes, directory)
		}
	}
	return fact(ExecDirectory, No, strings.Join(why, ", "))
}
