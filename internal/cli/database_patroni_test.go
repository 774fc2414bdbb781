//go:build !hostpart

package cli

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/lab"
)

// patroniDrillFile is the service file of the drills on a pair, under Patroni in place of the watch; its client is reached through a program.
func patroniDrillFile() string {
	before, _, _ := strings.Cut(databaseDrillFile, "databases:")
	return strings.Replace(before, "ssh: {address: client, user: root}", "via: [ssh, root@client, firedrill]", 1) + `databases:
  books:
    driver: patroni
    hosts:
      - {name: db-a, address: 10.77.2.10, ssh: {user: root}}
      - {name: db-b, address: 10.77.2.11, ssh: {user: root}}
    sql: {database: books, user: firedrill, password_file: password, sslmode: disable}
    patroni: {user: patroni, password_file: password}
`
}

// patroniPair is a pair under Patroni, and its etcd. Without synchronous replication a write may be lost, now and then.
func patroniPair(synchronous bool) func(t *testing.T) []lab.Host {
	return func(t *testing.T) []lab.Host {
		t.Helper()
		script, err := os.ReadFile("../failover/database/patroni/testdata/patroni.sh")
		if err != nil {
			t.Fatal(err)
		}
		server := func(name, address, after string) lab.Host {
			return lab.Host{
				Name: name, Address: netip.MustParseAddr(address), SSH: lab.SSHBuiltIn, Trust: []string{"ci", "control"},
				Files: []lab.File{{Path: "/etc/books/patroni.sh", Text: string(script), Mode: 0o755}},
				Services: []lab.Service{{
					Name: "patroni", Run: "/etc/books/patroni.sh " + name + " " + address + " " + after, Restart: lab.RestartAlways,
					Env: map[string]string{"SYNCHRONOUS": fmt.Sprint(synchronous), "TTL": "10"}, // no lock is lost to a busy machine
				}},
			}
		}
		return []lab.Host{
			server("db-a", "10.77.2.10", ""), server("db-b", "10.77.2.11", "10.77.2.10"),
			{Name: "dcs", Address: netip.MustParseAddr("10.77.2.9"), Services: []lab.Service{{
				Name: "etcd", Restart: lab.RestartAlways,
				Run: "exec etcd --data-dir /var/lib/etcd --unsafe-no-fsync --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://10.77.2.9:2379 --listen-peer-urls http://127.0.0.1:2380 --log-level error",
			}}},
		}
	}
}

// A drill on a real cluster of Patroni, etcd and PostgreSQL: while it is paused the drill is refused and nothing is touched; else Patroni promotes
// the standby of a primary that is shut down, the watch tells and tries what it did, and the ledger of the clients misses nothing.
func TestDrillLosesThePrimaryOfPatroni(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	databasetest.RequirePatroni(t)
	cases := []databaseDrill{{"shut down, synchronous", "lose-database-primary", patroniDrillFile(), patroniPair(true)}}
	if os.Getenv("FIREDRILL_DRILLS") == "all" { // for figures: what each costs is in docs/databases.md
		cases = append(cases,
			databaseDrill{"cut off, synchronous", "cut-primary", patroniDrillFile() + cutDrill, patroniPair(true)},
			databaseDrill{"shut down", "lose-database-primary", patroniDrillFile(), patroniPair(false)},
			databaseDrill{"cut off", "cut-primary", patroniDrillFile() + cutDrill, patroniPair(false)},
		)
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := c.up(t)
			if i == 0 {
				pausedDrillIsRefused(t, l, c.drill)
			}
			c.do(t, l, "promoted db-b", "written db-b", "tried db-a", "answered again", "no acknowledged write is lost")
			awaitTyped(t, l, "database", "status") // Patroni makes a standby of the old primary by itself
			if got := typeOn(t, l, "database", "history"); got.code != exitPassed || !strings.Contains(got.out, "db-b") {
				t.Errorf("history: exit code %d", got.code)
			}
		})
	}
}

func pausedDrillIsRefused(t *testing.T, l *databasetest.Lab, drill string) {
	t.Helper()
	pause := func(paused bool) {
		l.Run("ci", fmt.Sprintf(`curl -sfo /dev/null -u patroni:paperback -X PATCH -d '{"pause": %v}' http://10.77.2.10:8008/config
for host in 10.77.2.10 10.77.2.11; do
	until test "$(curl -s http://$host:8008/patroni | grep -c '"pause": true')" = %d; do sleep 0.1; done
done`, paused, map[bool]int{true: 1}[paused]))
	}
	pause(true)
	got := typeOn(t, l, "run", drill, "--out", "/root/refused")
	if got.code != exitRefused || !strings.Contains(got.err, "paused") || !strings.Contains(got.err, "patronictl resume") {
		t.Errorf("a drill on a paused cluster: exit code %d, want %d", got.code, exitRefused)
	}
	if told := l.Run("db-a", "curl -s http://10.77.2.10:8008/patroni"); !strings.Contains(told, `"role": "master"`) && !strings.Contains(told, `"role": "primary"`) {
		t.Errorf("a refused drill moved the primary: %s", told)
	}
	pause(false)
}
