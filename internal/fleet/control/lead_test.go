package control

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// others is a NATS that somebody else runs.
func others(t *testing.T, change func(*server.Options)) string {
	t.Helper()
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true}
	if change != nil {
		change(options)
	}
	engine, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	engine.Start()
	t.Cleanup(func() { engine.Shutdown(); engine.WaitForShutdown() })
	if !engine.ReadyForConnections(time.Minute) {
		t.Fatal("the engine does not come up")
	}
	return fmt.Sprintf("nats://%s", engine.Addr())
}

func leaseBucket(t *testing.T) jetstream.KeyValue {
	t.Helper()
	conn, err := nats.Connect(others(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leader"})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// twoLeaders has one server lead, stand still for longer than its lease, and wake up after another one took over. It reports whether both lead then.
func twoLeaders(t *testing.T, stubborn bool) bool {
	t.Helper()
	const length = time.Hour // what counts is the clock that is handed in
	bucket := leaseBucket(t)
	a := &leadership{bucket: bucket, length: length, self: lease{Server: "a", Name: "a"}, stubborn: stubborn}
	b := &leadership{bucket: bucket, length: length, self: lease{Server: "b", Name: "b"}}
	look := func(l *leadership, after time.Duration) uint64 {
		term, _, _, err := l.look(t.Context(), time.Now().Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return term
	}
	if term := look(a, 0); term != 1 {
		t.Fatalf("the first one has term %d", term)
	}
	if look(b, 0) != 0 || look(b, length-time.Minute) != 0 {
		t.Error("a lease was taken that holds")
	}
	if err := a.confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if look(b, length+time.Minute) != 0 {
		t.Error("a lease was taken that was renewed since it was looked at")
	}
	if term := look(b, 2*length+2*time.Minute); term != 2 {
		t.Fatalf("the second one has term %d", term)
	}
	if a.confirm(t.Context()) == nil {
		t.Error("a lease was renewed that another one has")
	}
	_, still := a.holds()
	if term, holds := b.holds(); !holds || term != 2 {
		t.Errorf("the second one: %v %d", holds, term)
	}
	return still
}

func TestOneServerHoldsTheLease(t *testing.T) {
	t.Parallel()
	if twoLeaders(t, false) {
		t.Error("two servers lead")
	}
}

func TestAServerThatLeadsWithoutItsLeaseIsCaught(t *testing.T) {
	t.Parallel()
	if !twoLeaders(t, true) {
		t.Error("the planted bug is not noticed")
	}
}

// A server that cannot renew its lease stops before another one may begin, by nothing but its own clock.
func TestALeaseEndsByTheHoldersClock(t *testing.T) {
	t.Parallel()
	a := &leadership{bucket: leaseBucket(t), length: time.Hour, self: lease{Server: "a", Name: "a"}}
	if term, _, _, err := a.look(t.Context(), time.Now()); term != 1 || err != nil {
		t.Fatal(term, err)
	}
	if a.expire(time.Now().Add(53 * time.Minute)) {
		t.Error("it ended too early")
	}
	if !a.expire(time.Now().Add(55 * time.Minute)) {
		t.Error("it holds while another one may begin")
	}
	if _, holds := a.holds(); holds {
		t.Error("it holds after its end")
	}
	// It yields in order too, and then nobody waits.
	if term, _, _, err := a.look(t.Context(), time.Now().Add(2*time.Hour)); term != 2 || err != nil {
		t.Fatal(term, err)
	}
	if err := a.yield(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := &leadership{bucket: a.bucket, length: time.Hour, self: lease{Server: "b", Name: "b"}}
	if term, _, _, err := b.look(t.Context(), time.Now()); term != 3 || err != nil {
		t.Error(term, err)
	}
}

// pair are two servers of one fleet, which keep everything with others.
func pair(t *testing.T, change func(*Options)) [2]*Control {
	t.Helper()
	return pairAfter(t, func(o *Options, _ *Control) {
		if change != nil {
			change(o)
		}
	})
}

// pairAfter is pair whose second server may know the first one, which is nil for that itself.
func pairAfter(t *testing.T, change func(*Options, *Control)) [2]*Control {
	t.Helper()
	address := others(t, nil)
	var both [2]*Control
	directory := t.TempDir()
	for i := range both {
		o := Options{Directory: filepath.Join(directory, fmt.Sprint(i)), Listen: "127.0.0.1:0", Name: fmt.Sprintf("control%d", i), External: External{URLs: []string{address}}, Lease: time.Hour,
			Margin: time.Hour, Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Person: func(name string) (fleet.Member, bool) {
				return fleet.Member{Name: name, Role: fleet.RoleOperator}, true
			}}
		change(&o, both[0])
		if i == 1 {
			text, err := os.ReadFile(filepath.Join(directory, "0", "identity.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(o.Directory, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(o.Directory, "identity.json"), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { shut(t, c) })
		both[i] = c
	}
	return both
}

// leads makes a server lead now.
func leads(t *testing.T, c *Control, after time.Duration) {
	t.Helper()
	term, from, _, err := c.lead.look(t.Context(), time.Now().Add(after))
	if err != nil || term == 0 {
		t.Fatal(term, err)
	}
	c.takeOver(t.Context(), term, from)
}

// moments counts how often two servers begin what is due once.
func moments(t *testing.T, change func(*Options)) int {
	t.Helper()
	both := pair(t, change)
	if both[0].lead.bucket != nil && !both[0].lead.alone {
		leads(t, both[0], 0)
	}
	ctx := context.Background()
	by := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
	if _, err := both[0].Call(ctx, by, "schedule", encode(fleet.ScheduleRequest{Name: "daily", Cron: "0 10 * * *", Request: fleet.AttackRequest{Kind: "cpu", Args: []string{"-l", "1"}, Selector: fleet.Selector{All: true}}})); err != nil {
		t.Fatal(err)
	}
	for len(both[1].Scheduled(time.Now())) == 0 {
		<-time.After(time.Millisecond)
	}
	both[1].schedule.close() // what the first one writes now is not heard in time
	due := both[1].Scheduled(time.Now())[0].Next.Add(time.Second)
	for _, c := range both {
		if c.lead.leads() {
			c.carryOutDue(ctx, due)
			c.due.Wait()
		}
	}
	return audited(t, both[0], "does not begin daily") + audited(t, both[1], "does not begin daily") // there are no hosts
}

func TestTwoServersBeginAMomentOnce(t *testing.T) {
	t.Parallel()
	if got := moments(t, nil); got != 1 {
		t.Errorf("it was begun %d times", got)
	}
	// Even if both believed that they lead, the revision lets one begin.
	if got := moments(t, func(o *Options) { o.Leaderless = true }); got != 1 {
		t.Errorf("without a leader it was begun %d times", got)
	}
}

func TestServersThatAllBeginAreCaught(t *testing.T) {
	t.Parallel()
	if got := moments(t, func(o *Options) { o.Leaderless, o.Unfenced = true, true }); got != 2 {
		t.Errorf("the planted bug is not noticed: it was begun %d times", got)
	}
}

// overwritten has a run taken over, and the server that led before write it. It reports whether that write counts.
func overwritten(t *testing.T, unfenced bool) bool {
	t.Helper()
	both := pair(t, func(o *Options) { o.Unfenced, o.Stubborn = unfenced, true })
	old, young := both[0], both[1]
	leads(t, old, 0)
	now := time.Now()
	run := fleet.Run{ID: "01a226a5-fa43-7af8-a43a-bc9366162e04", By: "otto", Kind: "cpu", Issued: now, Start: now.Add(-time.Minute), Deadline: now.Add(time.Hour), State: fleet.RunRunning, Term: 1,
		Hosts: []fleet.RunHost{{Key: "K", Name: "web1", Order: "o", State: fleet.HostAccepted}}}
	if err := old.runs.put(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := young.lead.look(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	leads(t, young, 3*time.Hour)
	taken, err := young.runs.find(run.ID)
	if err != nil || len(taken.Takeovers) != 1 || taken.Takeovers[0].What != "it goes on" || taken.Takeovers[0].From != "control0" || taken.Term != 2 {
		t.Fatalf("%+v %v", taken, err)
	}
	_, err = old.changeRun(run.ID, func(r *fleet.Run) { r.State = fleet.RunEnded })
	if !unfenced && err == nil {
		t.Error("it is not refused")
	}
	entry, err := young.runs.shelf.bucket.Get(t.Context(), run.ID)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(entry.Value()), `"state":"ended"`)
}

func TestARunThatWasTakenOverIsNotChangedByTheServerBefore(t *testing.T) {
	t.Parallel()
	if overwritten(t, false) {
		t.Error("a server that leads no more has changed a run")
	}
}

func TestWritesThatCountWhoeverLeadsAreCaught(t *testing.T) {
	t.Parallel()
	if !overwritten(t, true) {
		t.Error("the planted bug is not noticed")
	}
}

func TestANATSOfOthersThatWillNotDoIsRefusedWithACure(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(*server.Options)
		hint   string
	}{
		{"no JetStream", func(o *server.Options) { o.JetStream = false }, "turn JetStream on"},
		{"a user who is not known", func(o *server.Options) { o.Username, o.Password = "firedrill", "secret" }, "--nats-creds FILE"},
		{"a user without permissions", func(o *server.Options) {
			o.Users = []*server.User{{Username: "firedrill", Password: "secret", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"fd.>"}}, Subscribe: &server.SubjectPermission{Allow: []string{"fd.>"}}}}}
		}, ExternalPermissions},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			address := others(t, row.change)
			credentials := ""
			if row.name != "no JetStream" && row.name != "a user who is not known" {
				credentials = filepath.Join(t.TempDir(), "credentials")
				if err := os.WriteFile(credentials, []byte("user: firedrill\npassword: secret\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := Open(t.Context(), Options{Directory: filepath.Join(t.TempDir(), "fleet"), Listen: "127.0.0.1:0", Name: "control", External: External{URLs: []string{address}, Credentials: credentials}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
			if err == nil {
				shut(t, c)
			}
			if err == nil || !strings.Contains(drill.HintOf(err), row.hint) {
				t.Errorf("%v (%s)", err, drill.HintOf(err))
			}
			if err != nil && strings.Contains(err.Error()+drill.HintOf(err), "secret") {
				t.Errorf("it says the password: %v", err)
			}
		})
	}
}

func TestAnotherFleetsStoreIsRefused(t *testing.T) {
	t.Parallel()
	address := others(t, nil)
	start := func() (*Control, error) {
		return Open(t.Context(), Options{Directory: filepath.Join(t.TempDir(), "fleet"), Listen: "127.0.0.1:0", Name: "control", External: External{URLs: []string{address}}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	}
	first, err := start()
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, first)
	second, err := start()
	if err == nil {
		shut(t, second)
	}
	if drill.KindOf(err) != drill.Refused || !strings.Contains(drill.HintOf(err), "identity.json") {
		t.Errorf("%v", err)
	}
}

// A leader that does not know an order yet must not tell the host that its journal is kept: the host would never say it again.
func TestAYoungLeaderDoesNotTakeAJournalItCannotPlace(t *testing.T) {
	t.Parallel()
	c := pair(t, nil)[0]
	leads(t, c, 0)
	host := fleet.Member{Key: "K", Name: "web1", Role: fleet.RoleAgent}
	part := fleet.Journal{Order: "01a226a5-fa43-7af8-a43a-bc9366162e04", Lines: []string{"{}"}, End: &fleet.End{}}
	if kept, err := c.keep(t.Context(), host, part); err == nil || kept.End {
		t.Errorf("%+v %v", kept, err)
	}
	c.lead.mu.Lock()
	c.lead.since = time.Now().Add(-youth)
	c.lead.mu.Unlock()
	if kept, err := c.keep(t.Context(), host, part); err != nil || !kept.End {
		t.Errorf("it is asked for ever: %+v %v", kept, err)
	}
}

func TestARunThatCouldNotBeBegunIsCancelled(t *testing.T) {
	t.Parallel()
	c := pair(t, nil)[0]
	leads(t, c, 0)
	now := time.Now()
	run := fleet.Run{ID: "01a226a5-fa43-7af8-a43a-bc9366162e04", By: "otto", Kind: "cpu", Issued: now, Start: now.Add(time.Second), Deadline: now.Add(10 * time.Hour), State: fleet.RunStarting, Term: 1,
		Hosts: []fleet.RunHost{{Key: "K", Name: "web1", Order: "o", State: fleet.HostOrdered}}}
	if err := c.runs.put(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	c.follow(t.Context(), now.Add(30*time.Minute)) // within the margin of an hour
	if kept, _ := c.runs.get(run.ID); kept.State != fleet.RunStarting {
		t.Errorf("too early: %+v", kept)
	}
	c.follow(t.Context(), now.Add(2*time.Hour))
	if kept, _ := c.runs.get(run.ID); kept.State != fleet.RunCancelled || !kept.Hosts[0].Reverted || kept.Hosts[0].State != fleet.HostEnded {
		t.Errorf("%+v", kept)
	}
}
