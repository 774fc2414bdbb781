package hostfacts

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// needKernel ends a test that needs root, unless the kernel tests are required.
func needKernel(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "kernel") {
			t.Fatal("this test needs root, or a user namespace")
		}
		t.Skip("this test needs root, or a user namespace")
	}
}

// inNamespace runs do on a thread with a network and mounts of its own; the thread is thrown away.
func inNamespace(t *testing.T, do func() error) {
	t.Helper()
	needKernel(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// changes returns what do changed in the tables, links and queues of the namespace that it is called in, as the kernel tells its listeners.
func changes(do func() error) (heard [][]byte, err error) {
	const nftables = 7 // NFNLGRP_NFTABLES
	for _, group := range []struct {
		protocol int
		group    uint
	}{{unix.NETLINK_NETFILTER, nftables}, {unix.NETLINK_ROUTE, unix.RTNLGRP_TC}, {unix.NETLINK_ROUTE, unix.RTNLGRP_LINK}} {
		socket, err := nl.Subscribe(group.protocol, group.group)
		if err != nil {
			return nil, err
		}
		defer socket.Close()
		defer func() {
			for {
				buffer := make([]byte, 1<<16)
				n, _, err := unix.Recvfrom(socket.GetFd(), buffer, unix.MSG_DONTWAIT)
				if err != nil {
					return
				}
				heard = append(heard, buffer[:n])
			}
		}()
	}
	return nil, do()
}

func TestTheRoomIsApartFromWhereWeAre(t *testing.T) {
	inNamespace(t, func() error {
		for _, own := range []bool{false, true} {
			heard, err := changes(func() error {
				tried, err := room(t.Context(), own)
				if err == nil && tried[NFTables].State == "" {
					err = errors.New("the room tried nothing")
				}
				return err
			})
			if err != nil {
				return err
			}
			if len(heard) > 0 {
				t.Errorf("own users %v: the kernel told of %d changes outside of the room", own, len(heard))
			}
		}
		return nil
	})
}

// The planted bug: the tries are made where we are.
func TestTriesOutsideOfARoomAreCaught(t *testing.T) {
	inNamespace(t, func() error {
		heard, err := changes(func() error { tryTables(map[Need]found{}); return nil })
		if len(heard) == 0 {
			t.Error("nothing is heard of this bug")
		}
		return err
	})
}

func TestNothingIsTriedWhereThereIsANetwork(t *testing.T) {
	inNamespace(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		heard, err := changes(func() error {
			var out, said bytes.Buffer
			if code, ours := Reexec([]string{roomName, roomArg}, &out, &said); !ours || code == 0 || out.Len() > 0 || !strings.Contains(said.String(), "no room") {
				t.Errorf("exit code %d, %v: %s%s", code, ours, out.String(), said.String())
			}
			return nil
		})
		if len(heard) > 0 {
			t.Errorf("the kernel told of %d changes", len(heard))
		}
		return err
	})
}

func TestOtherProgramsAreNoRoom(t *testing.T) {
	for _, args := range [][]string{{"firedrill"}, {"firedrill", "doctor"}, {roomName}, {roomName, "x"}, {roomName, roomArg, "x"}} {
		if _, ours := Reexec(args, nil, nil); ours {
			t.Errorf("%v", args)
		}
	}
}

const inChain = "add table inet x; add chain inet x c { type route hook output priority -150; }; add rule inet x c "

// What we say of the kernel, the programs that come with it must find too.
func TestTheKernelsOwnToolsAgree(t *testing.T) {
	needKernel(t)
	tried, err := room(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for need, command := range map[Need][]string{
		NFTables:       {"nft", "add table inet x; add chain inet x c { type route hook output priority -150; }"},
		NFTablesOwner:  {"nft", "-i"},
		NFTablesRandom: {"nft", inChain + "numgen random mod 100 < 5 drop"},
		NFTablesLimit:  {"nft", inChain + "limit rate over 1 mbytes/second drop"},
		NFTablesReject: {"nft", inChain + "reject with icmpx type admin-prohibited"},
		Prio:           {"tc", "qdisc", "add", "dev", "lo", "root", "prio"},
		Netem:          {"tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"},
	} {
		cmd := exec.Command(command[0], command[1:]...)
		if need == NFTablesOwner {
			cmd.Stdin = strings.NewReader("add table inet x { flags owner; }\nquit\n")
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		said, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			t.Logf("%s is not installed; the gate has it", command[0])
			if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "kernel") {
				t.Errorf("%s is not installed", command[0])
			}
			continue
		}
		there := err == nil && !strings.Contains(string(said), "Error")
		if there != (tried[need].State == Yes) {
			t.Errorf("%s: we say %+v; %v: %v %s", need, tried[need], command, err, said)
		}
	}
}

func TestARightCountsOnlyWhereItActs(t *testing.T) {
	ours := func(string) error { return nil }
	theirs := func(string) error { return unix.EPERM }
	all := ^uint64(0)
	for _, c := range []struct {
		name      string
		rights    rights
		namespace string
		want      State
	}{
		{"root of the machine", rights{effective: all, initial: true, owned: theirs}, machine, Yes},
		{"an ordinary user", rights{uid: 1000, initial: true, owned: ours}, "net", No},
		{"root of a user namespace, on the machine's network", rights{effective: all, owned: theirs}, "net", No},
		{"root of a user namespace, on its own network", rights{effective: all, owned: ours}, "net", Yes},
		{"root of a user namespace, on the clock", rights{effective: all, owned: ours}, machine, No},
		{"root of a user namespace, among its own", rights{effective: all, owned: theirs}, "", Yes},
		{"nobody knows", rights{err: unix.EIO, owned: ours}, "net", Unknown},
	} {
		if got := c.rights.right(NetAdmin, unix.CAP_NET_ADMIN, c.namespace); got.State != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestKernelsOlderThanTriedAreNotSaidToDo(t *testing.T) {
	for release, want := range map[string]State{"6.18.44-fc": Yes, "5.10.0-32-amd64": Yes, "5.9.16": Unknown, "4.19.0": Unknown, "10.0": Yes, "": Unknown, "rubbish": Unknown} {
		if got := kernelFact(release); got.State != want {
			t.Errorf("%q: %+v", release, got)
		}
	}
}

func TestCgroupsAreFoundWhereTheyAreMounted(t *testing.T) {
	dir := t.TempDir()
	own := "0::/user.slice\n3:pids:/docker/x\n"
	if err := os.MkdirAll(filepath.Join(dir, "two", "user.slice"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "one", "docker", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	two := "30 23 0:26 / " + dir + "/two rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
	one := "31 23 0:27 / " + dir + "/one rw - cgroup cgroup rw,pids\n"
	net := "32 23 0:28 / " + dir + "/net rw - cgroup cgroup rw,net_cls\n"
	for _, c := range []struct {
		need   Need
		mounts string
		want   State
		detail string
	}{
		{CgroupV2, two, Yes, "/two/user.slice"},
		{CgroupV2, one, No, "not mounted"},
		{CgroupV1, one, Yes, "/one/docker/x"},
		{CgroupV1, net, No, "not mounted"},
		{CgroupV1, two, No, "not mounted"},
		{CgroupV2, "rubbish - \n- - -\n", No, "not mounted"},
		{CgroupV2, strings.ReplaceAll(two, "/two", "/gone"), No, "no such file"},
	} {
		if got := cgroupFact(c.need, c.mounts, own); got.State != c.want || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%s of %q: %+v", c.need, c.mounts, got)
		}
	}
}

func TestTimeKeepersAndSSHServersAreSeenByName(t *testing.T) {
	proc := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(proc, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	states := func() string {
		facts := processFacts(proc)
		return string(facts[0].State + " " + facts[1].State)
	}
	write("1/comm", "systemd\n")
	write("sys/comm", "chronyd\n") // not a process
	if got := states(); got != "no no" {
		t.Errorf("quiet host: %s", got)
	}
	write("7/comm", "systemd-timesyn\n")
	write("net/tcp", "  sl  local_address rem_address   st\n   0: 00000000:0016 00000000:0000 01 x\n   1: 00000000:1600 00000000:0000 0A x\n")
	if got := states(); got != "yes no" {
		t.Errorf("a connection to port 22, and another listener: %s", got)
	}
	write("net/tcp6", "   0: 00000000000000000000000000000000:0016 0:0 0A x\n")
	if got := states(); got != "yes yes" {
		t.Errorf("a listener on port 22: %s", got)
	}
}

func TestDirectoriesAreLookedAtAndLeftAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	if f := tmpFileFacts(dir); f[0].State == Unknown {
		t.Errorf("%+v", f)
	}
	if f := tmpFileFacts("/proc"); f[0].State == Yes {
		t.Errorf("/proc takes files without a name? %+v", f)
	}
	if f := tmpFileFacts("/nonexistent"); f[0].State != Unknown || f[1].State != Unknown {
		t.Errorf("%+v", f)
	}
	if f := journalFact(filepath.Join(dir, "a", "b", "c")); f.State != Yes || !strings.Contains(f.Detail, "MiB free") {
		t.Errorf("%+v", f)
	}
	if f := journalFact("/proc/journal"); f.State == Yes {
		t.Errorf("a journal in /proc? %+v", f)
	}
	if f := journalFact(""); f.State != Unknown {
		t.Errorf("%+v", f)
	}
	if f := execFact([]string{"", "/nonexistent"}); f.State != No || !strings.Contains(f.Detail, "/nonexistent") {
		t.Errorf("%+v", f)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v are left, %v", entries, err)
	}
}

func TestADirectoryThatStartsNoProgramIsNotTaken(t *testing.T) {
	inNamespace(t, func() error {
		strict, good := t.TempDir(), t.TempDir()
		if err := unix.Mount("tmpfs", strict, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
			return err
		}
		if f := execFact([]string{strict}); f.State != No || !strings.Contains(f.Detail, "noexec") {
			t.Errorf("%+v", f)
		}
		if f := execFact([]string{strict, good}); f.State != Yes || f.Detail != good {
			t.Errorf("%+v", f)
		}
		return unix.Unmount(strict, 0)
	})
}
