package fleettest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/lab"
)

// topology is a control plane, three web servers, and the database that they need. One web server has an owner who allows no blackhole.
func topology() lab.Topology {
	host := func(name string, last byte) lab.Host {
		return lab.Host{Name: name, Hostname: name, Address: netip.AddrFrom4([4]byte{10, 99, 7, last})}
	}
	t := lab.Topology{Name: fmt.Sprintf("fleet-%d", os.Getpid()), Network: netip.MustParsePrefix("10.99.7.0/24"), Hosts: []lab.Host{host("control", 2), host("web1", 11), host("web2", 12), host("web3", 13), host("db", 20)}}
	t.Hosts[4].SSH = lab.SSHBuiltIn // something that answers
	t.Hosts[3].Files = []lab.File{{Path: "/etc/firedrill/policy.yaml", Text: "deny: [blackhole]\n", Mode: 0o644}}
	return t
}

// rig is a fleet of real programs on the hosts of a lab.
type rig struct {
	t   *testing.T
	lab *lab.Lab
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOf(t, topology(), "control", "web1", "web2", "web3")
}

// newRigOf brings a lab up; when the test fails, what programs on the hosts said is shown.
func newRigOf(t *testing.T, topology lab.Topology, hosts ...string) *rig {
	t.Helper()
	l, err := lab.Up(t.Context(), topology, lab.Options{})
	if drill.KindOf(err) == drill.Unsupported && err != nil && !strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "kernel") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, host := range hosts {
				var out bytes.Buffer
				_, _ = l.Exec(context.Background(), host, lab.Cmd{Args: []string{"sh", "-c", "tail -n 30 /run/*.log"}, Stdout: &out})
				t.Logf("%s:\n%s", host, out.String())
			}
		}
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &rig{t: t, lab: l}
}

