package fleettest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"firedrill/internal/fleet"
	"firedrill/internal/lab"
)

// shopFile is a small service: two environments of one host, the database that each connects to, and a name that moves. The watch needs SSH to
// measure on the hosts; the drill does not.
const shopFile = `service: shop
endpoint: http://shop.test/static/status.json
objectives: {rto: 20s}
environments:
  blue:  {hosts: [{name: blue-1, address: 10.99.8.11, ssh: {user: root}}]}
  green: {hosts: [{name: green-1, address: 10.99.8.12, ssh: {user: root}}]}
dependencies:
  db: {address: "db.shop.test:22", critical: always}
clients:
  here: {every: 200ms, timeout: 1s}
deploy:
  source: {git: /nowhere}
  directory: /srv/shop
  healthy: {http: /static/status.json, within: 10s, times: 1}
watch: {url: "http://control.shop.test:7070", token_file: /etc/firedrill/token}
metrics:
  db: {from: each host, connect: db, every: 500ms, timeout: 400ms}
alarms:
  "{host}-db": {metric: db, average: "< 1", period: 1s, datapoints: 2 of 2}
failover:
  shop.test: {servers: [control.shop.test], ttl: 1s, primary: blue, secondary: green, unhealthy_when: ["{host}-db"]}
drills:
  lose-db:
    on: idle environment
    attack: {blackhole: {hostnames: [db], length: 60s}}
    until: decided
    steady_for: 1s
    steady_within: 45s
    expect: ['alarm "{host}-db" within 30s', answer stays, steady state within 45s of the revert]
  # Nobody is at this address, so nothing shows that it was cut off.
  lose-nothing:
    on: idle environment
    attack: {blackhole: {ipaddress: [10.99.8.99], length: 1s}}
    steady_for: 1s
    steady_within: 45s
    expect: [answer stays]
  # The alarm is disabled when this is run; else it is raised after three seconds.
  lose-db-unseen:
    on: idle environment
    attack: {blackhole: {hostnames: [db], length: 60s}}
    until: decided
    steady_for: 1s
    steady_within: 45s
    expect: ['alarm "{host}-db" within 8s']
  for-long:
    on: idle environment
    attack: {blackhole: {hostnames: [db], length: 300s}}
    steady_for: 1s
    steady_within: 45s
    expect: ['alarm "{host}-db" within 30s']
`

const shopZone = `zone: shop.test
ttl: 1s
negative_ttl: 1s
servers: [control]
records:
  control: {a: [10.99.8.2], ttl: 60s}
  db:      {a: [10.99.8.20]}
failover:
  "@": {ttl: 1s, initial: [10.99.8.11]}
`

func shopTopology() lab.Topology {
	control := netip.AddrFrom4([4]byte{10, 99, 8, 2})
	host := func(name string, last byte) lab.Host {
		return lab.Host{Name: name, Hostname: name, Address: netip.AddrFrom4([4]byte{10, 99, 8, last}), Resolver: []netip.Addr{control}}
	}
	t := lab.Topology{Name: fmt.Sprintf("shop-%d", os.Getpid()), Network: netip.MustParsePrefix("10.99.8.0/24"), Hosts: []lab.Host{host("control", 2), host("blue-1", 11), host("green-1", 12), host("db", 20)}}
	service := func(name, run string) lab.Service {
		return lab.Service{Name: name, Run: run, Restart: lab.RestartAlways}
	}
	t.Hosts[0].Files = []lab.File{{Path: "/etc/firedrill/firedrill.yaml", Text: shopFile, Mode: 0o644}, {Path: "/etc/firedrill/zone.yaml", Text: shopZone, Mode: 0o644}, {Path: "/etc/firedrill/token", Text: "nobody-else-can-reach-it\n", Mode: 0o600}}
	t.Hosts[0].Services = []lab.Service{
		service("watch", "exec firedrill watch --file /etc/firedrill/firedrill.yaml --token-file /etc/firedrill/token --state /run/watch.json"),
		service("authority", "exec firedrill authority --zone /etc/firedrill/zone.yaml --watch http://10.99.8.2:7070 --state /run/authority.json"),
	}
	for i := 1; i <= 2; i++ {
		t.Hosts[i].SSH, t.Hosts[i].Trust = lab.SSHBuiltIn, []string{"control"}
		t.Hosts[i].Services = []lab.Service{service("origin", "mkdir -p /srv/shop/releases/one && echo 0123abc >/srv/shop/releases/one/REVISION && ln -sfn releases/one /srv/shop/current && exec firedrill bookstore cdn")}
	}
	t.Hosts[3].SSH = lab.SSHBuiltIn // something that answers
	return t
}

