//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/history"
	"firedrill/internal/lab"
)

const databaseServiceFile = `service: bookstore
endpoint: http://bookstore.example.test/
environments: {blue: {hosts: [{name: blue, address: 10.77.1.10}]}, green: {hosts: [{name: green, address: 10.77.1.20}]}}
databases:
  books:
    hosts:
      - {name: db-a, address: 10.77.2.10, ssh: {user: root}}
      - {name: db-b, address: 10.77.2.11, ssh: {user: root}}
    connect_timeout: 2s
    postgresql: {database: books, user: firedrill, password_file: password, sslmode: disable, data: /var/lib/books/main, service: database, replication: user=replicator}
    fence: {trust_armed: true}
`

func requirePostgreSQL(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers")
	}
	if _, err := os.Stat("/usr/lib/postgresql/15/bin/initdb"); err == nil && os.Getuid() == 0 {
		return
	}
	if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "postgresql") {
		t.Fatal("FIREDRILL_REQUIRE asks for PostgreSQL, and root: apt-get install postgresql-15")
	}
	t.Skip("needs root and PostgreSQL 15: apt-get install postgresql-15")
}

// postgresServer is a lab host with PostgreSQL 15.
func postgresServer(t *testing.T, name, address, run string, trust ...string) lab.Host {
	t.Helper()
	script, err := os.ReadFile("../failover/database/postgresql/testdata/database.sh")
	if err != nil {
		t.Fatal(err)
	}
	return lab.Host{
		Name: name, Address: netip.MustParseAddr(address), SSH: lab.SSHBuiltIn, Trust: trust,
		Files:    []lab.File{{Path: "/etc/books/database.sh", Text: string(script), Mode: 0o755}},
		Services: []lab.Service{{Name: "database", Run: "/etc/books/database.sh " + run, Restart: lab.RestartAlways}},
	}
}

// typed is what a command printed on the host ci.
type typed struct {
	code     int
	out, err string
}

func typeOn(t *testing.T, l *databasetest.Lab, args ...string) typed {
	t.Helper()
	var out, errOut bytes.Buffer
	code, err := l.Exec(t.Context(), "ci", lab.Cmd{Args: append([]string{"firedrill"}, args...), Dir: "/etc/firedrill", Stdout: &out, Stderr: &errOut})
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	t.Logf("%v: exit code %d\n%s%s", args, code, out.String(), errOut.String())
	return typed{code, out.String(), errOut.String()}
}

// awaitTyped repeats a command that changes nothing until it ends with 0.
func awaitTyped(t *testing.T, l *databasetest.Lab, args ...string) {
	t.Helper()
	for t.Context().Err() == nil {
		var out bytes.Buffer
		code, err := l.Exec(t.Context(), "ci", lab.Cmd{Args: append([]string{"firedrill"}, args...), Dir: "/etc/firedrill", Stdout: &out, Stderr: &out})
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if code == exitPassed {
			return
		}
	}
	t.Fatalf("%v never ended with 0", args)
}

