package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
)

// eventually waits until something is so; it fails the test if it never is.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// Between the reading of what is kept and the moment from which a server heeds what comes, others replace keys and keep a verdict.
// It reports what of that is known, and whether somebody was let in meanwhile.
func whileItStarts(t *testing.T, planted func(*Options)) (keys, record, in bool) {
	t.Helper()
	ann := fleet.Member{Name: "ann", Role: fleet.RoleAdmin}
	both := pairAfter(t, func(o *Options, first *Control) {
		planted(o)
		if first == nil {
			return
		}
		o.Starting = func(second *Control) {
			leads(t, first, 0)
			in = letsAdminIn(t, first, second) == nil
			_, err := first.rotate(t.Context(), ann, fleet.RotateRequest{What: fleet.KeyCertificate})
			if err := errors.Join(err, first.KeepRecord(t.Context(), fleet.Record{ID: "01a226a5-fa43-7af8-a43a-bc9366162e04", Service: "shop"})); err != nil {
				t.Error(err)
			}
		}
	})
	late := both[1]
	// What came last of all that is read by turns: the change of the keys has come too.
	eventually(t, "the change has not come", func() bool { _, came := late.turns.get(turnKey(1)); return came })
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() { late.keepRecords(ctx) })
	if !late.options.Offhand {
		eventually(t, "the verdict is not known", func() bool { return late.Recorded("01a226a5-fa43-7af8-a43a-bc9366162e04") })
	}
	if err := letsAdminIn(t, both[0], late); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	return late.Pin() == both[0].Pin(), late.Recorded("01a226a5-fa43-7af8-a43a-bc9366162e04"), in
}

