package blackhole

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/containers/critest"
	"firedrill/internal/history"
)

// pod is one made out of namespaces: a process in a network and a PID namespace of its own, and what a runtime says of it.
type pod struct {
	critest.Pod
	network *at.Namespace
	process *at.Agent
}

// addPod puts a pod of an application into the world.
func addPod(t *testing.T, w *at.World, name, app string) pod {
	t.Helper()
	network, err := w.AddGuest()
	must(t, err)
	process := at.StartAgent(t, network, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, nil)
	must(t, at.Await(func() error { return network.Connect(at.Target4, at.Port, time.Second) }))
	return pod{network: network, process: process, Pod: critest.Pod{Namespace: "shop", Name: name, UID: "uid-" + name, Sandbox: newID(t), PID: process.PID, Labels: map[string]string{"app": app}}}
}

// shop is a host with two pods of one application and one of another.
type shop struct {
	w       *at.World
	web     []pod
	api     pod
	runtime *critest.Server
}

func newShop(t *testing.T) shop {
	t.Helper()
	w := at.NewWorld(t)
	s := shop{w: w, web: []pod{addPod(t, w, "web-0", "web"), addPod(t, w, "web-1", "web")}, api: addPod(t, w, "api-0", "api")}
	s.runtime = critest.Serve(t, s.web[0].Pod, s.web[1].Pod, s.api.Pod)
	w.Pods = s.runtime.Socket
	return s
}

func (s shop) start(t *testing.T, bug string, args ...string) *at.Attack {
	t.Helper()
	a, err := s.w.Start(at.Spec{Bug: bug, Args: append([]string{"--length=60", "--ipaddress=" + at.Target4.String()}, args...)})
	must(t, err)
	t.Cleanup(a.Stop)
	return a
}

// webAlone: both pods of the application are cut from the target, and nobody else is.
func (s shop) webAlone() error {
	return errors.Join(at.Cut(at.Flows(s.web[0].network, at.Target4)...), at.Cut(at.Flows(s.web[1].network, at.Target4)...),
		at.Through(at.Flows(s.web[0].network, at.Other4)...), at.Through(at.Flows(s.api.network, at.Target4)...), at.Through(at.Flows(s.w.Host, at.Target4)...))
}

// clear: nobody is cut, and no table is left in a pod.
func (s shop) clear() error {
	var errs []error
	for _, pod := range append(slices.Clone(s.web), s.api) {
		left, err := pod.network.Tables()
		if len(left) > 0 {
			err = fmt.Errorf("in %s are left: %v", pod.Name, left)
		}
		errs = append(errs, err, at.Through(at.Flows(pod.network, at.Target4)...))
	}
	return errors.Join(errs...)
}

func (s shop) hit(t *testing.T, bug string) error {
	a := s.start(t, bug, "--pod=app=web", "--pod-namespace=shop")
	if _, err := a.AwaitInForce(); err != nil {
		return fmt.Errorf("%w: %v", err, a.Events())
	}
	if err := s.webAlone(); err != nil {
		return err
	}
	// Both have tried for a while, so their counters will have been read.
	must(t, a.Signal(unix.SIGTERM))
	code, account := a.Wait()
	if code != 128+int(unix.SIGTERM) || account == nil || !account.Reverted || !account.Bit {
		return fmt.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
	}
	var names []string
	for _, pod := range account.Pods {
		if pod.Bit == nil || !*pod.Bit || pod.Reverted == nil || !*pod.Reverted || pod.Packets == 0 {
			return fmt.Errorf("the account says %+v", pod)
		}
		names = append(names, pod.Namespace+"/"+pod.Name+" "+pod.UID)
	}
	if got := strings.Join(names, ", "); got != "shop/web-0 uid-web-0, shop/web-1 uid-web-1" || account.Packets == 0 {
		return fmt.Errorf("the account names %q and %d packets", got, account.Packets)
	}
	return s.clear()
}