// run runs a line of the shell on a host.
func (r *rig) run(host, line string) (code int, out, words string) {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	code, err := r.lab.Exec(r.t.Context(), host, lab.Cmd{Args: []string{"sh", "-c", line}, Env: []string{"FIREDRILL_FLEET=/var/fd/fleet/admin.json"}, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		r.t.Fatalf("%s: %s: %v", host, line, err)
	}
	return code, stdout.String(), stderr.String()
}

func (r *rig) must(host, line string) string {
	r.t.Helper()
	code, out, words := r.run(host, line)
	if code != 0 {
		r.t.Fatalf("%s: %s: exit code %d\n%s%s", host, line, code, out, words)
	}
	return out
}

// start starts a program that stays on; its process is /run/NAME.pid.
func (r *rig) start(host, name, line string) {
	r.t.Helper()
	r.must(host, fmt.Sprintf("setsid sh -c 'echo $$ >/run/%s.pid; exec %s' >>/run/%s.log 2>&1 </dev/null &", name, line, name))
}

// kill ends it as a power cut would.
func (r *rig) kill(host, name string) { r.t.Helper(); r.must(host, "kill -9 $(cat /run/"+name+".pid)") }

func (r *rig) server() {
	r.t.Helper()
	r.start("control", "server", "firedrill server --data /var/fd --listen 127.0.0.1:4566 --dns-listen 127.0.0.1:5353 --fleet-listen :7422 --fleet-address control:7422")
	r.await("the server", func() error {
		if code, _, words := r.run("control", "firedrill fleet hosts"); code != 0 {
			return errors.New(words)
		}
		return nil
	})
}

func (r *rig) await(what string, so func() error) {
	r.t.Helper()
	if err := awaited(so, 2*patience); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

// inForce says whether something is in force on a host, as the host itself sees it.
func (r *rig) inForce(host string) bool {
	r.t.Helper()
	return !strings.Contains(r.must(host, "firedrill status"), "nothing is in force")
}

func (r *rig) whole(host string) func() error {
	return func() error {
		if r.inForce(host) {
			return errors.New("something is in force")
		}
		return nil
	}
}

// attack begins a run and returns it once something is in force.
func (r *rig) attack(host, line string) fleet.Run {
	r.t.Helper()
	var run fleet.Run
	r.await("a run", func() error { // an agent that has come up a moment ago may not be known yet
		code, out, words := r.run("control", "firedrill fleet attack --json --detach --host "+host+" "+line)
		if code != 0 {
			return errors.New(words)
		}
		return json.Unmarshal([]byte(out), &run)
	})
	r.await("the impact", func() error {
		if !r.inForce(host) {
			return errors.New("nothing is in force")
		}
		return nil
	})
	return run
}

// ended waits for the account of a run's only host.
func (r *rig) ended(run fleet.Run) fleet.RunHost {
	r.t.Helper()
	r.await("the end of the run", func() error {
		if err := json.Unmarshal([]byte(r.must("control", "firedrill fleet run --json "+run.ID)), &run); err != nil {
			return err
		}
		if !run.Done() {
			return errors.New(run.State)
		}
		return nil
	})
	return run.Hosts[0]
}

// cut is an attack that is felt: the canary is a connection that must fail while it is in force.
const cut = "blackhole -l 300 -h db --canary db:22"

func TestRealHostsAreWholeAgainWhateverDies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.server()
	join := strings.TrimSpace(r.must("control", "firedrill fleet token --uses 3"))
	agents := []string{"web1", "web2", "web3"}
	for _, host := range agents {
		r.must(host, join+" --tag service=web --zone z"+host)
		r.start(host, "agent", "firedrill agent")
	}
	r.await("the agents", func() error {
		var hosts []fleet.HostView
		err := json.Unmarshal([]byte(r.must("control", "firedrill fleet hosts --json")), &hosts)
		for _, h := range hosts {
			if h.Facts == nil || len(h.Facts.Kinds) == 0 {
				err = errors.Join(err, fmt.Errorf("%s is not there", h.Name))
			}
		}
		return err
	})
	// The owner of a host wins over everybody.
	if code, _, words := r.run("control", "firedrill fleet attack --host web3 "+cut); code != 4 || !strings.Contains(words, "/etc/firedrill/policy.yaml:1") {
		t.Errorf("exit code %d: %s", code, words)
	}
	if r.inForce("web3") {
		t.Error("what the owner denies is in force")
	}
	// Everything is cut but the way to the control plane.
	run := r.attack("web2", "blackhole -l 5 --canary db:22")
	if h := r.ended(run); !h.Bit || !h.Reverted || h.Code != 0 || h.Chain != "whole" {
		t.Errorf("an attack on all traffic: %+v", h)
	}
	// The agent dies.
	run = r.attack("web1", cut)
	r.kill("web1", "agent")
	r.await("the end of what a dead agent began", r.whole("web1"))
	r.start("web1", "agent", "firedrill agent")
	if h := r.ended(run); !h.Reverted || !strings.Contains(h.Reason, "went down") {
		t.Errorf("after the agent died: %+v", h)
	}
	// The control plane dies, and comes back.
	run = r.attack("web1", cut)
	r.kill("control", "server")
	r.await("the end of what a dead control plane ordered", r.whole("web1"))
	r.server()
	if h := r.ended(run); !h.Bit || !h.Reverted || h.Chain != "whole" || !strings.Contains(h.Reason, "was not heard") {
		t.Errorf("after the control plane died: %+v", h)
	}
	// A person says enough.
	run = r.attack("web1", cut)
	if code, out, words := r.run("control", "firedrill halt --all --reason enough"); code != 0 || !strings.Contains(out, "web1, web2, web3") {
		t.Errorf("halt: exit code %d: %s%s", code, out, words)
	}
	if r.inForce("web1") {
		t.Error("after a halt something is in force")
	}
	if h := r.ended(run); !h.Reverted || !strings.Contains(h.Reason, "halt by admin") {
		t.Errorf("after a halt: %+v", h)
	}
	if code, _, words := r.run("control", "firedrill fleet attack --host web1 "+cut); code != 4 || !strings.Contains(words, "the lever is engaged") {
		t.Errorf("after a halt: exit code %d: %s", code, words)
	}
}
