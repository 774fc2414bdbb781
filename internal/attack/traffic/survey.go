package traffic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// cgroupPackets is how packets of a control group are told apart: by the socket's group in version 2, by the class of its packets in
// version 1.
var cgroupPackets = cgroups.Interface{V2: "cgroup.procs", V1: classFile, Controller: "net_cls"}

const classFile = "net_cls.classid"

// survey finds out what a scope means on this host.
func survey(ctx context.Context, kind string, scope attack.Scope, facts *attack.ScopeFacts) error {
	switch {
	case scope.User != "":
		uid, err := procs.UserNumber(scope.User)
		if err != nil {
			return attack.Refuse(kind, "see: getent passwd; a number works without a name", "--user=%s: %w", scope.User, err)
		}
		facts.UID = &uid
	case scope.Cgroup != "":
		group, err := findCgroup(kind, scope.Cgroup)
		if err != nil {
			return err
		}
		facts.Cgroup = &group
	case scope.Container != "":
		container, err := attack.FindContainer(ctx, kind, scope.Container)
		if err != nil {
			return err
		}
		facts.Container = &container
	}
	return nil
}

func findCgroup(kind, name string) (attack.CgroupScope, error) {
	group, err := cgroups.Find("/", cgroupPackets, name)
	if errors.Is(err, cgroups.ErrNone) {
		return attack.CgroupScope{}, &drill.Error{Op: "attack " + kind, Kind: drill.Unsupported, Err: fmt.Errorf("--cgroup=%s: %w", name, err),
			Hint: "packets are told apart by groups of version 2, and by net_cls groups of version 1, as /proc/PID/cgroup shows them; or use --user"}
	}
	if err != nil {
		return attack.CgroupScope{}, attack.Refuse(kind, "name it as /proc/PID/cgroup does, as /system.slice/api.service", "--cgroup=%s: %w", name, err)
	}
	scope := attack.CgroupScope{Group: group}
	if group.V2 {
		var directory unix.Stat_t
		if err := unix.Stat(group.Directory, &directory); err != nil {
			return scope, fmt.Errorf("traffic: %s: %w", group, err)
		}
		// The kernel numbers a group by its directory, and counts levels from the root.
		scope.ID, scope.Level = directory.Ino, uint32(strings.Count(group.Name, "/"))
		return scope, nil
	}
	text, err := group.Read(classFile)
	if err != nil {
		return scope, fmt.Errorf("traffic: %s: %w", group, err)
	}
	class, err := strconv.ParseUint(text, 0, 32)
	if err != nil || class == 0 {
		return scope, &drill.Error{Op: "attack " + kind, Kind: drill.Unsupported, Err: fmt.Errorf("%s of version 1 gives its packets no class", group),
			Hint: "give it one that no other group has, as: echo 0x00100001 > " + filepath.Join(group.Directory, classFile)}
	}
	scope.Class = uint32(class)
	return scope, nil
}

func scopeText(scope attack.Scope, facts attack.ScopeFacts) string {
	switch {
	case facts.UID != nil:
		text := "sockets of user " + scope.User
		if number := fmt.Sprint(*facts.UID); number != scope.User {
			text += " (" + number + ")"
		}
		return text
	case facts.Cgroup != nil && facts.Cgroup.V2:
		return "sockets made in " + facts.Cgroup.String() + " or below"
	case facts.Cgroup != nil:
		return fmt.Sprintf("sockets of %s, class 0x%08x", facts.Cgroup, facts.Cgroup.Class)
	}
	if scope.Process != "" {
		return "sockets of the processes that match " + strconv.Quote(scope.Process) + ", and of their children"
	}
	if facts.Container != nil {
		return fmt.Sprintf("in the network of %s, process %d", facts.Container, facts.Container.Init.PID)
	}
	return ""
}