// What a user types, on a pair of PostgreSQL servers: status, arm, switch, rebuild, the loss of the primary, promote, fence, rebuild.
func TestDatabaseCommandsMoveARealPrimary(t *testing.T) {
	requirePostgreSQL(t)
	t.Parallel()
	l := databasetest.Up(t, postgresServer(t, "db-a", "10.77.2.10", "primary", "ci"), postgresServer(t, "db-b", "10.77.2.11", "standby-of 10.77.2.10", "ci"))
	for path, text := range map[string]string{"/etc/firedrill/firedrill.yaml": databaseServiceFile, "/etc/firedrill/password": "paperback\n"} {
		if err := l.WriteFile(t.Context(), "ci", path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	awaitTyped(t, l, "database", "status")
	for _, row := range []struct {
		args string
		code int
		says string
	}{
		{"database status", exitPassed, "not armed"},
		{"database arm", exitPassed, "armed"},
		{"database status --json", exitPassed, `"armed": true`},
		{"database switch --dry-run", exitPassed, "would fence db-a and promote db-b"},
		{"database promote --dry-run db-a", exitRefused, "only a standby"},
		{"database fence db-a", exitRefused, "only primary"},
		{"database switch db-c", exitUsage, "no host"},
		{"database rebuild db-a", exitRefused, "it is the primary"},
		{"database switch", exitPassed, "tried"},
		{"database status", exitFailed, "firedrill database rebuild db-a"},
		{"database rebuild --dry-run db-a", exitPassed, "would make db-a a standby of db-b"},
		{"database rebuild db-a", exitPassed, "follows db-b"},
		{"database status", exitPassed, "follows"},
	} {
		got := typeOn(t, l, strings.Fields(row.args)...)
		if got.code != row.code || !strings.Contains(got.out+got.err, row.says) {
			t.Fatalf("%s: exit code %d, want %d with %q", row.args, got.code, row.code, row.says)
		}
	}
	if err := l.PowerOff(t.Context(), "db-b"); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args string
		code int
		says string
	}{
		{"database status", exitFailed, "there is no primary"},
		{"database promote", exitRefused, "--allow-loss"},             // nothing was last seen by anybody
		{"database promote --allow-loss", exitRefused, "not certain"}, // db-b was not seen armed by this command
	} {
		got := typeOn(t, l, strings.Fields(row.args)...)
		if got.code != row.code || !strings.Contains(got.out+got.err, row.says) {
			t.Fatalf("%s: exit code %d, want %d with %q", row.args, got.code, row.code, row.says)
		}
	}
	checkPromoteTellsInOrder(t, typeOn(t, l, "database", "promote", "--allow-loss", "--unfenced", "--json"))
	if err := l.Boot(t.Context(), "db-b"); err != nil {
		t.Fatal(err)
	}
	if got := typeOn(t, l, "database", "fence", "db-b"); got.code != exitPassed {
		t.Errorf("fence of an old primary that is back: exit code %d", got.code)
	}
	if got := typeOn(t, l, "database", "rebuild", "db-b"); got.code != exitPassed {
		t.Errorf("rebuild of an old primary that was fenced: exit code %d", got.code)
	}
	var reports []databaseReport
	got := typeOn(t, l, "database", "status", "--json")
	if err := json.Unmarshal([]byte(got.out), &reports); err != nil || got.code != exitPassed || len(reports) != 1 || reports[0].Status.Primary() == nil || reports[0].Status.Primary().Host != "db-a" {
		t.Errorf("at the end: exit code %d, %v", got.code, err)
	}
	movedAsRDS(t, l)
}

const rdsServiceFile = `service: bookstore
endpoint: http://bookstore.example.test/
environments: {blue: {hosts: [{name: blue, address: 10.77.1.10}]}, green: {hosts: [{name: green, address: 10.77.1.20}]}}
aws: {region: eu-west-2, endpoint: "http://127.0.0.1:4566", credentials_file: /root/aws/credentials}
databases:
  books:
    driver: rds
    rds: {instance: books}
    sql: {database: books, user: firedrill, password_file: password, sslmode: disable}
`

// movedAsRDS has the pair, whose primary is db-a, shown as an instance of RDS, and moves it there with Debian's command line, and back with our own
// driver of RDS.
func movedAsRDS(t *testing.T, l *databasetest.Lab) {
	t.Helper()
	if _, err := os.Stat("/usr/bin/aws"); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "awscli") {
			t.Fatal(err)
		}
		return // the rest of the test has shown what it is there for
	}
	if err := l.WriteFile(t.Context(), "ci", "/etc/firedrill/rds.yaml", []byte(rdsServiceFile), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	var said bytes.Buffer
	serving.Go(func() { // ended by us
		_, _ = l.Exec(ctx, "ci", lab.Cmd{Args: []string{"firedrill", "server", "--data", "/root/aws", "--databases", "firedrill.yaml"}, Dir: "/etc/firedrill", Stdout: &said, Stderr: &said})
	})
	defer func() {
		stop()
		serving.Wait()
		if t.Failed() {
			t.Logf("the server said: %s", said.String())
		}
	}()
	l.Run("ci", "until curl -so /dev/null http://127.0.0.1:4566/; do sleep 0.1; done")
	aws := func(line string) string {
		t.Helper()
		return l.Run("ci", "AWS_SHARED_CREDENTIALS_FILE=/root/aws/credentials AWS_DEFAULT_REGION=eu-west-2 /usr/bin/aws --endpoint-url http://127.0.0.1:4566 --output text rds "+line)
	}
	const where = "describe-db-instances --db-instance-identifier books --query 'DBInstances[0].[DBInstanceStatus,AvailabilityZone,SecondaryAvailabilityZone,MultiAZ,Endpoint.Address]'"
	if got := aws(where); got != "available\teu-west-2a\teu-west-2b\tTrue\t10.77.2.10" {
		t.Fatalf("before: %s", got)
	}
	aws("reboot-db-instance --db-instance-identifier books --force-failover")
	for got := ""; got != "available\teu-west-2b\teu-west-2a\tTrue\t10.77.2.11"; got = aws(where) {
		if t.Context().Err() != nil {
			t.Fatalf("it never came to an end: %s", got)
		}
	}
	const moved = "Multi-AZ instance failover started.\tDB instance restarted\tMulti-AZ instance failover completed"
	if got := aws("describe-events --source-type db-instance --source-identifier books --query 'Events[].Message'"); got != moved {
		t.Errorf("events: %s", got)
	}
	for _, row := range []struct{ args, says string }{
		{"database status --file rds.yaml", "eu-west-2b"},
		{"database switch --file rds.yaml", "written    eu-west-2a"},
		{"database history --file rds.yaml", "Multi-AZ instance failover completed"},
	} {
		if got := typeOn(t, l, strings.Fields(row.args)...); got.code != exitPassed || !strings.Contains(got.out, row.says) {
			t.Fatalf("%s: exit code %d, want %q", row.args, got.code, row.says)
		}
	}
	if got := typeOn(t, l, "database", "status"); !strings.Contains(got.out, "db-a  primary") {
		t.Errorf("the driver of RDS did not move the pair")
	}
}

