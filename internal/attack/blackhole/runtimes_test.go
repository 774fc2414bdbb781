package blackhole

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
)

// The real runtimes, each with two containers of its own, on a host of their own. Nothing is fetched: a container's files are one static
// program.

// runtime is one of them.
type runtime struct {
	name   string
	start  func(t *testing.T)                    // until it can run containers
	run    func(t *testing.T, name, root string) // runs a container without a network
	ask    func(t *testing.T, name string) (id string, pid int)
	listen func(t *testing.T) // lets it answer on its socket; nil where it does so anyway, or never
}

// sleeps is what the containers do.
var sleeps = []string{"/bin/busybox", "sleep", "1000"}

// podman keeps what it has where the test may write, and asks nothing of a systemd that is not there.
var podman = []string{"podman", "--root=/var/lib/podman", "--runroot=/run/podman-root", "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file",
	"--runtime=runc"} // crun refuses hosts that have both versions of control groups

func runtimes(group string) []runtime {
	return []runtime{
		{
			name: "docker",
			start: func(t *testing.T) {
				background(t, "dockerd", "--data-root=/var/lib/docker", "--exec-root=/run/docker", "--host=unix:///run/docker.sock", "--bridge=none", "--iptables=false",
					"--ip-forward=false", "--ip-masq=false", "--storage-driver=vfs", "--cgroup-parent=/"+group)
				must(t, at.Await(func() error { return exec.Command("docker", "version").Run() }))
			},
			run: func(t *testing.T, name, root string) {
				said(t, "sh", "-c", "tar -C "+root+" -c . | docker import - "+name)
				said(t, append([]string{"docker", "run", "--detach", "--network=none", "--name=" + name, name}, sleeps...)...)
			},
			ask: func(t *testing.T, name string) (string, int) {
				return idAndPID(t, said(t, "docker", "inspect", "--format={{.Id}} {{.State.Pid}}", name))
			},
		},
		{
			name:  "podman",
			start: func(*testing.T) {},
			run: func(t *testing.T, name, root string) {
				said(t, append(append(podman, "run", "--detach", "--network=none", "--cgroup-parent=/"+group, "--name="+name, "--rootfs", root), sleeps...)...)
			},
			ask: func(t *testing.T, name string) (string, int) {
				return idAndPID(t, said(t, append(podman, "inspect", "--format={{.Id}} {{.State.Pid}}", name)...))
			},
			listen: func(t *testing.T) {
				must(t, os.MkdirAll("/run/podman", 0o700))
				background(t, append(podman, "system", "service", "--time=0", "unix:///run/podman/podman.sock")...)
				must(t, at.Await(func() error { _, err := os.Stat("/run/podman/podman.sock"); return err }))
			},
		},
		{
			name: "containerd",
			start: func(t *testing.T) {
				must(t, os.WriteFile("/run/containerd.toml", []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o600))
				background(t, "containerd", "--config=/run/containerd.toml", "--root=/var/lib/containerd")
				must(t, at.Await(func() error { return exec.Command("ctr", "version").Run() }))
			},
			run: func(t *testing.T, name, root string) { // containerd has no names; this is how nerdctl gives one
				said(t, append([]string{"ctr", "run", "--detach", "--cgroup=/" + group + "/" + name, "--annotation=nerdctl/name=" + name, "--rootfs", root, newID(t)}, sleeps...)...)
			},
			ask: func(t *testing.T, name string) (string, int) {
				for line := range strings.Lines(said(t, "ctr", "tasks", "list")) {
					id, pid := idAndPID(t, line)
					if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); err == nil && strings.Contains(string(text), "/"+group+"/"+name+"\n") {
						return id, pid
					}
				}
				t.Fatalf("containerd has no %s", name)
				return "", 0
			},
		},
	}
}

func idAndPID(t *testing.T, text string) (string, int) {
	t.Helper()
	fields := strings.Fields(text)
	if len(fields) < 2 {
		t.Fatalf("%q is no ID and number", text)
	}
	pid, _ := strconv.Atoi(fields[1]) // of a heading it is 0
	return fields[0], pid
}

// said is what a program prints.
func said(t *testing.T, command ...string) string {
	t.Helper()
	var complaint strings.Builder
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, complaint.String())
	}
	return strings.TrimSpace(string(out))
}

// background starts a daemon, which ends with the host of its own.
func background(t *testing.T, command ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s said: %s", command[0], text)
		}
	})
}

