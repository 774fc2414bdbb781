package patroni

import (
	"context"
	_ "embed"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/failover/database/pgsql"
	"firedrill/internal/lab"
)

//go:embed testdata/patroni.sh
var patroniScript string

func TestMain(m *testing.M) {
	databasetest.Main()
	os.Exit(m.Run())
}

const etcdLine = "exec etcd --data-dir /var/lib/etcd --unsafe-no-fsync --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://10.77.2.9:2379 --listen-peer-urls http://127.0.0.1:2380 --log-level error"

func server(name, address, after string) lab.Host {
	return lab.Host{
		Name: name, Address: netip.MustParseAddr(address), SSH: lab.SSHBuiltIn, Trust: []string{"ci"},
		Files:    []lab.File{{Path: "/etc/books/patroni.sh", Text: patroniScript, Mode: 0o755}},
		Services: []lab.Service{{Name: "patroni", Run: "/etc/books/patroni.sh " + name + " " + address + " " + after, Restart: lab.RestartAlways}},
	}
}

// cluster on lab hosts: etcd, and two servers of which db-a is the primary.
func start(t *testing.T) (*databasetest.Lab, *Driver, *databasetest.Subject) {
	t.Helper()
	databasetest.RequirePatroni(t)
	l := databasetest.Up(t,
		lab.Host{Name: "dcs", Address: netip.MustParseAddr("10.77.2.9"), Services: []lab.Service{{Name: "etcd", Run: etcdLine, Restart: lab.RestartAlways}}},
		server("db-a", "10.77.2.10", ""), server("db-b", "10.77.2.11", "10.77.2.10"))
	hosts := []drill.Host{databasetest.Host("db-a", "10.77.2.10"), databasetest.Host("db-b", "10.77.2.11")}
	driver := New(Options{
		Hosts: hosts, User: "patroni", Password: "paperback", Dial: l.Dial, ConnectTimeout: 4 * time.Second,
		SQL: pgsql.Server{Database: "books", User: "firedrill", Password: "paperback", SSLMode: "disable"},
	})
	table := &databasetest.Table{Servers: []pgsql.Server{driver.server(hosts[0]), driver.server(hosts[1])}}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, host := range hosts {
			if text, err := l.ReadFile(context.WithoutCancel(t.Context()), host.Name, "/var/log/patroni.log"); err == nil {
				t.Logf("%s says: %s", host.Name, text[max(0, len(text)-4000):])
			}
		}
	})
	return l, driver, &databasetest.Subject{
		Driver: driver, Hosts: [2]string{"db-a", "db-b"}, PowerOff: l.PowerOff, Boot: l.Boot, Add: table.Add, Rows: table.Rows, ByItself: true, Rejoins: true,
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	_, driver, subject := start(t)
	databasetest.Run(t, subject)
	if t.Failed() {
		return
	}
	records, err := driver.History(t.Context())
	if err != nil || len(records) < 2 {
		t.Errorf("Patroni's history of two moves: %+v, %v", records, err)
	}
	for _, r := range records {
		t.Logf("%s %s %s", r.Time, r.Host, r.Text)
	}
	pausedRefuses(t, driver, subject)
}

// pausedRefuses pauses Patroni and orders a move.
func pausedRefuses(t *testing.T, driver *Driver, subject *databasetest.Subject) {
	t.Helper()
	host := driver.options.Hosts[0]
	if err := driver.call(t.Context(), http.MethodPatch, host, "/config", map[string]any{"pause": true}, nil); err != nil {
		t.Fatal(err)
	}
	for {
		status, err := driver.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if status.Paused {
			break
		}
	}
	_, err := database.Mover{Name: "books", Driver: driver}.Move(t.Context(), database.Order{Planned: true}, database.Seen{})
	if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "paused") {
		t.Errorf("paused: %v", err)
	}
	status, err := driver.Status(t.Context())
	if err != nil || status.Primary() == nil || status.Primary().Host != subject.Hosts[0] {
		t.Errorf("a refused move moved: %s, %v", status, err)
	}
}