func TestEveryPodOfASelectorIsHitAndNothingElse(t *testing.T) {
	for _, bug := range []string{"", at.StaysOutside, at.FirstPodAlone, at.PartsStay} {
		t.Run("with "+bug, func(t *testing.T) {
			t.Parallel()
			if err := newShop(t).hit(t, bug); (err == nil) != (bug == "") {
				t.Errorf("with the bug %q: %v", bug, err)
			}
		})
	}
}

// Whatever happens to the process that leads, the pods are as they were; and who looks for the attack on the host finds it, once.
func TestAttackOnPodsHoldsTheContract(t *testing.T) {
	for _, check := range at.Contract() {
		switch check.Name {
		case "RevertsOnTerm", "RevertsAtDeadline", "EndsAtDeadlineWhileStopped", "EndsWhenStdinEnds", "RefusesSameGUID", "HaltEndsAll", "HaltEndsStopped":
		default:
			continue // a part holds it as an attack on a container does
		}
		t.Run(check.Name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			must(t, check.Run(s.w, at.Subject{
				Args: []string{"--pod=app=web", "--pod-namespace=shop", "--ipaddress=" + at.Target4.String()},
				Felt: func(*at.World) error {
					return errors.Join(at.Cut(at.Flows(s.web[0].network, at.Target4)...), at.Cut(at.Flows(s.web[1].network, at.Target4)...))
				},
				Clear: func(*at.World) error { return s.clear() },
			}, ""))
		})
	}
}

// parts are the processes that an attack leads, with the first pod's first.
func (s shop) parts(a *at.Attack) ([]int, error) {
	found := map[string]int{}
	err := at.Await(func() error {
		paths, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range paths {
			text, err := os.ReadFile(path)
			_, rest, cut := strings.Cut(string(text), ") ")
			if err != nil || !cut || strings.Fields(rest)[1] != fmt.Sprint(a.PID) {
				continue
			}
			environment, err := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
			for _, pod := range s.web {
				if err == nil && strings.Contains(string(environment), `"sandbox":"`+pod.Sandbox) {
					found[pod.Name] = pidOf(path)
				}
			}
		}
		if len(found) < len(s.web) {
			return fmt.Errorf("parts found: %v", found)
		}
		return nil
	})
	return []int{found["web-0"], found["web-1"]}, err
}

func pidOf(path string) (pid int) {
	_, _ = fmt.Sscanf(path, "/proc/%d/stat", &pid)
	return pid
}

// The whole ends with each of its parts, whatever ends it, and takes everything back.
func TestAttackOnPodsEndsWithEachOfItsParts(t *testing.T) {
	for name, end := range map[string]func(s shop, a *at.Attack, parts []int) error{
		"the leader is killed": func(_ shop, a *at.Attack, _ []int) error { return a.Signal(unix.SIGKILL) },
		"a part is killed":     func(_ shop, _ *at.Attack, parts []int) error { return unix.Kill(parts[1], unix.SIGKILL) },
		"a part is frozen, then the whole is ended": func(_ shop, a *at.Attack, parts []int) error {
			return errors.Join(unix.Kill(parts[0], unix.SIGSTOP), a.Signal(unix.SIGTERM))
		},
		"a pod ends": func(s shop, _ *at.Attack, _ []int) error { return unix.Kill(s.web[0].process.PID, unix.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			a := s.start(t, "", "--pod=app=web", "--pod-namespace=shop")
			_, err := a.AwaitInForce()
			must(t, err, s.webAlone())
			parts, err := s.parts(a)
			must(t, err, end(s, a, parts))
			code, account := a.Wait()
			killed := name == "the leader is killed"
			if code == 0 || killed != (account == nil) || !killed && !account.Reverted {
				t.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
			}
			must(t, at.Await(s.clear))
		})
	}
}