func checkPromoteTellsInOrder(t *testing.T, got typed) {
	t.Helper()
	var steps []string
	for line := range strings.Lines(got.out) {
		var event history.Event
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		steps = append(steps, event.Fact.(*history.DatabaseStep).Step)
	}
	want := []string{
		history.DatabaseLooked, history.DatabaseChosen, history.DatabaseUnfenced, history.DatabasePromoting, history.DatabasePromoted, history.DatabaseWritten,
		history.DatabaseTried,
	}
	if got.code != exitPassed || !slices.Equal(steps, want) {
		t.Errorf("exit code %d, %v, want %v", got.code, steps, want)
	}
}

func TestDatabaseStatusSaysWhatIsWrong(t *testing.T) {
	primary, follower := database.Member{Host: "a", Role: database.Primary}, database.Member{Host: "b", Role: database.Standby, Streaming: true}
	idle := follower
	idle.Streaming = false
	for _, c := range []struct {
		members []database.Member
		wrong   string
	}{
		{[]database.Member{primary, follower}, ""},
		{[]database.Member{primary, idle}, "b does not follow"},
		{[]database.Member{primary, {Host: "b", Role: database.Down}}, "b is down"},
		{[]database.Member{primary, primary}, "2 servers take writes: a, a"},
		{[]database.Member{follower}, "there is no primary: nothing takes writes"},
	} {
		status := database.Status{Members: c.members}
		if got := status.Wrong(); got != c.wrong || got != "" && status.Cure() == "" {
			t.Errorf("%s: %q, want %q", status, got, c.wrong)
		}
	}
}
