package drill

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
)

const databaseHead = "service: s\nendpoint: http://s.example.com/\nwatch: {url: 'http://w:7070'}\n" +
	"environments: {blue: {hosts: [{name: b, address: 10.0.0.1}]}, green: {hosts: [{name: g, address: 10.0.0.2}]}}\n"

func TestExampleOfTheDatabasesPageIsUnderstood(t *testing.T) {
	page, err := os.ReadFile("../../docs/databases.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(examples) == 0 {
		t.Fatal("the page shows no service file")
	}
	for _, example := range examples {
		service, err := ParseService([]byte(databaseHead+example[1]), "databases.md")
		if err != nil {
			t.Fatal(err)
		}
		if len(service.Databases) == 0 {
			t.Errorf("no database is read from:\n%s", example[1])
		}
	}
}

func TestDatabasesThatCannotBeAreNamed(t *testing.T) {
	const hosts = "hosts: [{name: a, address: 10.0.1.1}, {name: c, address: 10.0.1.2}]"
	const section = "postgresql: {database: d, user: u, data: /d, replication: user=r}"
	for text, want := range map[string]string{
		"{" + hosts + "}": "f:5:16: databases.d: postgresql is missing",
		"{driver: postgres, " + hosts + ", " + section + "}":                                                                                  "f:5:25: databases.d.driver: \"postgres\" is not known; did you mean \"postgresql\"",
		"{hosts: [{name: a, address: 10.0.1.1}], " + section + "}":                                                                            "databases.d.hosts: 1 of at least 2 hosts",
		"{hosts: [{name: a, address: 10.0.1.1}, {name: a, address: 10.0.1.2}], " + section + "}":                                              "a is named twice",
		"{hosts: [{name: a, address: 10.0.1.1}, {name: c, address: 10.0.1.1}], " + section + "}":                                              "10.0.1.1 is the address of a already",
		"{hosts: [{name: b, address: 10.0.1.1}, {name: c, address: 10.0.1.2}], " + section + "}":                                              "an environment has a host b with another address",
		"{driver: patroni, " + hosts + "}":                                                                                                    "sql is missing; driver patroni needs it",
		"{driver: patroni, " + hosts + ", " + section + "}":                                                                                   "databases.d.postgresql: is not for driver patroni",
		"{driver: patroni, " + hosts + ", sql: {database: d, user: u}, fence: {trust_armed: true}}":                                           "databases.d.fence: is not for driver patroni",
		"{driver: patroni, " + hosts + ", sql: {database: d, user: u}, patroni: {ca_file: x}}":                                                "https: true",
		"{driver: patroni, " + hosts + ", sql: {database: d, user: u, port: 70000}}":                                                          "70000 is no port",
		"{driver: patroni, " + hosts + ", sql: {database: d, user: u}, promote_when: [b]}":                                                    "patroni promotes by itself",
		"{" + hosts + ", " + section + ", patroni: {port: 1}}":                                                                                "write driver: patroni",
		"{driver: exec, " + hosts + "}":                                                                                                       "exec is missing; driver exec needs it",
		"{driver: exec, " + hosts + ", exec: {status: [s], write: [w], fence: [f], promote: [p]}}":                                            "rebuild is missing",
		"{driver: exec, " + hosts + ", exec: {status: [s], write: [w], fence: [f], promote: [p], rebuild: []}}":                               "names no program",
		"{driver: exec, " + hosts + ", sql: {database: d, user: u}, exec: {status: [s], write: [w], fence: [f], promote: [p], rebuild: [r]}}": "databases.d.sql: is not for driver exec",
		"{driver: rds, rds: {instance: i}}":                                                                                                   "sql is missing; driver rds needs it",
		"{driver: rds, sql: {database: d, user: u}}":                                                                                          "rds is missing; driver rds needs it",
		"{driver: rds, " + hosts + ", sql: {database: d, user: u}, rds: {instance: i}}":                                                       "no hosts of its own",
		"{driver: rds, sql: {database: d, user: u, port: 5433}, rds: {instance: i}}":                                                          "RDS says on which port",
		"{" + hosts + ", promote_when: [x], " + section + "}":                                                                                 "no alarm \"x\"",
		"{" + hosts + ", postgresql: {database: d, user: u, data: d, replication: user=r}}":                                                   "\"d\" is not an absolute directory",
		"{" + hosts + ", postgresql: {database: d, user: u, data: /d, replication: \"password='x'\"}}":                                        "passfile=",
		"{" + hosts + ", postgresql: {database: d, user: u, data: /d, replication: r, synchronous: never}}":                                   "\"never\" is not known",
		"{" + hosts + ", postgresql: {database: d, user: u, data: /d, replication: r, sslmode: on}}":                                          "is not known",
		"{" + hosts + ", postgresql: {user: u, data: /d, replication: r}}":                                                                    "database is missing",
	} {
		_, err := ParseService([]byte(databaseHead+"databases: {d: "+text+"}"), "f")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v, want %q", text, err, want)
		}
	}
	// A host of an environment may hold the database too.
	if _, err := ParseService([]byte(databaseHead+"databases: {d: {hosts: [{name: b, address: 10.0.0.1}, {name: g, address: 10.0.0.2}], "+section+"}}"), "f"); err != nil {
		t.Error(err)
	}
}

func TestPrimaryThatIsCutOffFromEverythingHasTheOtherServersAsCanaries(t *testing.T) {
	d := &Database{
		Hosts: []Host{{Name: "a", Address: netip.MustParseAddr("10.0.1.1")}, {Name: "c", Address: netip.MustParseAddr("10.0.1.2")}}, SQL: &SQL{Port: 5433},
	}
	for _, c := range []struct {
		order Order
		d     *Database
		want  string
	}{
		{Order{Attack: "blackhole", Args: []string{"--length=30"}}, d, "10.0.1.2:5433"},
		{Order{Attack: "blackhole", Args: []string{"--egress_port=80", "--length=30"}}, d, ""},
		{Order{Attack: "latency", Args: []string{"--length=30"}}, d, ""},
		{Order{Attack: "blackhole", Args: []string{"--length=30"}}, &Database{Hosts: d.Hosts}, ""},
	} {
		if got := strings.Join(databaseCanaries(c.order, c.d, d.Hosts[0]), " "); got != c.want {
			t.Errorf("%v: %q, want %q", c.order, got, c.want)
		}
	}
}
