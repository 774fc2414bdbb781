//go:build !attackpart

package drill

import (
	"fmt"
	"slices"
	"strings"
)

// The drivers of a database: who moves its primary, and how.
const (
	DatabasePostgreSQL = "postgresql" // ourselves, over SQL and SSH
	DatabasePatroni    = "patroni"    // Patroni, over its REST API
	DatabaseExec       = "exec"       // programs of the user's
	DatabaseRDS        = "rds"        // Amazon RDS, a Multi-AZ instance of PostgreSQL
)

var databaseDrivers = []string{DatabasePostgreSQL, DatabasePatroni, DatabaseExec, DatabaseRDS}

const databaseHostsMin = 2

// Database is a database whose primary can move from one of its hosts to another.
type Database struct {
	Name        string      `yaml:"-" json:"name"`
	Driver      string      `yaml:"driver" json:"driver"`                                     // postgresql (default), patroni, exec or rds
	Hosts       []Host      `yaml:"hosts" json:"hosts,omitempty"`                             // its servers; none for rds
	PromoteWhen []string    `yaml:"promote_when" json:"promote_when,omitempty"`               // alarms that order a promotion when all of them are raised; none: only people do
	LagMax      int         `yaml:"lag_max_bytes" json:"lag_max_bytes,omitempty"`             // that a standby may be behind what was last seen of the primary, default 0
	PostgreSQL  *PostgreSQL `yaml:"postgresql" json:"postgresql,omitempty"`                   // for postgresql
	SQL         *SQL        `yaml:"sql" json:"sql,omitempty"`                                 // for patroni and rds: how the writes of the proof get in
	Patroni     *Patroni    `yaml:"patroni" json:"patroni,omitempty"`                         // for patroni: its REST API, when it is not as Patroni sets it up
	Exec        *Exec       `yaml:"exec" json:"exec,omitempty"`                               // for exec: the programs
	RDS         *RDS        `yaml:"rds" json:"rds,omitempty"`                                 // for rds: which instance
	Fence       *Fence      `yaml:"fence" json:"fence,omitempty"`                             // for postgresql: how an old primary that is out of reach is kept from writing
	Patience    Seconds     `yaml:"connect_timeout" json:"connect_timeout_seconds,omitempty"` // how long a server that is alive may take to say so, default 2s
}

// PostgreSQL says how a PostgreSQL with streaming replication is reached (driver postgresql).
type PostgreSQL struct {
	Database     string `yaml:"database,required" json:"database"`        // where the writes of the proof go
	User         string `yaml:"user,required" json:"user"`                // role of firedrill, see docs/databases.md
	PasswordFile string `yaml:"password_file" json:"password_file"`       // its first line; default: none, or ~/.pgpass
	Port         int    `yaml:"port" json:"port,omitempty"`               // default 5432
	SSLMode      string `yaml:"sslmode" json:"sslmode,omitempty"`         // disable, allow, prefer (default), require, verify-ca or verify-full
	Data         string `yaml:"data,required" json:"data"`                // data directory, the same on every host
	Programs     string `yaml:"programs" json:"programs,omitempty"`       // directory of pg_ctl and pg_rewind; default: the newest below /usr/lib/postgresql
	Owner        string `yaml:"owner" json:"owner,omitempty"`             // user that PostgreSQL runs as, default postgres
	Service      string `yaml:"service" json:"service,omitempty"`         // systemd unit, stopped and started for a rebuild, as postgresql@15-main
	Replication  string `yaml:"replication,required" json:"replication"`  // how a standby connects to its primary, as "user=replicator passfile=/var/lib/postgresql/.pgpass"
	Synchronous  string `yaml:"synchronous" json:"synchronous,omitempty"` // suspend (default): a new primary does not wait for standbys until one is rebuilt; wait: it acknowledges nothing until then
}

// SQL says how a database is written to, for the proof that it takes writes.
type SQL struct {
	Database     string `yaml:"database,required" json:"database"`  // where the writes go
	User         string `yaml:"user,required" json:"user"`          // role of firedrill, see docs/databases.md
	PasswordFile string `yaml:"password_file" json:"password_file"` // its first line; default: none, or ~/.pgpass
	Port         int    `yaml:"port" json:"port,omitempty"`         // default 5432
	SSLMode      string `yaml:"sslmode" json:"sslmode,omitempty"`   // disable, allow, prefer (default), require, verify-ca or verify-full
}

// Patroni says how Patroni's REST API is reached on each host (driver patroni). The names of the hosts are those of Patroni's members.
type Patroni struct {
	Port         int    `yaml:"port" json:"port,omitempty"`         // default 8008
	User         string `yaml:"user" json:"user,omitempty"`         // that the API asks for before it changes anything
	PasswordFile string `yaml:"password_file" json:"password_file"` // its first line
	HTTPS        bool   `yaml:"https" json:"https,omitempty"`       // the API speaks TLS
	CAFile       string `yaml:"ca_file" json:"ca_file,omitempty"`   // who signed its certificate; default: those whom this machine trusts
}

