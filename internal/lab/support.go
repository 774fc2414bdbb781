package lab

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The switches that take user namespaces from ordinary users, and the value that does.
var namespaceSwitches = []struct{ path, off, cure string }{
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
}

// namespaceCure is one sentence with the command that helps where namespaces are refused.
func namespaceCure() string { return cureFor(os.Geteuid(), readSwitch) }

func cureFor(uid int, read func(path string) string) string {
	if uid == 0 {
		return "A lab needs namespaces, which this container forbids: run it on the machine itself, or give the container --privileged."
	}
	for _, s := range namespaceSwitches {
		if read(s.path) == s.off {
			return "This machine forbids namespaces to ordinary users: run it with sudo (sudo firedrill ...), or allow them with: " + s.cure
		}
	}
	return "This machine forbids namespaces to ordinary users (a container or a security module does): run it with sudo (sudo firedrill ...)."
}

func readSwitch(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// privileged tells whether this process may make namespaces and mounts without a user namespace.
func privileged() bool {
	if os.Geteuid() != 0 {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	const needed = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	return data[0].Effective&needed == needed
}