// letsAdminIn has the first admin of one server log in at another one.
func letsAdminIn(t *testing.T, of, at *Control) error {
	t.Helper()
	var admin fleet.Credentials
	if err := durable.Load(filepath.Join(of.options.Directory, AdminFile), &admin); err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed([]byte(admin.Seed))
	if err != nil {
		t.Fatal(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect("tls://"+at.ownAddress(), nats.Secure(fleet.PinnedTLS(at.Pin())), nats.TLSHandshakeFirst(), nats.Nkey(key, pair.Sign), nats.CustomInboxPrefix(fleet.Inbox(key)))
	if err == nil {
		conn.Close()
	}
	return err
}

func TestWhatComesWhileAServerStartsIsFollowed(t *testing.T) {
	t.Parallel()
	if keys, record, in := whileItStarts(t, func(*Options) {}); !keys || !record || in {
		t.Errorf("the keys: %v, the verdict: %v; somebody is in: %v", keys, record, in)
	}
}

func TestAServerThatSleepsWhileItStartsIsCaught(t *testing.T) {
	t.Parallel()
	if keys, record, in := whileItStarts(t, func(o *Options) { o.Drowsy, o.Offhand = true, true }); keys || record || !in {
		t.Errorf("the planted bugs are not noticed: keys %v, verdict %v; somebody is in: %v", keys, record, in)
	}
}

// ends has the reader of a shelf end, as the library ends one for good when the engine answers it with what it does not expect. It reports whether what another
// server writes afterwards is heard.
func ends(t *testing.T, deaf bool) bool {
	t.Helper()
	both := pair(t, func(o *Options) { o.Deaf = deaf })
	one, other := both[0], both[1]
	one.freezes.mu.RLock()
	watcher := one.freezes.watcher
	one.freezes.mu.RUnlock()
	if err := watcher.Stop(); err != nil {
		t.Fatal(err)
	}
	freeze := fleet.Freeze{Dates: "2026-12-18..2027-01-04"}
	if err := errors.Join(other.freezes.put(t.Context(), freezeKey(freeze.Dates), freeze), other.told.put(t.Context(), "shop.cut", cadenceTold{})); err != nil {
		t.Fatal(err)
	}
	heard := func() bool { _, came := one.freezes.get(freezeKey(freeze.Dates)); return came }
	eventually(t, "nothing is heard", func() bool {
		_, later := one.told.get("shop.cut")
		return heard() || deaf && later
	})
	return heard()
}

func TestAReaderThatHasEndedIsMadeAnew(t *testing.T) {
	t.Parallel()
	if !ends(t, false) {
		t.Error("it is deaf")
	}
}

func TestAReaderThatStaysEndedIsCaught(t *testing.T) {
	t.Parallel()
	if ends(t, true) {
		t.Error("the planted bug is not noticed")
	}
}

// What cannot be read just now is read again, at a start as later; what is not understood is said.
func TestWhatIsBrokenOffIsReadAgain(t *testing.T) {
	t.Parallel()
	s := &store{log: slog.New(slog.DiscardHandler)}
	ended := make(chan struct{})
	close(ended)
	for _, row := range []struct {
		errs    []error // of each try
		closing chan struct{}
		tries   int
		well    bool
	}{
		{errs: []error{unread{errors.New("it broke off")}, fmt.Errorf("of a cluster: %w", unread{errors.New("no leader")}), nil}, tries: 3, well: true},
		{errs: []error{errors.New("it is not understood"), nil}, tries: 1},
		{errs: []error{unread{errors.New("it broke off")}, nil}, closing: ended, tries: 1},
	} {
		s.closing = row.closing
		tries := 0
		err := s.again(t.Context(), "runs", func(context.Context) error { tries++; return row.errs[tries-1] })
		if tries != row.tries || (err == nil) != row.well {
			t.Errorf("%v: %d tries, %v", row.errs, tries, err)
		}
	}
}

// A shelf that has come further than there is anything, because what is kept was made anew, reads it from its begin; another one goes on where it was.
func TestAShelfIsReadOnFromWhereItWas(t *testing.T) {
	t.Parallel()
	c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(o *Options) { o.Deaf = true })
	defer shut(t, c)
	for i, reached := range []uint64{0, 1, 1000} {
		if err := c.freezes.watcher.Stop(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it goes on", func() bool { _, more := <-c.freezes.watcher.Updates(); return !more })
		key := fmt.Sprintf("freeze%d", i)
		if _, err := c.freezes.bucket.Put(t.Context(), key, encode(fleet.Freeze{Dates: key})); err != nil {
			t.Fatal(err)
		}
		c.freezes.mu.Lock()
		c.freezes.reached = reached
		c.freezes.mu.Unlock()
		if err := c.freezes.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, came := c.freezes.get(key); !came {
			t.Errorf("reached %d: %s has not come", reached, key)
		}
	}
}

// A verdict that was removed before anybody read on is not waited for.
func TestVerdictsAreReadOn(t *testing.T) {
	t.Parallel()
	c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(*Options) {})
	defer shut(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // less than what is waited for an engine that is silent
	defer cancel()
	for _, id := range []string{"20260101T100000Z-000001", "20260102T100000Z-000002", "20260103T100000Z-000003"} {
		if err := c.KeepRecord(ctx, fleet.Record{ID: id, Service: "shop"}); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(id, "2") {
			c.records.mu.RLock()
			at := c.records.known[id]
			c.records.mu.RUnlock()
			if err := c.records.stream.DeleteMsg(ctx, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.records.catchUp(ctx); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if c.records.reached != 3 {
		t.Errorf("read up to %d", c.records.reached)
	}
}

// owed is what becomes of the permit of a run that is over and could not give it back.
func owed(t *testing.T, keeping bool) (free bool) {
	t.Helper()
	both := pair(t, func(o *Options) { o.Keeping = keeping })
	c := both[0]
	leads(t, c, 0)
	now := time.Now()
	run := fleet.Run{ID: "01a226a5-fa43-7af8-a43a-bc9366162e04", By: "otto", Kind: "cpu", Services: []string{"shop"}, Issued: now, Start: now, Deadline: now.Add(time.Hour), State: fleet.RunEnded, Term: 1,
		Hosts: []fleet.RunHost{{Key: "K", Name: "web1", Order: "o", State: fleet.HostEnded, Reverted: true}}}
	going := run
	going.ID, going.Services, going.State = "01a226a5-fa43-7af8-a43a-bc9366162e05", []string{"search"}, fleet.RunRunning
	for _, run := range []fleet.Run{run, going} {
		if err := errors.Join(c.takePermits(t.Context(), permits.Names(run.Services, nil), permits.Permit{Run: run.ID, By: "otto", Until: now.Add(2 * time.Hour)}, now), c.runs.put(t.Context(), run)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.yieldAll(ctx, run); err == nil {
		t.Fatal("it could be given back")
	}
	holds := func(service string) bool {
		return drill.KindOf(c.permits.Look(t.Context(), []string{service}, now)) == drill.Refused
	}
	if !holds("shop") {
		t.Fatal("nobody holds it")
	}
	if keeping {
		if err := c.freePermits(t.Context()); err != nil {
			t.Fatal(err)
		}
		return !holds("shop")
	}
	ctx, cancel = context.WithCancel(t.Context())
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	looking.Go(func() { c.keepPermits(ctx) })
	eventually(t, "the permit of a run that is over is held", func() bool { return !holds("shop") })
	if !holds("search") {
		t.Error("the permit of a run that goes on was given back")
	}
	return true
}

func TestAPermitThatCouldNotBeGivenBackIsGivenBackLater(t *testing.T) {
	t.Parallel()
	if !owed(t, false) {
		t.Error("it is held")
	}
}

func TestAPermitThatIsKeptIsCaught(t *testing.T) {
	t.Parallel()
	if owed(t, true) {
		t.Error("the planted bug is not noticed")
	}
}

// BenchmarkReadingAnew is how long a server reads on when who told it of changes is gone, with 20,000 runs of before, beside reading all of them.
func BenchmarkReadingAnew(b *testing.B) {
	c, err := Open(b.Context(), Options{Directory: filepath.Join(b.TempDir(), "fleet"), Listen: "127.0.0.1:0", Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	shelf := c.runs.shelf
	for n := range 20_000 {
		run := fleet.Run{ID: fmt.Sprintf("00000000-0000-7000-8000-%012d", n), State: fleet.RunEnded, Issued: time.Unix(int64(n), 0)}
		if _, err := c.store.js.PublishAsync("$KV."+shelf.bucket.Bucket()+"."+run.ID, encode(run)); err != nil {
			b.Fatal(err)
		}
		if n%1000 == 999 {
			<-c.store.js.PublishAsyncComplete()
		}
	}
	if err := shelf.read(b.Context()); err != nil {
		b.Fatal(err)
	}
	reached := shelf.reached
	took := map[bool]time.Duration{}
	for _, whole := range []bool{false, true} {
		b.Run(map[bool]string{false: "onward", true: "whole"}[whole], func(b *testing.B) {
			for b.Loop() {
				shelf.mu.Lock()
				if shelf.reached = reached; whole {
					shelf.reached = 0
				}
				shelf.mu.Unlock()
				if err := shelf.read(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			took[whole] = b.Elapsed() / time.Duration(b.N)
			if whole {
				b.ReportMetric(float64(took[true])/float64(took[false]), "x")
			}
		})
	}
}
