//go:build !hostpart

package cli

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/history"
	"firedrill/internal/lab"
	"firedrill/internal/verdict"
)

const databaseDrillFile = `service: bookstore
endpoint: http://bookstore.example.test/books/
objectives: {rto: 40s, rpo: 0s}
environments:
  blue: {hosts: [{name: blue, address: 10.77.1.10, ssh: {user: root}}]}
  green: {hosts: [{name: green, address: 10.77.1.20, ssh: {user: root}}]}
clients:
  client: {ssh: {address: client, user: root}, every: 100ms, timeout: 2s, ledger: /ledger}
watch: {url: "http://10.77.0.10:7070", token_file: /etc/firedrill/token}
metrics:
  db: {from: each host, connect: "10.77.2.10:5432", every: 500ms, timeout: 400ms}
  status: {from: each host, heartbeat: true, every: 500ms}
alarms:
  "{host}-db": {metric: db, average: "< 1", period: 1s, datapoints: 2 of 2}
  "{host}-status": {metric: status, maximum: ">= 1", missing: breaching, period: 1s, datapoints: 3 of 3}
failover:
  bookstore.example.test:
    servers: ["10.77.0.53"]
    ttl: 1s
    primary: blue
    secondary: green
    unhealthy_when: ["{host}-status"]
databases:
  books:
    hosts:
      - {name: db-a, address: 10.77.2.10, ssh: {user: root}}
      - {name: db-b, address: 10.77.2.11, ssh: {user: root}}
    promote_when: [blue-db, green-db]
    postgresql: {database: books, user: firedrill, password_file: password, sslmode: disable, data: /var/lib/books/main, service: database, replication: user=replicator}
    fence: {trust_armed: true}
`

const databaseZone = `zone: bookstore.example.test
servers: [ns]
negative_ttl: 1s
records:
  ns: {a: [10.77.0.53], ttl: 60s}
failover:
  "@": {ttl: 1s, initial: [10.77.1.10]}
`

// postgresPair is a pair under no other manager than the watch.
func postgresPair(synchronous string) func(t *testing.T) []lab.Host {
	return func(t *testing.T) []lab.Host {
		t.Helper()
		primary, standby := postgresServer(t, "db-a", "10.77.2.10", "primary", "ci", "control"), postgresServer(t, "db-b", "10.77.2.11", "standby-of 10.77.2.10", "ci", "control")
		primary.Services[0].Env = map[string]string{"SYNCHRONOUS": synchronous}
		return []lab.Host{primary, standby}
	}
}

func databaseDrillLab(t *testing.T, file string, servers []lab.Host) *databasetest.Lab {
	t.Helper()
	app, err := filepath.Abs("../../drills/bookstore/app")
	if err != nil {
		t.Fatal(err)
	}
	resolver := []netip.Addr{netip.MustParseAddr("10.77.0.53")}
	files := []lab.File{
		{Path: "/etc/firedrill/firedrill.yaml", Text: file}, {Path: "/etc/firedrill/password", Text: "paperback\n", Mode: 0o600},
		{Path: "/etc/firedrill/token", Text: "0123456789abcdef0123\n", Mode: 0o600},
	}
	environment := func(name, address string) lab.Host {
		return lab.Host{
			Name: name, Address: netip.MustParseAddr(address), SSH: lab.SSHBuiltIn, Trust: []string{"ci", "control"}, Resolver: resolver,
			Files: []lab.File{{Path: "/srv/app", Source: app}},
			Services: []lab.Service{{
				Name: "bookstore", Run: "firedrill bookstore serve --app /srv/app", Restart: lab.RestartAlways,
				Env: map[string]string{"DATABASE_URL": "postgres://firedrill:paperback@10.77.2.11:5432,10.77.2.10:5432/books?sslmode=disable&target_session_attrs=read-write"},
			}},
		}
	}
	service := func(name, run string) []lab.Service {
		return []lab.Service{{Name: name, Run: run, Restart: lab.RestartAlways}}
	}
	servers[0].BootDelay = 20 * time.Second // a machine takes longer still, and Patroni is to promote before that
	return databasetest.Up(t, append(servers,
		lab.Host{Name: "control", Address: netip.MustParseAddr("10.77.0.10"), Files: files, Services: service("watch", "cd /etc/firedrill && exec firedrill watch")},
		lab.Host{
			Name: "ns", Address: resolver[0], Files: []lab.File{{Path: "/etc/firedrill/zone.yaml", Text: databaseZone}},
			Services: service("authority", "exec firedrill authority --zone /etc/firedrill/zone.yaml --watch http://10.77.0.10:7070"),
		},
		lab.Host{Name: "client", Address: netip.MustParseAddr("10.77.0.30"), SSH: lab.SSHBuiltIn, Trust: []string{"ci"}, Resolver: resolver},
		environment("blue", "10.77.1.10"), environment("green", "10.77.1.20"),
	)...)
}

