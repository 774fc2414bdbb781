package postgresql

import (
	"context"
	_ "embed"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
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

func requirePostgres(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		if _, err := os.Stat("/usr/lib/postgresql/15/bin/initdb"); err == nil {
			return
		}
	}
	if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "postgresql") {
		t.Fatal("FIREDRILL_REQUIRE asks for PostgreSQL, and root: apt-get install postgresql-15")
	}
	t.Skip("needs root and PostgreSQL 15: apt-get install postgresql-15")
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
	last   int // where the primary was found
}

func startPair(t *testing.T, synchronous string) *pair {
	t.Helper()
	requirePostgres(t)
	l := databasetest.Up(t, postgresHost("db-a", "10.77.2.10", "primary", synchronous), postgresHost("db-b", "10.77.2.11", "standby-of 10.77.2.10", synchronous))
	hosts := []drill.Host{databasetest.Host("db-a", "10.77.2.10"), databasetest.Host("db-b", "10.77.2.11")}
	return &pair{Lab: l, hosts: hosts, driver: New(Options{
		Hosts: hosts, Database: "books", User: "firedrill", Password: "paperback", Data: "/var/lib/books/main", Service: "database",
		Replication: "user=replicator", TrustArmed: true, SSH: l.SSH(), DialSQL: l.Dial, ConnectTimeout: 4 * time.Second, SSLMode: "disable",
	})}
}

// sql runs a statement on the primary: where it was last, or anywhere else.
func (p *pair) sql(ctx context.Context, statement string) (string, error) {
	var errs []error
	for range p.hosts {
		text, err := p.sqlOn(ctx, p.hosts[p.last], statement)
		if err == nil || stateOf(err) == "42P01" {
			return text, err
		}
		errs = append(errs, err)
		p.last = (p.last + 1) % len(p.hosts)
	}
	return "", errors.Join(errs...)
}

func (p *pair) sqlOn(ctx context.Context, host drill.Host, statement string) (string, error) {
	s, err := p.driver.connect(ctx, host)
	if err != nil {
		return "", err
	}
	defer s.close()
	if recovering, err := s.text(ctx, "select pg_is_in_recovery()::text"); err != nil || recovering != "false" {
		return "", errors.Join(err, errors.New(host.Name+" is no primary"))
	}
	return s.text(ctx, statement)
}

func (p *pair) subject() *databasetest.Subject {
	return &databasetest.Subject{
		Driver: p.driver, Hosts: [2]string{"db-a", "db-b"}, PowerOff: p.PowerOff, Boot: p.Boot,
		Add: func(ctx context.Context) error {
			_, err := p.sql(ctx, "insert into firedrill.rows default values returning 1")
			if stateOf(err) == "42P01" {
				if _, err := p.sql(ctx, "create table firedrill.rows (at timestamptz default now())"); err != nil {
					return err
				}
				_, err = p.sql(ctx, "insert into firedrill.rows default values returning 1")
			}
			return err
		},
		Rows: func(ctx context.Context) (int, error) {
			text, err := p.sql(ctx, "select count(*)::text from firedrill.rows")
			if err != nil {
				return 0, err
			}
			return strconv.Atoi(text)
		},
	}
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
