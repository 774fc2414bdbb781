package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"firedrill/internal/drill"
)

// user is a line of the host's /etc/passwd. The standard library's os/user would ask the C library of the machine in some builds.
type user struct {
	name, home, shell string
	uid, gid          uint32
	groups            []uint32
}

// findUser looks a user up on the host that this process runs on.
func findUser(name string) (*user, error) {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	group, _ := os.ReadFile("/etc/group") // without it there are no further groups
	return parseUser(name, string(passwd), string(group))
}

func parseUser(name, passwd, group string) (*user, error) {
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 7 || fields[0] != name {
			continue
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: uid %q", name, fields[2])
		}
		gid, err := strconv.ParseUint(fields[3], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: gid %q", name, fields[3])
		}
		u := &user{name: name, uid: uint32(uid), gid: uint32(gid), home: fields[5], shell: fields[6]}
		u.groups = groupsOf(u, group)
		return u, nil
	}
	return nil, &drill.Error{Kind: drill.Invalid, Err: fmt.Errorf("no user %q on this host", name)}
}

func groupsOf(u *user, group string) []uint32 {
	groups := []uint32{u.gid}
	for line := range strings.Lines(group) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 4 {
			continue
		}
		for member := range strings.SplitSeq(fields[3], ",") {
			if member != u.name {
				continue
			}
			if gid, err := strconv.ParseUint(fields[2], 10, 32); err == nil && uint32(gid) != u.gid {
				groups = append(groups, uint32(gid))
			}
		}
	}
	return groups
}

// environment is what programs of a host start with.
func environment(u *user, mark string) []string {
	home, name, shell := "/root", "root", "/bin/sh"
	if u != nil {
		home, name = u.home, u.name
		if u.shell != "" {
			shell = u.shell
		}
	}
	return []string{
		"PATH=" + hostPath, "HOME=" + home, "USER=" + name, "LOGNAME=" + name, "SHELL=" + shell, "LANG=C.UTF-8",
		markVariable + "=" + mark,
	}
}
