package blackhole

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

// container is one made out of namespaces: a process in a network and a PID namespace of its own, and in a control group as Docker names it.
func container(t *testing.T, w *at.World, id string) *at.Agent {
	t.Helper()
	directory := unified(t) + "/docker-" + id + ".scope"
	must(t, os.Mkdir(directory, 0o755))
	t.Cleanup(func() {
		if err := at.Await(func() error { return os.Remove(directory) }); err != nil {
			t.Error(err)
		}
	})
	guest, err := w.AddGuest()
	must(t, err)
	agent := at.StartAgent(t, guest, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, func(pid int) error {
		return os.WriteFile(directory+"/cgroup.procs", []byte(fmt.Sprint(pid)), 0o644)
	})
	must(t, at.Await(func() error { return guest.Connect(at.Target4, at.Port, time.Second) }))
	return agent
}

func newID(t *testing.T) string {
	t.Helper()
	id := make([]byte, 32)
	_, err := rand.Read(id)
	must(t, err)
	return hex.EncodeToString(id)
}

// hitsTheContainerAlone: the container's flows are cut, and the host's are not.
func hitsTheContainerAlone(w *at.World, agent *at.Agent, spec at.Spec) error {
	if err := errors.Join(agent.Ask("open 10.9.0.2"), agent.Ask("kept through")); err != nil {
		return err
	}
	spec.Args = append(spec.Args, "--length=60", "--ipaddress="+at.Target4.String())
	a, err := w.Start(spec)
	if err != nil {
		return err
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		return fmt.Errorf("%w: %v", err, a.Events())
	}
	return errors.Join(agent.Ask("kept cut"), agent.Ask("cut 10.9.0.2"), agent.Ask("through 10.9.0.3"), at.Through(at.Flows(w.Host, at.Target4)...))
}

func TestContainerIsHitAlone(t *testing.T) {
	for _, bug := range []string{"", at.StaysOutside} {
		t.Run("with "+bug, func(t *testing.T) {
			t.Parallel()
			w, id := at.NewWorld(t), newID(t)
			err := hitsTheContainerAlone(w, container(t, w, id), at.Spec{Bug: bug, Args: []string{"--container=" + id[:12]}})
			if (err == nil) != (bug == "") {
				t.Errorf("with the bug %q: %v", bug, err)
			}
		})
	}
}

func TestContainerIsHitByTheNameThatItsRuntimeKnows(t *testing.T) {
	t.Parallel()
	w, id := at.NewWorld(t), newID(t)
	agent := container(t, w, id)
	socket := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", socket)
	must(t, err)
	served := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-served })
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			question := make([]byte, 4096)
			n, _ := conn.Read(question)
			answer := "404 Not Found\r\n\r\n{}"
			if strings.HasPrefix(string(question[:n]), "GET /containers/web/json ") {
				answer = fmt.Sprintf("200 OK\r\nServer: Docker\r\n\r\n"+`{"Id":%q,"Name":"/web","State":{"Running":true,"Pid":%d}}`, id, agent.PID)
			}
			_, _ = conn.Write([]byte("HTTP/1.0 " + answer))
			_ = conn.Close()
		}
	}()
	must(t, hitsTheContainerAlone(w, agent, at.Spec{Engine: socket, Args: []string{"--container=web"}}))
}

// Whatever happens to the attack, the container is as it was; and who looks for it on the host finds it.
func TestAttackOnAContainerHoldsTheContract(t *testing.T) {
	for _, check := range at.Contract() {
		switch check.Name {
		case "RevertsOnTerm", "RevertsAtDeadline", "LeavesNothingWhenKilledAnywhere", "EndsAtDeadlineWhileStopped", "EndsWhenStdinEnds", "RefusesSameGUID",
			"HaltEndsAll", "HaltEndsStopped":
		default:
			continue // of two at the same time each has a table of its own, there as here
		}
		t.Run(check.Name, func(t *testing.T) {
			t.Parallel()
			w, id := at.NewWorld(t), newID(t)
			container(t, w, id)
			flows := func() []at.Flow { return at.Flows(w.Guest(), at.Target4) }
			must(t, check.Run(w, at.Subject{
				Args: []string{"--container=" + id, "--ipaddress=" + at.Target4.String()},
				Felt: func(*at.World) error { return at.Cut(flows()...) },
				Clear: func(*at.World) error {
					tables, err := w.Guest().Tables()
					if frozen := check.Name == "EndsAtDeadlineWhileStopped"; len(tables) > 0 && !frozen {
						err = fmt.Errorf("in the container are left: %v", tables)
					}
					return errors.Join(err, at.Through(flows()...))
				},
			}, ""))
		})
	}
}

func TestAttackEndsWithItsContainer(t *testing.T) {
	t.Parallel()
	w, id := at.NewWorld(t), newID(t)
	agent := container(t, w, id)
	a := traffictest.Begin(t, w, "--container="+id)
	must(t, unix.Kill(agent.PID, unix.SIGKILL))
	if code, account := a.Wait(); code == 0 || account == nil || !account.Reverted {
		t.Errorf("exit code %d, account %+v", code, account)
	}
}

func TestContainerThatSharesTheHostsNetworkIsRefused(t *testing.T) {
	t.Parallel()
	w, id := at.NewWorld(t), newID(t)
	directory := unified(t) + "/docker-" + id + ".scope"
	must(t, os.Mkdir(directory, 0o755))
	t.Cleanup(func() { _ = at.Await(func() error { return os.Remove(directory) }) })
	at.StartAgent(t, w.Host, nil, func(pid int) error { return os.WriteFile(directory+"/cgroup.procs", []byte(fmt.Sprint(pid)), 0o644) })
	a, err := w.Start(at.Spec{Args: []string{"--length=60", "--container=" + id}})
	must(t, err)
	t.Cleanup(a.Stop)
	if code, account := a.Wait(); code == 0 || account != nil || !strings.Contains(a.Stderr(), "shares the network of this host") {
		t.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
	}
}