// Exec names the programs that move a database (driver exec). They run beside the service file; {host}, {from} and {to} are filled in.
// docs/databases.md tells what each must do and say.
type Exec struct {
	Status  []string `yaml:"status,required" json:"status"`
	Write   []string `yaml:"write,required" json:"write"`
	Fence   []string `yaml:"fence,required" json:"fence"`
	Promote []string `yaml:"promote,required" json:"promote"`
	Rebuild []string `yaml:"rebuild,required" json:"rebuild"`
	Timeout Seconds  `yaml:"timeout" json:"timeout_seconds,omitempty"` // of each, default 1m; then it is killed
}

// RDS names a Multi-AZ instance of Amazon RDS for PostgreSQL (driver rds); aws: of the service file says how RDS is reached.
type RDS struct {
	Instance string `yaml:"instance,required" json:"instance"` // its DBInstanceIdentifier

	AWS AWS `yaml:"-" json:"aws,omitzero"` // that of the service
}

// Fence says how it is made sure that a primary that is out of reach writes no more.
type Fence struct {
	PowerOff   []string `yaml:"power_off" json:"power_off,omitempty"`     // a program that switches {host} off
	TrustArmed bool     `yaml:"trust_armed" json:"trust_armed,omitempty"` // a host that is out of reach and was seen armed counts as fenced
}

// Database returns the database with this name, or nil.
func (s *Service) Database(name string) *Database {
	if i := slices.IndexFunc(s.Databases, func(d Database) bool { return d.Name == name }); i >= 0 {
		return &s.Databases[i]
	}
	return nil
}

// port is where its servers listen, 0 when that is not known.
func (d *Database) port() uint16 {
	written := 0
	switch {
	case d.PostgreSQL != nil:
		written = d.PostgreSQL.Port
	case d.SQL != nil:
		written = d.SQL.Port
	default:
		return 0
	}
	if written == 0 {
		return 5432
	}
	return uint16(written) // checked by ParseService
}

func (s *Service) fillDatabases() {
	for i := range s.Databases {
		orDefault(&s.Databases[i].Driver, DatabasePostgreSQL)
		if to := s.Databases[i].RDS; to != nil && s.AWS != nil {
			to.AWS = *s.AWS
		}
	}
}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

func (c *checker) databases() {
	alarms := names(ExpandAlarms(*c.service), func(a Alarm) string { return a.Name })
	alarms = append(alarms, names(c.service.Composites, func(composite Composite) string { return composite.Name })...)
	for _, d := range c.service.Databases {
		path := "databases." + d.Name
		if !namePattern().MatchString(d.Name) {
			c.mistake(path, "%q is not a name; use letters, digits, dots and hyphens", d.Name)
		}
		c.oneOf(path+".driver", d.Driver, databaseDrivers...)
		if d.LagMax < 0 {
			c.mistake(path+".lag_max_bytes", "%d is less than nothing", d.LagMax)
		}
		c.databaseHosts(path, d)
		c.databaseSections(path, d)
		for i, alarm := range d.PromoteWhen {
			if !slices.Contains(alarms, alarm) {
				c.mistake(fmt.Sprintf("%s.promote_when[%d]", path, i), "no alarm %q, with its host filled in; %s", alarm, Suggest(alarm, alarms))
			}
		}
		if len(d.PromoteWhen) > 0 && (d.Driver == DatabasePatroni || d.Driver == DatabaseRDS) {
			c.mistake(path+".promote_when", "%s promotes by itself when its primary is lost; leave it out", d.Driver)
		}
		if c.placedOnPrimary(d.Name) && d.Driver == DatabaseRDS {
			c.mistake(path, "a drill is on its primary, and an instance of RDS has no host that can be attacked; firedrill database switch fails it over")
		}
		if len(d.PromoteWhen) > 0 && c.service.Watch == nil {
			c.mistake(path+".promote_when", "needs a watch, which raises the alarms; add watch: {url: http://...}")
		}
	}
}

