package blackhole

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
	"firedrill/internal/drill"
)

// The users of these tests, and a port on which the first one waits.
const (
	clerk     = 4001
	bystander = 4002
	clerkPort = 20
)

// pushed sends from the peer into a connection of the host, and waits for it to come out there.
type pushed struct {
	name      string
	out, into net.Conn
}

func (p pushed) flow() at.Flow {
	return flow(p.name, func(limit time.Duration) error {
		if _, err := p.out.Write([]byte("y")); err != nil {
			return err
		}
		return at.Hear(p.into, limit)
	})
}

// accepted makes a TCP connection from a user of the host to the peer, and returns both its ends.
func accepted(w *at.World, from *at.Namespace) (pushed, error) {
	var listener net.Listener
	if err := w.Peer.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(at.Target4, 0).String())
		return err
	}); err != nil {
		return pushed{}, err
	}
	defer listener.Close()
	port := netip.MustParseAddrPort(listener.Addr().String()).Port()
	into, err := from.Open(at.Target4, port, 5*time.Second)
	if err != nil {
		return pushed{}, err
	}
	out, err := listener.Accept()
	return pushed{name: "what the peer pushes", out: out, into: into}, err
}

// datagrams waits on a UDP port of the host as a user; the peer sends there.
func datagrams(w *at.World, as *at.Namespace) (pushed, error) {
	p := pushed{name: "datagrams from the peer"}
	err := as.Do(func() error {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), clerkPort)))
		p.into = conn
		return err
	})
	if err != nil {
		return p, err
	}
	err = w.Peer.Do(func() (err error) {
		p.out, err = net.Dial("udp", netip.AddrPortFrom(at.Host4, clerkPort).String())
		return err
	})
	return p, err
}

// hitsTheUserAlone: new and established flows of one user are cut both ways, and nobody else's.
func hitsTheUserAlone(w *at.World, _ at.Subject, bug string) error {
	his, others := w.Host.As(clerk), w.Host.As(bystander)
	mine, err1 := accepted(w, his)
	theirs, err2 := accepted(w, others)
	waits, err3 := datagrams(w, his)
	if err := errors.Join(err1, err2, err3, w.Listen(his, clerkPort+1, at.Host4)); err != nil {
		return err
	}
	for _, p := range []pushed{mine, theirs, waits} {
		defer p.out.Close()
		defer p.into.Close()
	}
	inward := func(port uint16) at.Flow {
		return flow(fmt.Sprintf("tcp from the peer to port %d", port), func(limit time.Duration) error { return w.Peer.Connect(at.Host4, port, limit) })
	}
	if err := at.Through(mine.flow(), theirs.flow(), waits.flow(), inward(clerkPort+1), inward(at.Port)); err != nil {
		return err
	}
	return traffictest.During(w, bug, []string{"--ipaddress=" + at.Target4.String() + "," + at.Target6.String(), fmt.Sprint("--user=", clerk)}, func() error {
		cut := append(at.Flows(his, at.Target4), at.Flows(his, at.Target6)...)
		cut = append(cut, mine.flow(), waits.flow(), inward(clerkPort+1))
		through := append(at.Flows(others, at.Target4), at.Flows(others, at.Target6)...)
		through = append(append(through, at.Flows(w.Host, at.Target4)...), theirs.flow(), inward(at.Port))
		return errors.Join(at.Cut(cut...), at.Through(through...), at.Through(at.Flows(his, at.Other4)...))
	})
}

func TestUserScopeHitsTheUserAlone(t *testing.T) {
	t.Parallel()
	must(t, hitsTheUserAlone(at.NewWorld(t), at.Subject{}, ""))
}

func TestWrongUserScopeIsCaught(t *testing.T) {
	for _, bug := range []string{"whole host", "no replies"} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, hitsTheUserAlone, at.Subject{}, bug)
		})
	}
}

// unified is where version 2 of control groups is mounted, on its own or beside version 1.
func unified(t *testing.T) string {
	t.Helper()
	for _, at := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(at + "/cgroup.controllers"); err == nil {
			return at
		}
	}
	at.Missing(t, "kernel", "control groups of version 2")
	return ""
}

// newCgroup makes a control group that goes with the test, and returns its name and what moves a process into it.
func newCgroup(t *testing.T) (name string, enter func(pid int) error) {
	t.Helper()
	directory, err := os.MkdirTemp(unified(t), "firedrill-test-")
	must(t, err)
	t.Cleanup(func() {
		if err := at.Await(func() error { return os.Remove(directory) }); err != nil {
			t.Error(err)
		}
	})
	return "/" + filepath.Base(directory), func(pid int) error {
		return os.WriteFile(directory+"/cgroup.procs", []byte(fmt.Sprint(pid)), 0o644)
	}
}