// plugged is a container's network, and where the peer reaches it.
type plugged struct {
	*at.Namespace
	address netip.Addr
}

func plugIn(t *testing.T, w *at.World, pid, number int) plugged {
	t.Helper()
	guest, err := at.OpenNamespace(pid)
	must(t, err)
	t.Cleanup(func() { _ = guest.Close() })
	address, err := w.PlugIn(guest, number)
	must(t, err, w.Listen(guest, at.Port, address))
	must(t, at.Await(func() error {
		return errors.Join(at.Through(at.Flows(guest, at.Target4)...), at.Through(at.Flows(w.Peer, address)...))
	}))
	return plugged{guest, address}
}

// onlyIt: while the attack on one container is in force, its flows are cut both ways, and neither the other's nor the host's; then all is as before.
func onlyIt(w *at.World, one, other plugged, name, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Args: []string{"--length=60", "--container=" + name, "--ipaddress=" + at.Target4.String()}})
	if err != nil {
		return err
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		return err
	}
	if err := bites(w, one, other); err != nil {
		return fmt.Errorf("%w; the attack said: %v", err, a.Events())
	}
	if err := a.Signal(unix.SIGTERM); err != nil {
		return err
	}
	if code, account := a.Wait(); account == nil || !account.Reverted {
		return fmt.Errorf("exit code %d, account %+v", code, account)
	}
	left, err := one.Tables()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("in the container are left: %v", left)
	}
	return errors.Join(err, at.Through(at.Flows(one.Namespace, at.Target4)...), at.Through(at.Flows(w.Peer, one.address)...))
}

// bites: one container is cut from the target, both ways, and nothing else is.
func bites(w *at.World, one, other plugged) error {
	return errors.Join(at.Through(at.Flows(other.Namespace, at.Target4)...), at.Through(at.Flows(w.Peer, other.address)...), at.Through(at.Flows(w.Host, at.Target4)...),
		at.Through(at.Flows(one.Namespace, at.Other4)...), at.Cut(at.Flows(one.Namespace, at.Target4)...), at.Cut(at.Flows(w.Peer, one.address)...))
}

func TestContainersOfRealRuntimesAreHitAlone(t *testing.T) {
	for _, r := range runtimes("") {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			program := map[string]string{"docker": "dockerd", "containerd": "containerd", "podman": "podman"}[r.name]
			if _, err := exec.LookPath(program); err != nil {
				at.Missing(t, "containers", "%s", program)
			}
			if !at.AloneAsRoot(t) {
				return
			}
			holdsFor(t, r.name)
		})
	}
}

func holdsFor(t *testing.T, name string) {
	group := "firedrill-test-" + newID(t)[:12]
	t.Cleanup(func() { removeGroups(t, group) })
	root := t.TempDir()
	must(t, os.Mkdir(root+"/bin", 0o755))
	said(t, "cp", said(t, "sh", "-c", "command -v busybox"), root+"/bin/busybox")
	for _, r := range runtimes(group) {
		if r.name != name {
			continue
		}
		r.start(t)
		r.run(t, "web", root)
		r.run(t, "web-2", root)
		id, pid := r.ask(t, "web")
		_, pid2 := r.ask(t, "web-2")
		w := at.NewWorld(t)
		one, other := plugIn(t, w, pid, 0), plugIn(t, w, pid2, 1)
		for _, name := range []string{id, id[:12], "web"} {
			if err := onlyIt(w, one, other, name, ""); err != nil {
				t.Errorf("by %s: %v", name, err)
			}
		}
		if r.listen != nil {
			r.listen(t)
			must(t, onlyIt(w, one, other, "web", ""))
		}
		if err := onlyIt(w, one, other, id, at.StaysOutside); err == nil {
			t.Error("the planted bug was not caught")
		}
		must(t, unix.Kill(pid, unix.SIGKILL), unix.Kill(pid2, unix.SIGKILL))
	}
}

// removeGroups takes away what runtimes leave of control groups.
func removeGroups(t *testing.T, group string) {
	must(t, at.Await(func() error {
		found, err := filepath.Glob("/sys/fs/cgroup/*/" + group)
		for _, path := range found {
			out, e := exec.Command("find", path, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").CombinedOutput()
			if e != nil || len(out) > 0 {
				err = errors.Join(err, e, errors.New(string(out)))
			}
		}
		return err
	}))
}
