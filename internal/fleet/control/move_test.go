package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
)

// lived is the directory of a server that has led alone for years, and what a person sees there.
func lived(t *testing.T) (directory string, sees []string) {
	t.Helper()
	directory = filepath.Join(t.TempDir(), "fleet")
	o := newOld(t, directory, false)
	keepDrill(t, o.c, fleet.DrillEnded, 64)
	if err := errors.Join(
		o.c.members.add(t.Context(), fleet.Member{Key: "KEY", Name: "web1", Role: fleet.RoleAgent}),
		o.c.levers.put(t.Context(), leverKey, fleet.Lever{Engaged: true, By: "ann", Epoch: 7}),
		o.c.permits.Bucket.Put(t.Context(), "shop", encode(permits.Permit{Run: "somebody"})),
		o.c.permits.Bucket.Put(t.Context(), "bank", encode(permits.Permit{Run: "nobody"})),
		o.c.tokens.put(t.Context(), "leave", leave{ID: "leave", Uses: 3}),
	); err != nil {
		t.Fatal(err)
	}
	if _, revision, err := o.c.permits.Bucket.Get(t.Context(), "bank"); err != nil || o.c.permits.Bucket.Delete(t.Context(), "bank", revision) != nil {
		t.Fatal(err) // what was given back leaves a mark
	}
	o.c.Record("the last act of a server that leads alone")
	sees = sight(t, o.c)
	shut(t, o.c)
	return directory, sees
}

// sight is all that a server has to tell.
func sight(t *testing.T, c *Control) (all []string) {
	t.Helper()
	say := func(what string, value any) { all = append(all, what+" "+string(encode(value))) }
	for _, run := range c.runs.shelf.values() {
		say("run", run)
		for _, host := range run.Hosts {
			text, err := c.JournalText(t.Context(), host)
			say("journal of "+host.Order, string(text)+fmt.Sprint(err))
		}
	}
	for _, one := range c.drills.values() {
		say("drill", one)
	}
	records, count := c.Records("shop", "", 1000)
	say("verdicts", records)
	say("verdicts", count)
	for _, one := range c.members.values() {
		say("member", one)
	}
	for _, one := range c.tokens.values() {
		say("token", one)
	}
	for _, one := range c.schedule.values() {
		say("schedule", one)
	}
	for _, one := range c.levers.values() {
		say("lever", one)
	}
	holders, err := c.permits.Holders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	say("permits", holders)
	slices.Sort(all)
	return all
}