// hitsTheAgentAlone: all flows of one process are cut both ways, and nobody else's.
func hitsTheAgentAlone(w *at.World, agent, other *at.Agent, bug, scope string) error {
	for _, a := range []*at.Agent{agent, other} {
		if err := errors.Join(a.Ask("open 10.9.0.2"), a.Ask("open fd09::2")); err != nil {
			return err
		}
	}
	if err := errors.Join(agent.Ask("wait"), at.Through(agent.Reach(w)...), agent.Ask("forget")); err != nil {
		return err
	}
	targets := "--ipaddress=" + at.Target4.String() + "," + at.Target6.String()
	return traffictest.During(w, bug, []string{targets, scope}, func() error {
		for _, ask := range []func() error{ // those that wait for an answer first: a planted bug is found at the first one
			func() error { return other.Ask("kept through") },
			func() error { return other.Ask("through 10.9.0.2") },
			func() error { return other.Ask("through fd09::2") },
			func() error { return at.Through(at.Flows(w.Peer, at.Host4)...) },
			func() error { return agent.Ask("through 10.9.0.3") },
			func() error { return agent.Ask("kept cut") },
			func() error { return agent.Ask("cut 10.9.0.2") },
			func() error { return agent.Ask("cut fd09::2") },
			func() error { return at.Cut(agent.Reach(w)...) },
			func() error { return agent.Ask("quiet") },
		} {
			if err := ask(); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestCgroupScopeHitsTheCgroupAlone(t *testing.T) {
	for _, bug := range []string{"", "whole host", "no replies"} {
		t.Run("with "+bug, func(t *testing.T) {
			t.Parallel()
			w := at.NewWorld(t)
			name, enter := newCgroup(t)
			agent := at.StartAgent(t, w.Host, nil, enter)
			other := at.StartAgent(t, w.Host, nil, nil)
			if err := hitsTheAgentAlone(w, agent, other, bug, "--cgroup="+name); (err == nil) != (bug == "") {
				t.Errorf("with the bug %q: %v", bug, err)
			}
		})
	}
}

// In version 1 packets carry the class that their group's net_cls gives. The hierarchy is mounted for this test alone.
func TestCgroupOfVersion1ScopeHitsTheCgroupAlone(t *testing.T) {
	if !at.AloneAsRoot(t) {
		return
	}
	const hierarchy = "/run/net_cls"
	must(t, os.Mkdir(hierarchy, 0o755))
	if err := unix.Mount("net_cls", hierarchy, "cgroup", 0, "net_cls"); err != nil {
		at.Missing(t, "kernel", "net_cls of control groups, version 1: %v", err)
	}
	directory, err := os.MkdirTemp(hierarchy, "firedrill-test-")
	must(t, err)
	t.Cleanup(func() { must(t, at.Await(func() error { return os.Remove(directory) })) })
	w := at.NewWorld(t)
	enter := func(pid int) error { return os.WriteFile(directory+"/cgroup.procs", []byte(fmt.Sprint(pid)), 0o644) }
	agent, other := at.StartAgent(t, w.Host, nil, enter), at.StartAgent(t, w.Host, nil, nil)
	scope := "--cgroup=/" + filepath.Base(directory)
	a, err := w.Start(at.Spec{Args: []string{"--length=60", scope}})
	must(t, err)
	if code, account := a.Wait(); code == 0 || account != nil || !strings.Contains(a.Stderr(), "gives its packets no class") {
		t.Errorf("a group without a class: exit code %d, account %+v, %s", code, account, a.Stderr())
	}
	must(t, os.WriteFile(directory+"/net_cls.classid", []byte("0x00f17e01"), 0o644), hitsTheAgentAlone(w, agent, other, "", scope))
	w2 := at.NewWorld(t)
	agent, other = at.StartAgent(t, w2.Host, nil, enter), at.StartAgent(t, w2.Host, nil, nil)
	err = hitsTheAgentAlone(w2, agent, other, "whole host", scope)
	if err == nil {
		t.Error("the planted bug was not caught")
	}
	t.Logf("caught: %v", err)
}

func TestCgroupThatPacketsAreNotToldApartByIsRefused(t *testing.T) {
	t.Parallel()
	order, err := Kind{}.Order(attack.Values{"cgroup": {"/no/such/group"}})
	must(t, err)
	if _, err := attack.Observe(t.Context(), at.GUID, order); drill.KindOf(err) != drill.Unsupported || drill.HintOf(err) == "" {
		t.Errorf("%v, with the cure %q", err, drill.HintOf(err))
	}
}
