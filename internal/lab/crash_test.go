package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// caller is a program of its own that makes a lab and holds it, so that it can be killed.
type caller struct {
	cmd   *exec.Cmd
	lines *bufio.Reader
	mark  string
	temp  string
	name  string
}

// startCaller starts the tool "hold" of this test binary: it prints each step of Up, then "ready".
func startCaller(t *testing.T, orphan bool) *caller {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{mark: fmt.Sprintf("crash-%d-%d", os.Getpid(), rand.Uint64()), temp: t.TempDir(), name: fmt.Sprintf("crash-%d", rand.Uint32())}
	c.cmd = exec.Command(exe, "tool", "hold", strconv.FormatBool(orphan), c.name)
	c.cmd.Env = append(os.Environ(), markVariable+"="+c.mark, "TMPDIR="+c.temp)
	c.cmd.Dir = c.temp
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.end() })
	return c
}

func (c *caller) end() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	for _, pid := range marked(c.mark) {
		_ = unix.Kill(pid, unix.SIGKILL) // only after the planted bug
	}
}

// hold is the tool: a lab until death.
func hold(args []string) int {
	topology := threeHosts()
	topology.Name = args[1]
	topology.Hosts[0].Services = []Service{{Name: "app", Run: "exec sleep 4720"}}
	_, err := Up(context.Background(), topology, Options{
		Listen: true, Progress: func(line string) { fmt.Println(line) }, mark: os.Getenv(markVariable), orphan: args[0] == "true",
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

// marked lists the processes with the mark in their environment. Between fork and exec a process has its parent's, marked too.
func marked(mark string) []int {
	var pids []int
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains("\x00"+string(text), "\x00"+markVariable+"="+mark+"\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// namespaces lists the namespaces of processes that are not ours.
func namespaces(pids []int) map[string]bool {
	own := map[string]bool{}
	all := map[string]bool{}
	for _, kind := range []string{"net", "mnt", "pid", "uts", "ipc", "user"} {
		if link, err := os.Readlink("/proc/self/ns/" + kind); err == nil {
			own[link] = true
		}
		for _, pid := range pids {
			if link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind)); err == nil && !own[link] {
				all[link] = true
			}
		}
	}
	return all
}

var labInterface = regexp.MustCompile(`^(h[0-9]+-[0-9]+|` + bridgeName + `)$`)

// residue tells what is left of the caller's lab on the machine. seen are the namespaces that its processes were seen in.
func (c *caller) residue(seen map[string]bool) []string {
	var left []string
	for _, pid := range marked(c.mark) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		left = append(left, fmt.Sprintf("process %d %q", pid, name))
	}
	paths, _ := filepath.Glob("/proc/[0-9]*/ns/*")
	for _, path := range paths {
		if link, err := os.Readlink(path); err == nil && seen[link] && !zombie(filepath.Dir(filepath.Dir(path))) {
			left = append(left, path+" "+link)
		}
	}
	if interfaces, err := net.Interfaces(); err == nil {
		for _, i := range interfaces {
			if labInterface.MatchString(i.Name) {
				left = append(left, "interface "+i.Name)
			}
		}
	}
	for path, words := range map[string]string{"/proc/self/mountinfo": "firedrill-lab", "/proc/net/unix": socketName(c.name)} {
		text, _ := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, words) {
				left = append(left, path+": "+line)
			}
		}
	}
	entries, _ := os.ReadDir(c.temp)
	for _, e := range entries {
		left = append(left, "file "+e.Name())
	}
	return left
}

// zombie tells whether a process is dead but for its exit status, which the machine's init collects in its own time.
func zombie(proc string) bool {
	text, err := os.ReadFile(filepath.Join(proc, "stat"))
	_, state, _ := strings.Cut(string(text), ") ")
	return err != nil || strings.HasPrefix(state, "Z")
}

// kill kills the caller and demands that nothing is left.
func (c *caller) kill(t *testing.T) {
	t.Helper()
	seen := namespaces(marked(c.mark))
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, c.lines)
	_ = c.cmd.Wait()
	c.awaitNothing(t, seen)
}

func (c *caller) awaitNothing(t *testing.T, seen map[string]bool) {
	t.Helper()
	var left []string
	defer func() {
		if len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
	}()
	await(t, "nothing is left", func() bool { left = c.residue(seen); return len(left) == 0 })
}

// until reads the caller's lines until one contains want.
func (c *caller) until(t *testing.T, want string) {
	t.Helper()
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the caller ended before %q: %v", want, err)
		}
		if strings.Contains(line, "not permitted") {
			needNamespaces(t, &drill.Error{Kind: drill.Unsupported, Err: fmt.Errorf("%s", line)})
		}
		if strings.Contains(line, want) {
			return
		}
	}
}

func TestKilledCallerLeavesNothingAtEachStage(t *testing.T) {
	for _, stage := range []string{"world started", "file system made", "bridge made", "host ci up", "host blue up", "host green up", "ready"} {
		t.Run(strings.ReplaceAll(stage, " ", "-"), func(t *testing.T) {
			c := startCaller(t, false)
			c.until(t, stage)
			c.kill(t)
		})
	}
}

