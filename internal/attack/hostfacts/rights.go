package hostfacts

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// initialUserNamespace is the inode of the user namespace that the kernel starts with; it is a constant of every kernel.
const initialUserNamespace = 0xEFFFFFFD

// rights are what this process may do, and where.
type rights struct {
	uid       int
	effective uint64
	initial   bool // in the user namespace of the machine
	err       error
	owned     func(namespace string) error // nil when our user namespace, or one below it, owns the namespace of this kind that we are in
}

func readRights() rights {
	r := rights{uid: os.Geteuid(), owned: ownedByUs}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if r.err = unix.Capget(&header, &data[0]); r.err != nil {
		return r
	}
	r.effective = uint64(data[0].Effective) | uint64(data[1].Effective)<<32
	var stat unix.Stat_t
	if r.err = unix.Stat("/proc/self/ns/user", &stat); r.err == nil {
		r.initial = stat.Ino == initialUserNamespace
	}
	return r
}

// ownedByUs asks the kernel, which answers EPERM when the owner lies above us.
func ownedByUs(namespace string) error {
	fd, err := unix.Open("/proc/thread-self/ns/"+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	owner, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	if err != nil {
		return err
	}
	return unix.Close(owner)
}

// machine is where a capability must count that acts on the whole machine.
const machine = "machine"

// right makes the fact about one capability. namespace is the kind of namespace that it acts on; "" is our own user namespace.
func (r rights) right(need Need, capability uint, namespace string) Fact {
	place := "in the machine's user namespace"
	if !r.initial {
		place = "in a user namespace of its own"
	}
	switch {
	case r.err != nil:
		return fact(need, Unknown, r.err.Error())
	case r.effective&(1<<capability) == 0:
		return fact(need, No, fmt.Sprintf("user %d does not have it", r.uid))
	case r.initial:
		return fact(need, Yes, place)
	case namespace == machine:
		return fact(need, No, "held only "+place+", where it does not count")
	case namespace != "":
		if err := r.owned(namespace); err != nil {
			return fact(need, No, fmt.Sprintf("held only %s, which does not own the %s namespace: %v", place, namespace, err))
		}
	}
	return fact(need, Yes, place)
}

func (r rights) facts() Facts {
	return Facts{
		r.right(NetAdmin, unix.CAP_NET_ADMIN, "net"),
		r.right(SysBoot, unix.CAP_SYS_BOOT, "pid"),
		r.right(SysTime, unix.CAP_SYS_TIME, machine),
		r.right(Kill, unix.CAP_KILL, ""),
		r.right(SysAdmin, unix.CAP_SYS_ADMIN, ""),
	}
}