// scoped reports whether the attack is narrower than its network namespace.
func (c *cut) scoped() bool {
	return (c.scope.UID != nil || c.scope.Cgroup != nil || c.herd != nil) && !c.hooks.WholeHost
}

// owner asks whether the packet's socket is the scope's, in one way or another, or somebody else's. Where no socket is known neither holds.
//
// Of processes that were gathered only new sockets are known by their group, so nothing says that a socket is somebody else's.
func (c *cut) owner() (is [][]expr.Any, isNot []expr.Any) {
	var load []expr.Any
	var want []byte
	compare := func(op expr.CmpOp) []expr.Any {
		return append(append([]expr.Any{}, load...), &expr.Cmp{Op: op, Register: 1, Data: want})
	}
	inGroup := func(group attack.CgroupScope) {
		load = []expr.Any{&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: group.Level, Register: 1}}
		want = native64(group.ID)
	}
	switch group := c.scope.Cgroup; {
	case c.herd != nil:
		for _, group := range c.herd.Groups() {
			inGroup(group)
			is = append(is, compare(expr.CmpOpEq))
		}
		return is, nil
	case group == nil:
		load, want = metaInto(expr.MetaKeySKUID), native(*c.scope.UID)
	case group.V2:
		inGroup(*group)
	default:
		load, want = metaInto(expr.MetaKeyCGROUP), native(group.Class)
	}
	return [][]expr.Any{compare(expr.CmpOpEq)}, compare(expr.CmpOpNeq)
}

// groups are the control groups whose processes hold the scope's sockets.
func (c *cut) groups() []attack.CgroupScope {
	switch {
	case c.herd != nil:
		return c.herd.Groups()
	case c.scope.Cgroup != nil:
		return []attack.CgroupScope{*c.scope.Cgroup}
	}
	return nil
}

// holders returns what tells the scope's sockets among those that the kernel lists.
func (c *cut) holders() (ours func(socket) bool, err error) {
	if c.scope.UID != nil {
		return func(s socket) bool { return s.uid == *c.scope.UID }, nil
	}
	held := map[uint32]bool{}
	for _, group := range c.groups() {
		pids, err := group.Processes()
		if err != nil {
			return nil, fmt.Errorf("traffic: list the processes of %s: %w", group, err)
		}
		for _, pid := range pids {
			heldBy(pid, held)
		}
	}
	return func(s socket) bool { return held[s.inode] }, nil
}

// heldFlows lists the flows that processes brought along when they were gathered: their sockets are known by nothing else.
func (c *cut) heldFlows() ([]socket, error) {
	if c.herd == nil || c.hooks.ForgetHeld {
		return nil, nil
	}
	ours, err := c.holders()
	if err != nil {
		return nil, err
	}
	var flows []socket
	for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		all, err := sockets(protocol, stateAny&^(stateListen))
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if s.remote.Port() != 0 && ours(s) {
				flows = append(flows, s)
			}
		}
	}
	return flows, nil
}

// waitingPorts lists where the scope's sockets wait now.
func (c *cut) waitingPorts() (map[port]bool, error) {
	all, err := waiting()
	if err != nil {
		return nil, err
	}
	ours, err := c.holders()
	if err != nil {
		return nil, err
	}
	ports := map[port]bool{}
	for _, s := range all {
		if s.local.Port() != 0 && ours(s) {
			ports[port{protocol: s.protocol, number: s.local.Port()}] = true
		}
	}
	return ports, nil
}

// heldBy adds the numbers of the sockets that a process holds. One that ends meanwhile, or that we may not look into, holds none.
func heldBy(pid int, held map[uint32]bool) {
	directory := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(directory)
	if err != nil {
		return
	}
	for _, entry := range entries {
		link, err := os.Readlink(filepath.Join(directory, entry.Name()))
		text, isSocket := strings.CutPrefix(link, "socket:[")
		if err != nil || !isSocket {
			continue
		}
		if inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 32); err == nil {
			held[uint32(inode)] = true
		}
	}
}