// instants is how many random instants of Up the caller is killed at.
const instants = 25

func TestKilledCallerLeavesNothingAtRandomInstants(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	for n := range instants {
		c := startCaller(t, false)
		// The interesting instants are before "ready", some 60 ms on an idle machine.
		timer := time.NewTimer(time.Duration(random.Int64N(int64(120 * time.Millisecond))))
		<-timer.C
		c.kill(t)
		if t.Failed() {
			t.Fatalf("instant %d with SEED=%d", n, seed)
		}
	}
}

// TestCheckCatchesALabThatOutlivesItsCaller plants the bug: a world without parent-death signal that does not mind the end of its control
// socket. By the time a sound lab is gone, the check must still see it.
func TestCheckCatchesALabThatOutlivesItsCaller(t *testing.T) {
	sound, broken := startCaller(t, false), startCaller(t, true)
	sound.until(t, "ready")
	broken.until(t, "ready")
	seen := namespaces(marked(broken.mark))
	if len(seen) == 0 || len(marked(sound.mark)) < 5 {
		t.Fatalf("the check sees %d namespaces and %d processes of labs that are up", len(seen), len(marked(sound.mark)))
	}
	_ = broken.cmd.Process.Kill()
	_ = broken.cmd.Wait()
	sound.kill(t)
	left := strings.Join(broken.residue(seen), "\n")
	for _, want := range []string{nameWorld, nameInit, "/ns/net", "/ns/mnt", "/proc/net/unix"} {
		if !strings.Contains(left, want) {
			t.Errorf("the check does not see %s of an orphaned lab in:\n%s", want, left)
		}
	}
	broken.end()
	broken.awaitNothing(t, seen)
}

func TestFailedUpLeavesNothing(t *testing.T) {
	topology := threeHosts()
	topology.Hosts[1].Files = []File{{Path: "/proc/none/file", Text: "x"}} // cannot be written
	mark := fmt.Sprintf("failed-%d", rand.Uint64())
	_, err := Up(testContext(t), topology, Options{mark: mark})
	if err == nil || !strings.Contains(err.Error(), "/proc/none") {
		t.Fatalf("a file that cannot be: %v", err)
	}
	if left := marked(mark); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	_, err = Up(ctx, threeHosts(), Options{mark: mark, Progress: func(string) { cancel() }})
	if drill.KindOf(err) != drill.Interrupted {
		t.Fatalf("a cancelled Up: %v", err)
	}
	if left := marked(mark); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

func TestDaemonHoldsALabUntilDown(t *testing.T) {
	topology := threeHosts()
	topology.Name = fmt.Sprintf("daemon-%d", rand.Uint32())
	needNamespaces(t, Daemonize(testContext(t), topology, Options{}))
	pid := daemonOf(t, topology.Name)
	if err := Daemonize(testContext(t), topology, Options{}); drill.KindOf(err) != drill.Refused {
		t.Errorf("a second lab of the same name: %v", err)
	}
	l, err := Attach(testContext(t), topology.Name)
	if err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, l, "blue", "hostname"); out != "api-blue" {
		t.Errorf("exec in an attached lab: %q", out)
	}
	seen := namespaces(descendants(pid))
	if err := l.Down(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if left := (&caller{mark: "none", name: topology.Name, temp: t.TempDir()}).residue(seen); len(left) > 0 {
		t.Errorf("left when Down has returned:\n%s", strings.Join(left, "\n"))
	}
	if _, err := Attach(testContext(t), topology.Name); drill.KindOf(err) != drill.Unreachable {
		t.Errorf("attach to a lab that is down: %v", err)
	}
	if err := l.Down(testContext(t)); err != nil {
		t.Errorf("down again: %v", err)
	}
}

func TestKilledDaemonLeavesNothing(t *testing.T) {
	topology := threeHosts()
	topology.Name = fmt.Sprintf("daemon-%d", rand.Uint32())
	needNamespaces(t, Daemonize(testContext(t), topology, Options{}))
	pid := daemonOf(t, topology.Name)
	seen := namespaces(descendants(pid))
	if len(seen) < 4 {
		t.Fatalf("the check sees only the namespaces %v", slices.Collect(maps.Keys(seen)))
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	(&caller{mark: "none", name: topology.Name, temp: t.TempDir()}).awaitNothing(t, seen)
}

// daemonOf asks the kernel who listens as the lab.
func daemonOf(t *testing.T, name string) int {
	t.Helper()
	c, err := dialName(testContext(t), name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	cred, err := peer(c.conn)
	if err != nil {
		t.Fatal(err)
	}
	return int(cred.Pid)
}

// descendants lists a process and all below it.
func descendants(pid int) []int {
	all := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range tasks {
		text, _ := os.ReadFile(path)
		for _, word := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, descendants(child)...)
			}
		}
	}
	return all
}