// refused starts an attack that must not begin, and returns what it says.
func (s shop) refused(t *testing.T, args ...string) string {
	t.Helper()
	a := s.start(t, "", args...)
	code, account := a.Wait()
	var why string
	for _, event := range a.Events() {
		switch fact := event.Fact.(type) {
		case *history.AttackRefused:
			why = fact.Reason + "; " + fact.Cure
		case *history.AttackInForce:
			t.Errorf("%q was in force", args)
		}
	}
	if code == 0 || account != nil || why == "" {
		t.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
	}
	return why
}

func TestAttackOnPodsIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	must(t, s.web[1].network.Do(func() error { // it has no device of this name any more
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, "eth1"), netlink.LinkSetUp(link)) // before Linux 6.2 it must be down
	}))
	for want, args := range map[string][]string{
		"--pod=app=db in namespace shop: none of the 3 pods": {"--pod=app=db", "--pod-namespace=shop"},
		"in namespace default: none of the 0 pods":           {"--pod=app=web"},
		"the key of a label is missing":                      {"--pod=app=web,,", "--pod-namespace=shop"},
		"is no name of a namespace":                          {"--pod=app=web", "--pod-namespace=Shop!"},
		"exclude each other":                                 {"--pod=app=web", "--user=root"},
		"name the labels of pods":                            {"--pod-namespace=shop"},
		"pod shop/web-1: ":                                   {"--pod=app=web", "--pod-namespace=shop", "--device=eth0"},
	} {
		if why := s.refused(t, args...); !strings.Contains(why, want) {
			t.Errorf("%q: %s, want %s", args, why, want)
		}
	}
	network := s.api
	network.PID = at.StartAgent(t, s.w.Host, nil, nil).PID
	s.runtime.Set(s.web[0].Pod, s.web[1].Pod, network.Pod)
	if why := s.refused(t, "--pod=app in (web, api)", "--pod-namespace=*"); !strings.Contains(why, "pod shop/api-0 shares the network of this host") {
		t.Errorf("a pod with the host's network: %s", why)
	}
	for _, pod := range s.web {
		left, err := pod.network.Tables()
		if err != nil || len(left) > 0 {
			t.Errorf("in %s are left %v, %v", pod.Name, left, err)
		}
	}
}

// A canary keeps one part waiting: the other does not begin before. A part that does not wait for the others does.
func TestNoPartBeginsBeforeAllMay(t *testing.T) {
	for _, bug := range []string{"", at.GatesOpen} {
		t.Run("with "+bug, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			must(t, s.web[1].network.Do(func() error { // what is sent to the other address goes to a neighbour who is not there
				link, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				to, via := at.Other4.AsSlice(), netip.MustParseAddr("10.8.1.99").AsSlice()
				return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: to, Mask: net.CIDRMask(32, 32)}, Gw: via})
			}))
			early := false
			for tries := 0; tries < 10 && !early && (bug != "" || tries == 0); tries++ {
				early = s.beginsEarly(t, bug)
			}
			if early != (bug != "") {
				t.Errorf("with the bug %q a part began before all were planned: %v", bug, early)
			}
		})
	}
}

// beginsEarly reports whether a part was in force before the whole was planned, by the attack's own clock.
func (s shop) beginsEarly(t *testing.T, bug string) bool {
	t.Helper()
	a := s.start(t, bug, "--pod=app=web", "--pod-namespace=shop", "--canary="+netip.AddrPortFrom(at.Other4, at.Port).String())
	_, err := a.AwaitInForce()
	must(t, err, a.Signal(unix.SIGTERM))
	_, account := a.Wait()
	for _, event := range a.Events() {
		if _, planned := event.Fact.(*history.AttackPlanned); planned && account != nil {
			return slices.ContainsFunc(account.Pods, func(p history.AttackPod) bool { return p.InForceAt != nil && p.InForceAt.Before(event.At) })
		}
	}
	t.Fatalf("no plan and account: %s", a.Stderr())
	return false
}
