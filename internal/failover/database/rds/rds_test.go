package rds

import (
	"context"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/rds"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/failover/database/pgsql"
	"firedrill/internal/failover/database/postgresql"
	"firedrill/internal/lab"
)

func TestMain(m *testing.M) {
	databasetest.Main()
	os.Exit(m.Run())
}

const endpointName = "books.c1.eu-west-2.rds.example.test"

// service answers RDS's query protocol about one instance. What moves it is given: on lab hosts a real pair, else nothing.
type service struct {
	mu       sync.Mutex // guards the fields below
	zone     string
	standby  string
	status   string
	multi    bool
	engine   string
	events   []event
	orders   []string
	refuse   string                          // code of an error with which a reboot is answered
	failover func(s *service) (moved func()) // called with mu held, when a reboot with failover is ordered
}

type event struct {
	at   time.Time
	text string
}

func (s *service) note(text string) { s.events = append(s.events, event{time.Now(), text}) }

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	action := r.FormValue("Action")
	if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/") || !strings.Contains(auth, "/eu-west-2/rds/aws4_request") {
		failed(w, http.StatusForbidden, "InvalidClientTokenId", "not signed: "+auth)
		return
	}
	if action != "DescribeEvents" && r.FormValue("DBInstanceIdentifier") != "books" {
		failed(w, http.StatusNotFound, "DBInstanceNotFound", "there is no such instance")
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	switch action {
	case "DescribeDBInstances":
		fmt.Fprintf(w, `<DescribeDBInstancesResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><DescribeDBInstancesResult><DBInstances><DBInstance>
<DBInstanceIdentifier>books</DBInstanceIdentifier><Engine>%s</Engine><DBInstanceStatus>%s</DBInstanceStatus><MultiAZ>%v</MultiAZ><AvailabilityZone>%s</AvailabilityZone>
<SecondaryAvailabilityZone>%s</SecondaryAvailabilityZone><Endpoint><Address>%s</Address><Port>5432</Port></Endpoint></DBInstance></DBInstances></DescribeDBInstancesResult></DescribeDBInstancesResponse>`,
			s.engine, s.status, s.multi, s.zone, s.standby, endpointName)
	case "RebootDBInstance":
		s.reboot(w, r)
	case "DescribeEvents":
		s.describeEvents(w, r)
	default:
		failed(w, http.StatusBadRequest, "InvalidAction", action)
	}
}

func (s *service) reboot(w http.ResponseWriter, r *http.Request) {
	s.orders = append(s.orders, "failover="+r.FormValue("ForceFailover"))
	switch {
	case s.refuse != "":
		failed(w, http.StatusBadRequest, s.refuse, "refused")
		return
	case s.status != "available":
		failed(w, http.StatusBadRequest, "InvalidDBInstanceState", "it is "+s.status)
		return
	}
	moved := s.failover(s)
	fmt.Fprint(w, `<RebootDBInstanceResponse><RebootDBInstanceResult><DBInstance><DBInstanceStatus>rebooting</DBInstanceStatus></DBInstance></RebootDBInstanceResult></RebootDBInstanceResponse>`)
	if moved != nil {
		go moved()
	}
}

func (s *service) describeEvents(w http.ResponseWriter, r *http.Request) {
	since, err := time.Parse(time.RFC3339, r.FormValue("StartTime"))
	if err != nil || r.FormValue("SourceIdentifier") != "books" || r.FormValue("SourceType") != "db-instance" {
		failed(w, http.StatusBadRequest, "InvalidParameterCombination", "which events?")
		return
	}
	fmt.Fprint(w, `<DescribeEventsResponse><DescribeEventsResult><Events>`)
	for _, e := range s.events {
		if e.at.After(since) {
			fmt.Fprintf(w, `<Event><SourceIdentifier>books</SourceIdentifier><SourceType>db-instance</SourceType><Message>%s</Message><Date>%s</Date></Event>`, e.text, e.at.UTC().Format(time.RFC3339Nano))
		}
	}
	fmt.Fprint(w, `</Events></DescribeEventsResult></DescribeEventsResponse>`)
}

