package patroni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/failover/database/pgsql"
)

// api stands in for the Patronis of db-a and db-b, whose leader is db-a at first. There is no PostgreSQL behind it.
type api struct {
	mu     sync.Mutex // guards the fields below
	leader string
	dead   string
	pause  bool
	barred bool
	said   int    // what POST is answered with; 0: it is done
	text   string //
	to     string // who becomes the leader in place of the one that was asked for
	orders []string
}

func (p *api) serve(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch r.URL.Path {
		case "/patroni":
			role := `"role":"replica","replication_state":"streaming"`
			if p.leader == name {
				role = `"role":"primary"`
			}
			fmt.Fprintf(w, `{"state":"running",%s,"timeline":3,"xlog":{"location":100,"received_location":100},"pause":%v,"tags":{"nofailover":%v}}`, role, p.pause, p.barred && p.leader != name)
		case "/cluster":
			fmt.Fprintf(w, `{"members":[{"name":"db-a","role":%q},{"name":"db-b","role":%q},{"name":"db-c","role":%q}]}`, p.roleOf("db-a"), p.roleOf("db-b"), p.roleOf("db-c"))
		case "/config":
			_, _ = w.Write([]byte(`{"ttl":1,"loop_wait":1}`))
		case "/switchover", "/failover":
			p.order(w, r)
		default:
			http.NotFound(w, r)
		}
	}
}

func (p *api) roleOf(name string) string {
	if name == p.leader {
		return "leader"
	}
	return "replica"
}

func (p *api) order(w http.ResponseWriter, r *http.Request) {
	var order struct{ Leader, Candidate string }
	_ = json.NewDecoder(r.Body).Decode(&order)
	user, password, _ := r.BasicAuth()
	p.orders = append(p.orders, fmt.Sprintf("%s %s>%s by %s:%s", r.URL.Path, order.Leader, order.Candidate, user, password))
	if p.said != 0 {
		w.WriteHeader(p.said)
		_, _ = w.Write([]byte(p.text))
		return
	}
	p.leader = order.Candidate
	if p.to != "" {
		p.leader = p.to
	}
}

func (p *api) driver(t *testing.T) *Driver {
	t.Helper()
	listeners := map[string]string{}
	var hosts []drill.Host
	for i, name := range []string{"db-a", "db-b"} {
		server := httptest.NewServer(p.serve(name))
		t.Cleanup(server.Close)
		host := databasetest.Host(name, fmt.Sprintf("192.0.2.%d", i+1))
		hosts = append(hosts, host)
		listeners[host.Address.String()+":8008"] = server.Listener.Addr().String()
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		p.mu.Lock()
		dead := p.dead
		p.mu.Unlock()
		for _, host := range hosts {
			if strings.HasPrefix(address, host.Address.String()) && host.Name == dead {
				return nil, errors.New("no route")
			}
		}
		to, known := listeners[address]
		if !known {
			return nil, errors.New("refused")
		}
		var d net.Dialer
		return d.DialContext(ctx, network, to)
	}
	return New(Options{Hosts: hosts, User: "patroni", Password: "paperback", Dial: dial, SQL: pgsql.Server{Database: "books", User: "firedrill"}})
}

func TestPatroniIsAskedAndBelievedOnlyWhenTheServersSaySo(t *testing.T) {
	planned := database.Order{To: "db-b", Planned: true}
	for _, c := range []struct {
		name  string
		api   *api
		order database.Order
		seen  database.Seen
		kind  drill.ErrorKind
		says  string
		asked string
	}{
		{"paused", &api{leader: "db-a", pause: true}, planned, database.Seen{}, drill.Refused, "paused", ""},
		{"the primary is well", &api{leader: "db-a"}, database.Order{AllowLoss: true}, database.Seen{}, drill.Refused, "its own manager promotes", ""},
		{"nofailover", &api{leader: "db-a", barred: true}, planned, database.Seen{}, drill.Refused, "never promoted by its own manager", ""},
		{"refused by Patroni", &api{leader: "db-a", said: http.StatusPreconditionFailed, text: "no good candidates have been found"}, planned, database.Seen{}, drill.Refused, "no good candidates", "/switchover db-a>db-b by patroni:paperback"},
		{"not allowed", &api{leader: "db-a", said: http.StatusUnauthorized, text: "no auth header received"}, planned, database.Seen{}, drill.Refused, "no auth header", "/switchover db-a>db-b by patroni:paperback"},
		{"another one became the leader", &api{leader: "db-a", to: "db-c"}, planned, database.Seen{}, drill.Failed, "db-c the primary instead", "/switchover db-a>db-b by patroni:paperback"},
		{"lost, and nobody leads yet", &api{dead: "db-a"}, database.Order{}, database.Seen{Host: "db-a", Timeline: 3, Position: 100}, drill.Invalid, "", "/failover >db-b by patroni:paperback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := c.api.driver(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			status, err := d.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			move, err := database.Choose(status, c.order, database.Policy{}, c.seen)
			if err == nil {
				_, err = d.Fence(ctx, move)
			}
			if err == nil {
				err = d.Promote(ctx, move)
			}
			switch {
			case c.says == "" && err != nil:
				t.Errorf("%v", err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || drill.KindOf(err) != c.kind || drill.HintOf(err) == ""):
				t.Errorf("%v (%v), want %q (%v) with a hint", err, drill.KindOf(err), c.says, c.kind)
			}
			if got := strings.Join(c.api.orders, ", "); got != c.asked {
				t.Errorf("asked %q, want %q", got, c.asked)
			}
		})
	}
}

func TestHistoryOfPatroniIsRead(t *testing.T) {
	for text, want := range map[string]string{
		`[1, 50519864, "no recovery target specified", "2026-11-29T05:30:17.694563+00:00", "db-b"]`: "2026-11-29 05:30:17 db-b timeline 1 ended at 302DF38: no recovery target specified",
		`[2, 16, "no recovery target specified"]`:                                                   "0001-01-01 00:00:00  timeline 2 ended at 10: no recovery target specified",
		`["x"]`:                    "error",
		`[1, 2, "r", "yesterday"]`: "error",
	} {
		var line []json.RawMessage
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		record, err := recorded(line)
		got := record.Time.Format("2006-01-02 15:04:05") + " " + record.Host + " " + record.Text
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
