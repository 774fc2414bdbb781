package postgresql

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/history"
	"firedrill/internal/lab"
	"firedrill/internal/probe"
)

const (
	ledgerTool = "database-ledger"
	lost       = 37
	patience   = time.Minute
)

// ledgerMain is the ledger on a host of the lab: it writes to the database until its input ends, then prints what it found.
func ledgerMain(target string) int {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	spec := probe.Spec{Name: "ledger", Kind: probe.Ledger, URL: target, Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(3 * time.Second), ReadBack: drill.Seconds(time.Second)}
	out := json.NewEncoder(os.Stdout)
	err := probe.Run(ctx, "ci", []probe.Spec{spec}, func(event history.Event) {
		if fact, is := event.Fact.(*history.Ledger); is {
			_ = out.Encode(fact)
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// gateSQL lets exactly 37 more rows into the ledger once it is marked, and refuses all others: whoever is cut off then misses exactly those.
const gateSQL = `create schema if not exists firedrill;
create table firedrill.ledger (writer text not null, seq bigint not null, at timestamptz not null default now());
create table firedrill.gate (marked boolean, n int);
insert into firedrill.gate values (false, 0);
create function firedrill.pass() returns trigger language plpgsql as $$ begin
  update firedrill.gate set n = n + 1 where marked;
  if (select n from firedrill.gate where marked) > 37 then raise exception 'the gate is shut'; end if;
  return new;
end $$;
create trigger gate before insert on firedrill.ledger for each row execute function firedrill.pass()`

func (p *pair) await(t *testing.T, what, host, sql, want string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		got := strings.TrimSpace(p.Run(host, fmt.Sprintf(`psql -h /var/lib/books -U postgres -XAtqc "%s" books 2>&1 || true`, sql)))
		if got == want {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s: %q", patience, what, got)
		case <-time.After(pollEvery):
		}
	}
}

// cutOff cuts the standby off at a moment at which it has everything, and marks the gate on the primary.
func (p *pair) cutOff(t *testing.T) {
	t.Helper()
	s, err := p.driver.connect(t.Context(), p.hosts[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(sql string) string {
		t.Helper()
		text, err := s.Text(t.Context(), sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return text
	}
	ask("begin")
	ask("lock table firedrill.ledger in exclusive mode") // nobody writes until the commit
	end := ask("select pg_current_wal_flush_lsn()::text")
	p.await(t, "the standby has everything", "db-b", "select pg_last_wal_replay_lsn() >= '"+end+"'", "t")
	p.Run("db-b", `psql -h /var/lib/books -U postgres -Xqc "alter system set primary_conninfo = 'host=192.0.2.1'" -c "select pg_reload_conf()"`)
	p.await(t, "the standby is cut off", "db-b", "select count(*) from pg_stat_wal_receiver where status = 'streaming'", "0")
	ask("update firedrill.gate set marked = true")
	ask("commit")
}

// The primary acknowledges 37 writes that no standby has, and is lost with them. The ledger says 37; the positions were not asked. What only the old
// primary has is thrown away when it is rebuilt.
func TestLedgerCountsWhatALostPrimaryHadAcknowledged(t *testing.T) {
	p := startPair(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	p.await(t, "the standby streams", "db-a", "select count(*) from pg_stat_replication where state = 'streaming'", "1")
	s, err := p.driver.connect(ctx, p.hosts[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Exec(ctx, gateSQL); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := p.driver.Arm(ctx, "db-a"); err != nil {
		t.Fatal(err)
	}
	input, stop := io.Pipe()
	output, printed := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		const target = "postgres://firedrill:paperback@10.77.2.10,10.77.2.11/books?target_session_attrs=read-write&connect_timeout=2&sslmode=disable"
		_, err := p.Exec(ctx, "ci", lab.Cmd{Args: []string{"firedrill", ledgerTool, target}, Stdin: input, Stdout: printed, Stderr: os.Stderr})
		_ = printed.Close()
		ended <- err
	}()
	p.await(t, "the ledger writes", "db-a", "select count(*) > 20 from firedrill.ledger", "t")
	p.cutOff(t)
	p.await(t, "37 more are acknowledged", "db-a", "select n from firedrill.gate", "37")
	status, err := p.driver.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	seen := database.Seen{}.Remember(status)
	if err := p.PowerOff(ctx, "db-a"); err != nil {
		t.Fatal(err)
	}
	mover := database.Mover{Name: "books", Driver: p.driver, Tell: func(step *history.DatabaseStep) { t.Logf("%s %s: %s", step.Step, step.Host, step.Detail) }}
	if _, err := mover.Move(ctx, database.Order{}, seen); drill.KindOf(err) != drill.Refused || err == nil {
		t.Errorf("a standby that misses 37 rows was promoted without leave: %v", err)
	}
	if _, err := mover.Move(ctx, database.Order{AllowLoss: true}, seen); err != nil {
		t.Fatal(err)
	}
	before := p.Run("db-b", `psql -h /var/lib/books -U postgres -XAtqc "select count(*) from firedrill.ledger" books`)
	p.await(t, "writes go on", "db-b", "select count(*) > "+before+" + 20 from firedrill.ledger", "t")
	_ = stop.Close()
	var account history.Ledger
	if err := json.NewDecoder(bufio.NewReader(output)).Decode(&account); err != nil {
		t.Fatal(errors.Join(err, <-ended))
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	t.Logf("the ledger: %+v", account)
	if account.Lost != lost || account.Duplicated != 0 || account.Unread != "" || account.Span <= 0 {
		t.Errorf("the ledger says %+v, want %d lost", account, lost)
	}
	p.rejoin(ctx, t, mover)
}

// rejoin boots the old primary, tries it, and rebuilds it: the writes that only it has must be gone.
func (p *pair) rejoin(ctx context.Context, t *testing.T, mover database.Mover) {
	t.Helper()
	if err := p.Boot(ctx, "db-a"); err != nil {
		t.Fatal(err)
	}
	p.await(t, "the old primary is read-only", "db-a", "select pg_is_in_recovery()", "t")
	if err := p.driver.Write(ctx, "db-a"); !errors.Is(err, database.ErrReadOnly) {
		t.Errorf("the old primary said to a write: %v", err)
	}
	// One that once followed the other tries that again at once, from past the fork, and learns of the new timeline. Stopped then, it starts on
	// no timeline but its own: rewinding must cope with that.
	p.Run("db-a", `psql -h /var/lib/books -U postgres -Xqc "alter system set primary_conninfo = 'host=10.77.2.11 user=replicator'" -c "select pg_reload_conf()" -c checkpoint`)
	p.await(t, "it has heard of the new timeline", "db-a", "select count(*) > 0 from pg_ls_waldir() where name like '%.history'", "t")
	if err := mover.Fence(ctx, "db-a", false); err != nil {
		t.Error(err)
	}
	if err := mover.Rebuild(ctx, "db-a"); err != nil {
		t.Fatal(err)
	}
	rows := p.Run("db-b", `psql -h /var/lib/books -U postgres -XAtqc "select count(*) from firedrill.ledger" books`)
	p.await(t, "the old primary has what the new one has", "db-a", "select count(*) from firedrill.ledger", rows)
}