func mover1(directory, address string) *mover {
	return &mover{o: Options{Directory: directory, Name: "control", External: External{URLs: []string{address}}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, again: time.Millisecond}
}

// given is the directory of another server that was given the identity.
func given(t *testing.T, from string) string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "fleet")
	text, err := os.ReadFile(filepath.Join(from, identityFile))
	if err == nil {
		err = errors.Join(os.MkdirAll(directory, 0o700), os.WriteFile(filepath.Join(directory, identityFile), text, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return directory
}

// opens starts a server with an engine of others, and gives what it sees.
func opens(t *testing.T, directory, address string, change func(*Options)) ([]string, error) {
	t.Helper()
	o := Options{Directory: directory, Listen: "127.0.0.1:0", Name: "control", External: External{URLs: []string{address}}, Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&o)
	}
	c, err := Open(t.Context(), o)
	if err != nil {
		return nil, err
	}
	defer shut(t, c)
	return sight(t, c), nil
}

// opensAlone starts the server as before.
func opensAlone(t *testing.T, directory string) ([]string, error) {
	t.Helper()
	return opens(t, directory, "", func(o *Options) { o.External = External{} })
}

func refusedFor(t *testing.T, what string, err error, words, cure string) {
	t.Helper()
	if drill.KindOf(err) != drill.Refused || !strings.Contains(fmt.Sprint(err), words) || !strings.Contains(drill.HintOf(err), cure) {
		t.Errorf("%s: %v (%v), cure %q; want %q and %q", what, err, drill.KindOf(err), drill.HintOf(err), words, cure)
	}
}

// namesAll holds that the first admin's credentials name every server, though the one that has them starts last and does not lead.
func namesAll(t *testing.T, directory, address string) {
	t.Helper()
	for _, one := range []struct{ name, directory string }{{"other", given(t, directory)}, {"control", directory}} {
		c, err := Open(t.Context(), Options{Directory: one.directory, Listen: "127.0.0.1:0", Name: one.name, External: External{URLs: []string{address}}, Lease: time.Hour, Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer shut(t, c)
	}
	var admin fleet.Credentials
	if err := durable.Load(filepath.Join(directory, AdminFile), &admin); err != nil || len(strings.Split(admin.Address, ",")) != 2 {
		t.Errorf("the first admin's credentials name %q (%v), and two servers are there", admin.Address, err)
	}
}

func TestWhatOneServerKeptIsWholeInAnEngineOfOthers(t *testing.T) {
	t.Parallel()
	directory, want := lived(t)
	address := others(t, nil)
	_, err := opens(t, directory, address, nil)
	refusedFor(t, "a server that would begin with nothing", err, "is what one server keeps", "firedrill server move --data "+filepath.Dir(directory)+" --nats "+address)
	_, err = opens(t, given(t, directory), address, nil)
	refusedFor(t, "another one with that identity", err, "nothing of it is there yet", "firedrill server move")

	lost := 0
	m := mover1(directory, address)
	m.lossy = func(stream string, number uint64) bool { // once
		lose := stream == "KV_runs" && number == 3 && lost == 0
		if lose {
			lost++
		}
		return lose
	}
	told := 0
	m.progress = func(MoveProgress) { told++ }
	done, err := m.move(t.Context())
	if err != nil || lost != 1 || told == 0 {
		t.Fatalf("%v, %d lost, told %d times", err, lost, told)
	}
	at := slices.IndexFunc(done.Streams, func(one MovedStream) bool { return one.Name == "KV_runs" })
	if at < 0 || done.Streams[at].Messages != 9 || done.Streams[at].Replicas != 1 || len(done.Streams[at].SHA256) != 64 || done.Already || done.Proven.IsZero() {
		t.Errorf("%+v", done)
	}
	_, err = opensAlone(t, directory)
	refusedFor(t, "the server as before", err, "is led from there", "--nats "+address)
	for what, directory := range map[string]string{"the server": directory, "another one": given(t, directory)} {
		got, err := opens(t, directory, address, nil)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v; it sees %q, and was to see %q", what, err, got, want)
		}
	}
	namesAll(t, directory, address)
	if id, err := loadIdentity(directory); err != nil || id.Alone {
		t.Errorf("it is still said that one server keeps everything: %v", err)
	}
	if again, err := mover1(directory, address).move(t.Context()); err != nil || !again.Already || !again.Proven.Equal(done.Proven) {
		t.Errorf("again: %+v, %v", again, err)
	}
	_, err = mover1(directory, others(t, nil)).move(t.Context())
	refusedFor(t, "to yet another place", err, "was moved already", "Start the servers there")
}

// Wherever a move breaks off, one place counts, and it is the old one until the new one is proven; and it can be run again.
func TestAMoveThatBreaksOffIsRunAgain(t *testing.T) {
	t.Parallel()
	directory, want := lived(t)
	address := others(t, nil)
	killed := &drill.Error{Op: "move", Kind: drill.Interrupted, Err: errors.New("killed")}
	for _, at := range []string{"clear", "copy JOURNALS", "message 3 of KV_runs", "copy KV_tokens", "prove", "open"} {
		m := mover1(directory, address)
		m.step = func(what string) error {
			if what == at {
				return killed
			}
			return nil
		}
		if _, err := m.move(t.Context()); drill.KindOf(err) != drill.Interrupted {
			t.Fatalf("%s: %v", at, err)
		}
		_, err := opens(t, given(t, directory), address, nil)
		refusedFor(t, at+": another server there", err, "has not ended", "firedrill server move")
		if at == "open" {
			_, err := opensAlone(t, directory)
			refusedFor(t, at+": the server as before", err, "is led from there", "")
			continue
		}
		_, err = opens(t, directory, address, nil)
		refusedFor(t, at+": the server there", err, "has not ended", "run it again")
		if got, err := opensAlone(t, directory); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: the server as before: %v, %q", at, err, got)
		}
	}
	if _, err := mover1(directory, address).move(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := opens(t, directory, address, nil); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v: it sees %q, and was to see %q", err, got, want)
	}
}

// A place that holds anything is left as it is.
func TestAPlaceThatHoldsSomethingIsRefused(t *testing.T) {
	t.Parallel()
	directory, _ := lived(t)
	another := others(t, nil)
	theirs, err := opens(t, filepath.Join(t.TempDir(), "fleet"), another, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = mover1(directory, another).move(t.Context())
	refusedFor(t, "another fleet", err, "is of fleet", "holds nothing")
	begun := others(t, nil)
	if _, err := opens(t, given(t, directory), begun, func(o *Options) { o.Unminding = true }); err != nil {
		t.Fatal(err)
	}
	_, err = mover1(directory, begun).move(t.Context())
	refusedFor(t, "the same fleet", err, "has begun anew there", "stop them, remove what they began")
	moving := others(t, nil)
	m := mover1(filepath.Join(t.TempDir(), "fleet"), moving)
	m.o.Directory, _ = lived(t)
	m.step = func(string) error { return &drill.Error{Kind: drill.Interrupted, Err: errors.New("killed")} }
	if _, err := m.move(t.Context()); err == nil {
		t.Fatal("it was not killed")
	}
	_, err = mover1(directory, moving).move(t.Context())
	refusedFor(t, "one that is on its way", err, "is being moved there", "holds nothing")
	if got, err := opensAlone(t, directory); err != nil || len(got) == 0 {
		t.Errorf("the server as before: %v", err)
	}
	if len(theirs) == 0 {
		t.Error("nothing was there")
	}
	_, err = mover1(filepath.Join(t.TempDir(), "fleet"), moving).move(t.Context())
	if drill.KindOf(err) != drill.Invalid {
		t.Errorf("a directory of nothing: %v", err)
	}
	m = mover1(directory, moving)
	m.o.External = External{}
	if _, err := m.move(t.Context()); drill.KindOf(err) != drill.Invalid {
		t.Errorf("to nowhere: %v", err)
	}
}

func TestPlantedBugsOfAMoveAreCaught(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(t *testing.T, directory, address string, want []string) (caught bool){
		"what was moved leads on": func(t *testing.T, directory, address string, _ []string) bool {
			m := mover1(directory, address)
			m.unmarked = true
			_, err := m.move(t.Context())
			_, alone := opensAlone(t, directory)
			return err == nil && alone == nil
		},
		"what was copied is not compared": func(t *testing.T, directory, address string, want []string) bool {
			m := mover1(directory, address)
			m.uncompared, m.lossy = true, func(stream string, number uint64) bool { return stream == "KV_runs" && number == 3 }
			_, err := m.move(t.Context())
			got, opened := opens(t, directory, address, nil)
			return err == nil && opened == nil && !slices.Equal(got, want)
		},
		"what a try before has left stays": func(t *testing.T, directory, address string, _ []string) bool {
			m := mover1(directory, address)
			m.step = func(what string) error {
				if what == "prove" {
					return &drill.Error{Kind: drill.Interrupted, Err: errors.New("killed")}
				}
				return nil
			}
			_, killed := m.move(t.Context())
			m = mover1(directory, address)
			m.heaping = true
			_, err := m.move(t.Context())
			return killed != nil && err != nil && strings.Contains(err.Error(), "is not what was copied")
		},
		"the new place counts at once": func(t *testing.T, directory, address string, want []string) bool {
			m := mover1(directory, address)
			m.hasty, m.step = true, func(what string) error {
				if what == "copy KV_runs" {
					return &drill.Error{Kind: drill.Interrupted, Err: errors.New("killed")}
				}
				return nil
			}
			_, killed := m.move(t.Context())
			got, err := opens(t, given(t, directory), address, nil)
			return killed != nil && err == nil && !slices.Equal(got, want)
		},
		"what another fleet keeps there is not looked at": func(t *testing.T, directory, address string, _ []string) bool {
			theirs := filepath.Join(t.TempDir(), "fleet")
			before, err := opens(t, theirs, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			m := mover1(directory, address)
			m.greedy = true
			_, err = m.move(t.Context())
			after, opened := opens(t, theirs, address, nil)
			return err != nil && (opened != nil || !slices.Equal(before, after))
		},
		"a place of nothing is begun": func(t *testing.T, directory, address string, want []string) bool {
			got, err := opens(t, given(t, directory), address, func(o *Options) { o.Unminding = true })
			return err == nil && !slices.Equal(got, want)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory, want := lived(t)
			if !plant(t, directory, others(t, nil), want) {
				t.Error("the planted bug is not caught")
			}
		})
	}
}

// Two new servers wait for what is moved to them, and the one that had led alone comes as the third; whichever is asked has all of it.
func TestWhatOneServerKeptIsWholeOnThree(t *testing.T) {
	t.Parallel()
	directory, want := lived(t)
	var peers []string
	for range clusterMin {
		peers = append(peers, freeAddress(t, fmt.Sprintf("127.63.%d.%d", os.Getpid()>>8&0xff, max(1, min(254, os.Getpid()&0xff)))))
	}
	options := func(i int, directory string) Options {
		return Options{Directory: directory, Listen: "127.0.0.1:0", Name: fmt.Sprintf("c%d", i), Cluster: Cluster{Listen: peers[i], Peers: peers}, Lease: time.Hour, Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	}
	_, err := Open(t.Context(), options(0, directory))
	refusedFor(t, "one of three that would begin with nothing", err, "is what one server keeps", "firedrill server move --data "+filepath.Dir(directory)+" --cluster-peers "+strings.Join(peers, ","))
	servers, problems := make([]*Control, clusterMin), make([]error, clusterMin)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var opening sync.WaitGroup
	open := func(i int, directory string) { // again, as systemd would: an engine that is choosing its leader is away for a moment
		for ; servers[i] == nil && ctx.Err() == nil; <-time.After(storeAgain) {
			servers[i], problems[i] = Open(ctx, options(i, directory))
		}
	}
	for i := 1; i < clusterMin; i++ {
		directory := given(t, directory)
		opening.Go(func() { open(i, directory) })
	}
	done, err := Move(ctx, options(0, directory), nil)
	if err != nil {
		cancel()
		opening.Wait()
		t.Fatal(err)
	}
	for _, one := range done.Streams {
		if one.Replicas != replicasWanted {
			t.Errorf("%s is kept %d times", one.Name, one.Replicas)
		}
	}
	open(0, directory)
	opening.Wait()
	for i, c := range servers {
		if problems[i] != nil {
			t.Fatal(problems[i])
		}
		t.Cleanup(func() { shut(t, c) })
		if got := sight(t, c); !slices.Equal(got, want) {
			t.Errorf("%s sees %q, and was to see %q", c.options.Name, got, want)
		}
	}
	leads(t, servers[1], 0)
	if term, ok := servers[1].lead.holds(); !ok || term == 0 {
		t.Errorf("term %d", term) // hosts have heard 0
	}
	// Log and reports lie where they lay, and the server with that directory has another name now.
	for began := time.Now(); ; <-time.After(time.Millisecond) {
		files, err := servers[2].Call(t.Context(), viewer(), "drillfiles", encode(keptDrill))
		if all, is := files.([]fleet.DrillFile); err == nil && is && len(all) == 3 {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("files of a drill of before: %v, %v", files, err)
		}
	}
	turnAudit(t, servers...)
	if lines := wholeAudit(t, servers[2], 1000); !slices.ContainsFunc(lines, func(line string) bool { return strings.HasSuffix(line, "the last act of a server that leads alone") }) {
		t.Errorf("%q", lines)
	}
	for _, c := range servers {
		mustBeWhole(t, c)
	}
	// Where there are more servers than replicas, a server is not to have everything.
	if _, err := servers[0].store.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ONCE", Subjects: []string{"once"}, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	for _, c := range servers {
		keepsWhatItIsTo(t, c)
	}
	keepsWhenItHasAll(t, servers[2])
}

// keepsWhatItIsTo waits until one of three servers says that it has all that it is to keep.
func keepsWhatItIsTo(t *testing.T, c *Control) {
	t.Helper()
	if c.options.Premature = true; c.Behind() {
		t.Error("the planted bug is not noticed")
	}
	if c.options.Premature = false; !c.Behind() {
		t.Error("nobody has looked, and it has all")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if c.awaitWhole(ctx); c.Behind() {
		t.Errorf("%s never has all: %v", c.options.Name, c.caughtUp(t.Context()))
	}
}

// keepsWhenItHasAll has one of three servers opened anew that does not have everything yet.
func keepsWhenItHasAll(t *testing.T, c *Control) {
	t.Helper()
	if err := c.engine.Load().DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	for _, premature := range []bool{false, true} {
		c.anew, c.options.Premature = true, premature // it was opened anew just now
		c.keeping.expectQuiet()
		if again, err := c.reopen(t.Context()); again != premature || err != nil {
			t.Errorf("premature %v: it keeps again: %v (%v)", premature, again, err)
		}
	}
}
