package postgresql

import (
	"context"
	_ "embed"
	"net/netip"
	"os"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/lab"
)

//go:embed testdata/database.sh
var databaseScript string

func TestMain(m *testing.M) {
	databasetest.Main()
	if len(os.Args) == 3 && os.Args[1] == ledgerTool {
		os.Exit(ledgerMain(os.Args[2]))
	}
	os.Exit(m.Run())
}

func postgresHost(name, address, run, synchronous string) lab.Host {
	return lab.Host{
		Name: name, Address: netip.MustParseAddr(address), SSH: lab.SSHBuiltIn, Trust: []string{"ci"},
		Files:    []lab.File{{Path: "/etc/books/database.sh", Text: databaseScript, Mode: 0o755}},
		Services: []lab.Service{{Name: "database", Run: "/etc/books/database.sh " + run, Env: map[string]string{"SYNCHRONOUS": synchronous}, Restart: lab.RestartAlways}},
	}
}

// pair is a primary db-a and a standby db-b in a lab.
type pair struct {
	*databasetest.Lab
	driver *Driver
	hosts  []drill.Host
}

func startPair(t *testing.T, synchronous string) *pair {
	t.Helper()
	databasetest.RequirePostgreSQL(t)
	l := databasetest.Up(t, postgresHost("db-a", "10.77.2.10", "primary", synchronous), postgresHost("db-b", "10.77.2.11", "standby-of 10.77.2.10", synchronous))
	hosts := []drill.Host{databasetest.Host("db-a", "10.77.2.10"), databasetest.Host("db-b", "10.77.2.11")}
	return &pair{Lab: l, hosts: hosts, driver: New(Options{
		Hosts: hosts, Database: "books", User: "firedrill", Password: "paperback", Data: "/var/lib/books/main", Service: "database",
		Replication: "user=replicator", TrustArmed: true, SSH: l.SSH(), DialSQL: l.Dial, ConnectTimeout: 4 * time.Second, SSLMode: "disable",
	})}
}

func (p *pair) subject() *databasetest.Subject {
	table := &databasetest.Table{}
	for _, host := range p.hosts {
		table.Servers = append(table.Servers, p.driver.server(host))
	}
	return &databasetest.Subject{Driver: p.driver, Hosts: [2]string{"db-a", "db-b"}, PowerOff: p.PowerOff, Boot: p.Boot, Add: table.Add, Rows: table.Rows}
}

func TestContractAsynchronous(t *testing.T) { contract(t, "") }
func TestContractSynchronous(t *testing.T)  { contract(t, "*") }

func contract(t *testing.T, synchronous string) {
	t.Parallel()
	p := startPair(t, synchronous)
	databasetest.Run(t, p.subject())
	if !t.Failed() {
		return
	}
	for _, host := range p.hosts {
		if text, err := p.ReadFile(context.WithoutCancel(t.Context()), host.Name, "/var/log/database.log"); err == nil {
			t.Logf("%s says: %s", host.Name, text[max(0, len(text)-3000):])
		}
	}
}