func failed(w http.ResponseWriter, status int, code, text string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>`, code)
	_ = xml.EscapeText(w, []byte(text))
	fmt.Fprint(w, `</Message></Error><RequestId>1</RequestId></ErrorResponse>`)
}

// client is Amazon's own, led to the service.
func (s *service) client(t *testing.T) *rds.Client {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	keys := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(keys, []byte("[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := amazon.Config(t.Context(), drill.AWS{Region: "eu-west-2", Endpoint: server.URL, CredentialsFile: keys}, "/")
	if err != nil {
		t.Fatal(err)
	}
	return rds.NewFromConfig(config)
}

func fresh() *service {
	return &service{zone: "eu-west-2a", standby: "eu-west-2b", status: "available", multi: true, engine: "postgres"}
}

func TestOnlyAnInstanceThatCanFailOverIsMoved(t *testing.T) {
	flip := func(text string, status string, moves bool) func(*service) func() {
		return func(s *service) func() {
			s.note(text)
			if s.status = status; moves {
				s.zone, s.standby = s.standby, s.zone
			}
			return nil
		}
	}
	for _, c := range []struct {
		name    string
		change  func(*service)
		order   database.Order
		kind    drill.ErrorKind
		says    string
		ordered string
	}{
		{"moved", func(s *service) { s.failover = flip("Multi-AZ instance failover completed", "available", true) }, database.Order{Planned: true}, drill.Invalid, "", "failover=true"},
		{"not Multi-AZ", func(s *service) { s.multi = false }, database.Order{Planned: true}, drill.Refused, "no standby", ""},
		{"not available", func(s *service) { s.status = "modifying" }, database.Order{Planned: true}, drill.Refused, "no primary", ""},
		{"MySQL", func(s *service) { s.engine = "mysql" }, database.Order{Planned: true}, drill.Unsupported, "mysql", ""},
		{"the primary is well", nil, database.Order{AllowLoss: true}, drill.Refused, "its own manager promotes", ""},
		{"not allowed", func(s *service) { s.refuse = "AccessDenied" }, database.Order{Planned: true}, drill.Refused, "AccessDenied", "failover=true"},
		{"another failover", func(s *service) { s.refuse = "InvalidDBInstanceState" }, database.Order{Planned: true}, drill.Invalid, "InvalidDBInstanceState", "failover=true"},
		{"abandoned", func(s *service) {
			s.failover = flip("Abandoning user requested failover since a failover recently occurred", "available", false)
		}, database.Order{Planned: true}, drill.Failed, "Abandoning", "failover=true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fresh()
			if c.change != nil {
				c.change(s)
			}
			d := New(Options{
				Instance: "books", Client: s.client(t), SQL: pgsql.Server{Database: "books", User: "firedrill"}, PollEvery: 10 * time.Millisecond,
				Lookup: func(context.Context, string) ([]net.IPAddr, error) {
					return []net.IPAddr{{IP: net.IPv4(192, 0, 2, 1)}}, nil
				},
				Dial: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed },
			})
			status, err := d.Status(t.Context())
			var move database.Move
			if err == nil {
				move, err = database.Choose(status, c.order, database.Policy{}, database.Seen{})
			}
			if err == nil {
				_, err = d.Fence(t.Context(), move)
			}
			if err == nil {
				err = d.Promote(t.Context(), move)
			}
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || drill.KindOf(err) != c.kind || drill.HintOf(err) == ""):
				t.Errorf("%v (%v), want %q (%v) with a hint", err, drill.KindOf(err), c.says, c.kind)
			}
			if got := strings.Join(s.orders, ", "); got != c.ordered {
				t.Errorf("ordered %q, want %q", got, c.ordered)
			}
		})
	}
}

// managed is an RDS made of a synchronous PostgreSQL pair in a lab: behind the API it promotes, moves the name and makes standbys.
type managed struct {
	*service
	t       *testing.T
	lab     *databasetest.Lab
	mover   database.Mover
	zones   map[string]string // of a host
	hosts   map[string]drill.Host
	primary string // host; guarded by service.mu, as is seen
	seen    database.Seen
	moving  sync.WaitGroup
}

func (m *managed) other() string {
	for name := range m.hosts {
		if name != m.primary {
			return name
		}
	}
	return ""
}

// move promotes the other host, moves the name there, and makes a standby of the old one if it is alive.
func (m *managed) move(order database.Order) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.t.Context()), 2*time.Minute)
	defer cancel()
	m.mu.Lock()
	old, seen := m.primary, m.seen
	m.mu.Unlock()
	moved, err := m.mover.Move(ctx, order, seen)
	if err != nil {
		m.t.Errorf("behind the API: %v", err)
	}
	m.mu.Lock()
	m.primary = moved.To
	m.zone, m.standby = m.zones[moved.To], ""
	m.note("DB instance restarted")
	m.note("Multi-AZ instance failover completed")
	if !order.Planned {
		m.status = "available"
	}
	m.mu.Unlock()
	if order.Planned {
		m.again(ctx, old)
	}
}

// again makes a standby of a host.
func (m *managed) again(ctx context.Context, host string) {
	if err := m.mover.Rebuild(ctx, host); err != nil {
		m.t.Errorf("behind the API: %v", err)
	}
	status, err := m.mover.Driver.Status(ctx)
	if err != nil {
		m.t.Error(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = m.seen.Remember(status)
	m.standby, m.status = m.zones[host], "available"
}

func (m *managed) hostIn(zone string) string {
	for host, of := range m.zones {
		if of == zone {
			return host
		}
	}
	return ""
}

func (m *managed) powerOff(ctx context.Context, zone string) error {
	err := m.lab.PowerOff(ctx, m.hostIn(zone))
	m.mu.Lock()
	m.status = "failing-over"
	m.note("Multi-AZ instance failover started.")
	m.mu.Unlock()
	m.moving.Go(func() { m.move(database.Order{AllowLoss: true}) })
	return err
}

func (m *managed) boot(ctx context.Context, zone string) error {
	err := m.lab.Boot(ctx, m.hostIn(zone))
	m.moving.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(m.t.Context()), 2*time.Minute)
		defer cancel()
		for ctx.Err() == nil { // it boots
			if status, err := m.mover.Driver.Status(ctx); err == nil && status.Member(m.hostIn(zone)).Role == database.Standby {
				break
			}
		}
		m.again(ctx, m.hostIn(zone))
	})
	return err
}

func start(t *testing.T) (*managed, *databasetest.Subject) {
	t.Helper()
	script, err := os.ReadFile("../postgresql/testdata/database.sh")
	if err != nil {
		t.Fatal(err)
	}
	host := func(name, address, run string) lab.Host {
		return lab.Host{
			Name: name, Address: netip.MustParseAddr(address), SSH: lab.SSHBuiltIn, Trust: []string{"ci"},
			Files:    []lab.File{{Path: "/etc/books/database.sh", Text: string(script), Mode: 0o755}},
			Services: []lab.Service{{Name: "database", Run: "/etc/books/database.sh " + run, Env: map[string]string{"SYNCHRONOUS": "*"}, Restart: lab.RestartAlways}},
		}
	}
	l := databasetest.Up(t, host("db-a", "10.77.2.10", "primary"), host("db-b", "10.77.2.11", "standby-of 10.77.2.10"))
	hosts := []drill.Host{databasetest.Host("db-a", "10.77.2.10"), databasetest.Host("db-b", "10.77.2.11")}
	engine := postgresql.New(postgresql.Options{
		Hosts: hosts, Database: "books", User: "firedrill", Password: "paperback", Data: "/var/lib/books/main", Service: "database",
		Replication: "user=replicator", TrustArmed: true, SSH: l.SSH(), DialSQL: l.Dial, ConnectTimeout: 4 * time.Second, SSLMode: "disable",
	})
	m := &managed{
		service: fresh(), t: t, lab: l, mover: database.Mover{Name: "books", Driver: engine}, primary: "db-a",
		zones: map[string]string{"db-a": "eu-west-2a", "db-b": "eu-west-2b"}, hosts: map[string]drill.Host{"db-a": hosts[0], "db-b": hosts[1]},
	}
	m.failover = func(s *service) func() {
		s.status = "rebooting"
		s.note("Multi-AZ instance failover started.")
		m.moving.Add(1)
		return func() { defer m.moving.Done(); m.move(database.Order{Planned: true}) }
	}
	t.Cleanup(m.moving.Wait)
	m.settle(engine)
	d := New(Options{
		Instance: "books", Client: m.client(t), SQL: pgsql.Server{Database: "books", User: "firedrill", Password: "paperback", SSLMode: "disable"},
		ConnectTimeout: 4 * time.Second, PollEvery: 100 * time.Millisecond, Dial: l.Dial,
		Lookup: func(context.Context, string) ([]net.IPAddr, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return []net.IPAddr{{IP: m.hosts[m.primary].Address.AsSlice()}}, nil
		},
	})
	table := &databasetest.Table{}
	for _, h := range hosts {
		table.Servers = append(table.Servers, d.server(h.Address.String(), instance{port: 5432}))
	}
	return m, &databasetest.Subject{
		Driver: d, Hosts: [2]string{"eu-west-2a", "eu-west-2b"}, PowerOff: m.powerOff, Boot: m.boot, Add: table.Add, Rows: table.Rows,
		ByItself: true, Rejoins: true, Hidden: true,
	}
}

// settle waits until the pair behind the API is one, and arms its primary.
func (m *managed) settle(engine *postgresql.Driver) {
	m.t.Helper()
	for m.t.Context().Err() == nil {
		if status, err := engine.Status(m.t.Context()); err == nil && status.Wrong() == "" {
			break
		}
	}
	if err := engine.Arm(m.t.Context(), "db-a"); err != nil {
		m.t.Fatal(err)
	}
	status, err := engine.Status(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	m.seen = m.seen.Remember(status)
}

// Amazon's own client, the protocol, and a real synchronous pair of PostgreSQL behind it, whose failovers are real ones.
func TestContract(t *testing.T) {
	databasetest.RequirePostgreSQL(t)
	t.Parallel()
	m, subject := start(t)
	databasetest.Run(t, subject)
	records, err := subject.Driver.(*Driver).History(t.Context())
	if err != nil {
		t.Error(err)
	}
	var told []string
	for _, r := range records {
		told = append(told, r.Text)
	}
	const one = "Multi-AZ instance failover started.|DB instance restarted|Multi-AZ instance failover completed"
	if got := strings.Join(told, "|"); !t.Failed() && got != one+"|"+one {
		t.Errorf("events: %s", got)
	}
	m.moving.Wait()
}