// drilled runs a drill of the shop to its end, and returns its exit code with what was said and what the server keeps of it.
func (r *rig) drilled(name string) (code int, out string, run fleet.DrillRun) {
	r.t.Helper()
	code, out, words := r.run("control", "firedrill fleet drill start shop "+name)
	var all []fleet.DrillRun
	if err := json.Unmarshal([]byte(r.must("control", "firedrill fleet drill list --json")), &all); err != nil || len(all) == 0 {
		r.t.Fatalf("drill %s: exit code %d, %v\n%s%s", name, code, err, out, words)
	}
	return code, out + words, all[0]
}

func TestTheServerConductsDrillsThroughAgents(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, shopTopology(), "control", "blue-1", "green-1")
	r.server()
	join := strings.TrimSpace(r.must("control", "firedrill fleet token --uses 3"))
	r.must("blue-1", join+" --tag service=shop --tag environment=blue")
	r.must("green-1", join+" --tag service=another")
	r.start("blue-1", "agent", "firedrill agent")
	r.must("control", "firedrill fleet service put /etc/firedrill/firedrill.yaml")
	// A file reaches hosts of its service alone, whatever stands in it.
	if code, out, words := r.run("control", "firedrill fleet drill start shop lose-db"); code != 4 || !strings.Contains(words, `as a host of service "another"`) {
		t.Errorf("a host of another service: exit code %d\n%s%s", code, out, words)
	}
	r.must("green-1", join+" --tag service=shop --tag environment=green")
	r.start("green-1", "agent", "firedrill agent")
	r.await("the agents", func() error {
		if code, _, words := r.run("control", "firedrill fleet drill start shop lose-db --dry-run"); code != 0 {
			return errors.New(words)
		}
		return nil
	})

	code, out, run := r.drilled("lose-db")
	if code != 0 || run.Outcome != "passed" || run.Head == "" || run.Version != 1 || r.inForce("green-1") {
		t.Errorf("a drill of what works: exit code %d, %+v\n%s", code, run, out)
	}
	// What the server keeps is a run like any other, whose chain holds.
	if out := r.must("control", "firedrill judge /var/fd/fleet/drills/"+run.Result+"/run.jsonl"); !strings.Contains(out, "passed") {
		t.Errorf("judged again: %s", out)
	}
	code, out, run = r.drilled("lose-nothing")
	if code != 3 || run.Outcome != "inconclusive" {
		t.Errorf("a drill that bites nothing: exit code %d, %+v\n%s", code, run, out)
	}
	// The alarm is disabled: it stays as it is, whatever is lost.
	r.must("control", `curl -sSf -X POST -H "Authorization: Bearer nobody-else-can-reach-it" -d '{"alarms":["green-1-db"],"seconds":600,"reason":"a test"}' http://127.0.0.1:7070/v1/hold`)
	code, out, run = r.drilled("lose-db-unseen")
	if code != 1 || run.Outcome != "failed" || !strings.Contains(out, "green-1-db") || r.inForce("green-1") {
		t.Errorf("a drill whose alarm is disabled: exit code %d, %+v\n%s", code, run, out)
	}
	r.must("control", `curl -sSf -X POST -H "Authorization: Bearer nobody-else-can-reach-it" -d '{"alarms":["green-1-db"],"seconds":0,"reason":"a test"}' http://127.0.0.1:7070/v1/hold`)

	// Halted half-way.
	r.start("control", "drill", "env FIREDRILL_FLEET=/var/fd/fleet/admin.json firedrill fleet drill start shop for-long")
	r.await("the impact", func() error {
		if !r.inForce("green-1") {
			return errors.New("nothing is in force")
		}
		return nil
	})
	if code, out, words := r.run("control", "firedrill fleet attack --host blue-1 cpu -l 1"); code != 4 || !strings.Contains(words, "not attacking") {
		t.Errorf("beside a drill of the service: exit code %d\n%s%s", code, out, words)
	}
	r.must("control", "firedrill halt --all --reason enough")
	if r.inForce("green-1") {
		t.Error("after a halt something is in force")
	}
	r.await("the end of the drill", func() error {
		var all []fleet.DrillRun
		if err := json.Unmarshal([]byte(r.must("control", "firedrill fleet drill list --json")), &all); err != nil {
			return err
		}
		if run = all[0]; !run.Done() {
			return errors.New(run.State)
		}
		return nil
	})
	if run.Outcome != "inconclusive" || run.Left || run.Stopped != "halt by admin" {
		t.Errorf("a drill that was halted: %+v", run)
	}
	if code, _, words := r.run("control", "firedrill fleet drill start shop lose-db"); code != 4 || !strings.Contains(words, "the lever is engaged") {
		t.Errorf("under the lever: exit code %d: %s", code, words)
	}
}