// cutDrill cuts the primary off from all and everything but the one who runs the drill: it lives on, out of reach of the watch.
const cutDrill = `drills:
  cut-primary:
    on: primary of books
    attack: {blackhole: {length: 30s}}
    steady_within: 5m
    expect:
      - alarm "blue-db" within 20s
      - database "books" fails over within 40s
      - old primary of "books" takes no writes
      - answer stays
      - clients recover within 40s
      - no acknowledged write is lost
      - no write is duplicated
      - steady state within 5m of the revert
`

// Drills on a real pair: the host of the primary is shut down, or cut off; the watch promotes the standby, the old primary comes back and is tried,
// and the ledger of the service's clients finds every acknowledged write again.
func TestDrillLosesTheDatabasePrimary(t *testing.T) {
	requirePostgreSQL(t)
	cases := []databaseDrill{{"shut down", "lose-database-primary", databaseDrillFile, postgresPair("")}, {"cut off, synchronous", "cut-primary", databaseDrillFile + cutDrill, postgresPair("*")}}
	if os.Getenv("FIREDRILL_DRILLS") == "all" { // for figures: what each costs is in docs/databases.md
		cases = append(cases, databaseDrill{"shut down, synchronous", "lose-database-primary", databaseDrillFile, postgresPair("*")}, databaseDrill{"cut off", "cut-primary", databaseDrillFile + cutDrill, postgresPair("")})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := c.up(t)
			c.do(t, l, "ordered, ", "fenced db-a", "promoted db-b", "written db-b", "answered again", "no acknowledged write is lost")
			if got := typeOn(t, l, "database", "rebuild", "db-a"); got.code != exitPassed {
				t.Errorf("rebuild: exit code %d", got.code)
			}
		})
	}
}

type databaseDrill struct {
	name, drill, file string
	servers           func(t *testing.T) []lab.Host // the first is the primary
}

// up starts the lab, and gets the service file ready for the drill.
func (c databaseDrill) up(t *testing.T) *databasetest.Lab {
	t.Helper()
	l := databaseDrillLab(t, c.file, c.servers(t))
	for path, text := range map[string]string{"firedrill.yaml": c.file, "password": "paperback\n", "token": "0123456789abcdef0123\n"} {
		if err := l.WriteFile(t.Context(), "ci", "/etc/firedrill/"+path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	awaitTyped(t, l, "database", "status")
	l.Run("db-a", `psql -h /var/lib/books -U postgres -Xqc "grant create on schema public to firedrill" books`)
	var before [][]string
	if strings.Contains(c.file, "trust_armed") {
		before = append(before, []string{"database", "arm"})
	}
	if !strings.Contains(c.file, c.drill) {
		before = append(before, []string{"drills", "add", c.drill})
	}
	for _, args := range before {
		if got := typeOn(t, l, args...); got.code != exitPassed {
			t.Fatalf("%s: exit code %d", args, got.code)
		}
	}
	awaitTyped(t, l, "failover", "status")
	return l
}

// do runs the drill, which must pass and say all of this.
func (c databaseDrill) do(t *testing.T, l *databasetest.Lab, says ...string) {
	t.Helper()
	got := typeOn(t, l, "run", c.drill, "--out", "/root/runs")
	if got.code != exitPassed {
		for _, host := range []string{"control", "blue"} {
			t.Log(l.Run(host, "tail -n 40 /var/log/*.log"))
		}
	}
	checkDatabaseRun(t, l, says)
	if got.code != exitPassed {
		t.Fatalf("the drill: exit code %d", got.code)
	}
}

func checkDatabaseRun(t *testing.T, l *databasetest.Lab, says []string) {
	t.Helper()
	var judged verdict.Verdict
	if err := json.Unmarshal([]byte(l.Run("ci", "cat /root/runs/*/verdict.json")), &judged); err != nil {
		t.Fatal(err)
	}
	var passed []string
	for _, check := range judged.Steps[0].Checks {
		if check.Outcome == history.Passed {
			passed = append(passed, check.Name+": "+check.Explanation)
		}
		t.Logf("%s %s: %s", check.Outcome, check.Name, check.Explanation)
	}
	told := strings.Join(passed, "\n")
	for _, want := range append([]string{"In this order: "}, says...) {
		if !strings.Contains(told, want) {
			t.Errorf("the verdict says nothing of %q", want)
		}
	}
	if page := []byte(l.Run("ci", "cat /root/runs/*/report.html")); !bytes.Contains(page, []byte("promoted db-b")) {
		t.Error("the report does not show the order of events")
	}
}