func (c *checker) databaseHosts(path string, d Database) {
	addresses := map[string]string{}
	others := map[string]Host{}
	for _, environment := range c.service.Environments {
		for _, host := range environment.Hosts {
			others[host.Name] = host
		}
	}
	if len(d.Hosts) > 0 && d.Driver == DatabaseRDS {
		c.mistake(path+".hosts", "an instance of RDS has no hosts of its own; leave them out")
	}
	if len(d.Hosts) < databaseHostsMin && d.Driver != DatabaseRDS {
		c.mistake(path+".hosts", "%d of at least %d hosts; a primary moves from one to another", len(d.Hosts), databaseHostsMin)
	}
	seen := map[string]bool{}
	for i, host := range d.Hosts {
		place := fmt.Sprintf("%s.hosts[%d]", path, i)
		if !namePattern().MatchString(host.Name) {
			c.mistake(place+".name", "%q is not a host name", host.Name)
		}
		if seen[host.Name] {
			c.mistake(place+".name", "%s is named twice", host.Name)
		}
		if other, twice := addresses[host.Address.String()]; twice {
			c.mistake(place+".address", "%s is the address of %s already", host.Address, other)
		}
		if other, known := others[host.Name]; known && other.Address != host.Address {
			c.mistake(place+".name", "an environment has a host %s with another address, %s; name one of them differently", host.Name, other.Address)
		}
		seen[host.Name], addresses[host.Address.String()] = true, host.Name
		if become := host.SSH.Become; become != "" && become != "sudo" {
			c.mistake(place+".ssh.become", "%q is not known; leave it out or write sudo", become)
		}
	}
}

// databaseSections checks that the sections of the driver are there, and no others.
func (c *checker) databaseSections(path string, d Database) {
	for _, section := range []struct {
		name         string
		there, wants bool
		example      string
	}{
		{"postgresql", d.PostgreSQL != nil, d.Driver == DatabasePostgreSQL, "{database: books, user: firedrill, data: /var/lib/postgresql/15/main, replication: user=replicator}"},
		{"sql", d.SQL != nil, d.Driver == DatabasePatroni || d.Driver == DatabaseRDS, "{database: books, user: firedrill, password_file: database-password}"},
		{"exec", d.Exec != nil, d.Driver == DatabaseExec, "{status: [./database, status], write: [./database, write, \"{host}\"], ...}"},
		{"rds", d.RDS != nil, d.Driver == DatabaseRDS, "{instance: books}"},
	} {
		switch {
		case section.wants && !section.there:
			c.mistake(path, "%s is missing; driver %s needs it, as %s: %s", section.name, d.Driver, section.name, section.example)
		case section.there && !section.wants && slices.Contains(databaseDrivers, d.Driver):
			c.mistake(path+"."+section.name, "is not for driver %s", d.Driver)
		}
	}
	if d.RDS != nil && d.SQL != nil && d.SQL.Port != 0 {
		c.mistake(path+".sql.port", "RDS says on which port the instance listens; leave it out")
	}
	if d.Fence != nil && d.Driver != DatabasePostgreSQL && slices.Contains(databaseDrivers, d.Driver) {
		c.mistake(path+".fence", "is not for driver %s", d.Driver)
	}
	if d.Patroni != nil && d.Driver != DatabasePatroni {
		c.mistake(path+".patroni", "is not for driver %s; write driver: patroni", d.Driver)
	}
	if e := d.Exec; e != nil {
		for field, args := range map[string][]string{"status": e.Status, "write": e.Write, "fence": e.Fence, "promote": e.Promote, "rebuild": e.Rebuild} {
			if len(args) == 0 || args[0] == "" {
				c.mistake(path+".exec."+field, "names no program; write it as a list, [./database, %s]", field)
			}
		}
	}
	if p := d.PostgreSQL; p != nil {
		place := path + ".postgresql"
		c.port(place+".port", p.Port)
		c.oneOf(place+".synchronous", p.Synchronous, "", "suspend", "wait")
		c.oneOf(place+".sslmode", p.SSLMode, append([]string{""}, sslModes...)...)
		for field, directory := range map[string]string{"data": p.Data, "programs": p.Programs} {
			if directory != "" && !strings.HasPrefix(directory, "/") {
				c.mistake(place+"."+field, "%q is not an absolute directory", directory)
			}
		}
		if strings.ContainsAny(p.Replication, "'\n") {
			c.mistake(place+".replication", "quotes and lines are not taken; put the password into a file: passfile=/var/lib/postgresql/.pgpass")
		}
	}
	if q := d.SQL; q != nil {
		c.port(path+".sql.port", q.Port)
		c.oneOf(path+".sql.sslmode", q.SSLMode, append([]string{""}, sslModes...)...)
	}
	if p := d.Patroni; p != nil {
		c.port(path+".patroni.port", p.Port)
		if p.CAFile != "" && !p.HTTPS {
			c.mistake(path+".patroni.ca_file", "is not looked at without https: true")
		}
	}
}

// placedOnPrimary says whether a drill of the service file is on the primary of a database.
func (c *checker) placedOnPrimary(name string) bool {
	return slices.ContainsFunc(c.service.Drills, func(d Drill) bool { return strings.HasSuffix(d.On, placePrimary+name) })
}

func (c *checker) port(path string, port int) {
	if port < 0 || port > 65535 {
		c.mistake(path, "%d is no port", port)
	}
}
