package fleettest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/client"
)

// wakesUp freezes the server that leads until another one does, and has the first one order when it wakes up. It reports whether a host took
// that order; the server that leads by then would take the run over and end it.
func wakesUp(t *testing.T, stubborn, termless bool) (ordered bool, why error) {
	t.Helper()
	r := newRing(t, 2, 1, func(c *serverConfig) { c.Stubborn = stubborn })
	a := r.join("web1", web(), termless)
	r.join("web2", web(), termless)
	r.online()
	old := r.leader()
	old.signal(syscall.SIGSTOP)
	r.await("another leader", func() error {
		log, err := os.ReadFile(r.servers[1-slices.Index(r.servers, old)].log)
		if err == nil && !strings.Contains(string(log), "this server leads, term 2") {
			err = errors.New("it does not lead")
		}
		return err
	})
	// The host has heard of it before the one that was frozen speaks.
	r.await("the host", func() error {
		log, err := os.ReadFile(a.log)
		if err == nil && strings.Count(string(log), "the control plane knows us") < 2 {
			err = errors.New("it does not know yet")
		}
		return err
	})
	old.signal(syscall.SIGCONT)
	// Either server may be the one that answers, so it is asked until the one that was frozen has.
	for range wakeTries {
		var run fleet.Run
		why = r.try("attack", fleet.AttackRequest{Selector: fleet.Selector{Names: []string{"web1"}, Seed: 1}, Kind: "cpu", Args: []string{"-l", "0.1"}}, &run)
		// The one that leads takes a run of the other over as soon as it sees it, so what counts is whether the host has it in its journal.
		if run.ID != "" && (run.Term == 1 || len(run.Takeovers) > 0) && took(a, run.Hosts[0].Order) {
			return true, why
		}
		if why != nil && strings.Contains(why.Error(), "leads no more") {
			return false, why
		}
		if run.ID != "" {
			r.ended(run.ID)
		}
		if !stubborn && why == nil {
			return false, nil // what was asked of the one that was frozen is handed on, so one answer says it
		}
		<-time.After(overloaded)
	}
	return false, why
}

const wakeTries = 100

// took reports whether a host has taken an order.
func took(host *part, order string) bool {
	return tookAt(host.config.(agentConfig).State, order) //nolint:forcetypeassert // of an agent
}

func tookAt(state, order string) bool {
	return gone(filepath.Join(state, "journal", order+".jsonl")) != nil || gone(filepath.Join(state, "journal", "sent", order+".jsonl")) != nil
}

func TestAServerThatWakesUpOrdersNothing(t *testing.T) {
	t.Parallel()
	if ordered, why := wakesUp(t, false, false); ordered {
		t.Errorf("a server that leads no more has ordered; %v", why)
	}
}

func TestHostsRefuseAServerThatLeadsNoMore(t *testing.T) {
	t.Parallel()
	if ordered, why := wakesUp(t, true, false); ordered || why == nil || !strings.Contains(why.Error(), "leads no more") {
		t.Errorf("ordered %v: %v", ordered, why)
	}
}

func TestHostsThatHeedAServerThatLeadsNoMoreAreCaught(t *testing.T) {
	t.Parallel()
	if ordered, why := wakesUp(t, true, true); !ordered {
		t.Errorf("the planted bug is not noticed: %v", why)
	}
}

// The times of runs while everything is killed.
const (
	killedLength = "1.5"
	killedMost   = 10 * time.Second
	killedRests  = 2 * time.Second // at most, before a part comes back and before the next one goes
)

// killing is a ring in which something is killed all the time.
type killing struct {
	*ring
	random *rand.Rand

	begun, refused, unknown atomic.Int64 // runs: carried out; not begun, with a reason; nobody knows
	killed                  map[string]int
	inForce                 int // kills while something was in force

	mu   sync.Mutex // guards the field below
	runs map[string]bool
}

// attackAllTheTime has hosts attacked until ctx ends, by one who asks whichever server answers.
func (k *killing) attackAllTheTime(ctx context.Context, service string, random *rand.Rand) {
	credentials := k.credentials()
	for ctx.Err() == nil {
		c, err := client.Connect(credentials)
		if err != nil {
			<-time.After(overloaded)
			continue
		}
		for ctx.Err() == nil {
			asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 8*time.Second)
			var run fleet.Run
			err := c.Call(asking, "attack", fleet.AttackRequest{Selector: fleet.Selector{Names: []string{fmt.Sprintf("%s%d", service, random.IntN(2))}, Seed: 1}, Kind: "cpu", Args: []string{"-l", killedLength}, Most: drill.Seconds(killedMost)}, &run)
			cancel()
			if run.ID != "" {
				k.mu.Lock()
				k.runs[run.ID] = true
				k.mu.Unlock()
			}
			switch {
			case err == nil:
				k.begun.Add(1)
			case drill.KindOf(err) == drill.Unreachable:
				k.unknown.Add(1)
			default:
				k.refused.Add(1)
			}
			if err != nil {
				<-time.After(overloaded)
			}
			if drill.KindOf(err) == drill.Unreachable && err != nil {
				break
			}
		}
		c.Close()
	}
}

// overloaded keeps those who are refused from asking at once again.
const overloaded = 200 * time.Millisecond

// killAtRandom kills one part after another, and starts each again a moment later.
func (k *killing) killAtRandom(count int) {
	k.t.Helper()
	for range count {
		var kind string
		var victim *part
		switch at := k.random.IntN(4); {
		case at == 0:
			kind, victim = "leader", k.leader()
		case at == 1:
			kind, victim = "server", k.servers[k.random.IntN(len(k.servers))]
		case at == 2 && len(k.engines) > 0:
			kind, victim = "NATS node", k.engines[k.random.IntN(len(k.engines))]
		default:
			kind, victim = "agent", k.agents[k.random.IntN(len(k.agents))]
		}
		if awaited(k.somethingIsInForce, patience) == nil {
			k.inForce++
		}
		victim.kill()
		k.killed[kind]++
		before := k.begun.Load()
		<-time.After(rand.N(killedRests)) //nolint:gosec // to spread
		victim.start()
		// The next one goes when runs begin again, or that takes long; it is nothing that is asked for here.
		_ = awaited(func() error {
			if k.begun.Load() == before {
				return errors.New("no run was begun since")
			}
			return nil
		}, patience)
		<-time.After(rand.N(killedRests)) //nolint:gosec // likewise
		k.remember()
	}
}

func (k *killing) somethingIsInForce() error {
	if !slices.ContainsFunc(k.agents, func(p *part) bool { return len(impacts(hostOf(p))) > 0 }) {
		return errors.New("nothing is in force")
	}
	return nil
}

// remember takes up the names of the runs that are kept, of which a list shows the newest alone.
func (k *killing) remember() {
	var runs []fleet.Run
	if k.within(2*time.Second, "runs", nil, &runs) != nil {
		return // the next time
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, run := range runs {
		k.runs[run.ID] = true
	}
}

// settled waits until all runs that were ever heard of are over, and returns them.
func (k *killing) settled() []fleet.Run {
	k.t.Helper()
	k.remember()
	var all []fleet.Run
	for id := range k.runs {
		run := k.ended(id)
		// A host that was slow to come back is lost until it has told what it did.
		_ = awaited(func() error {
			if !slices.ContainsFunc(run.Hosts, func(h fleet.RunHost) bool { return h.State == fleet.HostLost }) {
				return nil
			}
			return errors.Join(k.try("run", id, &run), errors.New("it is not heard of"))
		}, patience)
		all = append(all, run)
	}
	return all
}

// said are the lines of all logs that name one of some things.
func (k *killing) said(names ...string) string {
	var found strings.Builder
	for _, p := range slices.Concat(k.servers, k.agents) {
		text, _ := os.ReadFile(p.log)
		for line := range strings.Lines(string(text)) {
			if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(line, name) }) {
				found.WriteString(p.name + ": " + line)
			}
		}
	}
	return found.String()
}

// kills carries out runs while parts are killed, and fails when anything is as it must not be.
func kills(t *testing.T, servers, engines, count int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FIREDRILL_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	k := &killing{ring: newRing(t, servers, engines, nil), random: rand.New(rand.NewPCG(seed, 1)), killed: map[string]int{}, runs: map[string]bool{}} //nolint:gosec // to be repeated
	services := []string{"web", "db"}
	for _, service := range services {
		for i := range 2 {
			k.join(fmt.Sprintf("%s%d", service, i), map[string]string{fleet.TagService: service}, false)
		}
	}
	k.online()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asking sync.WaitGroup
	for i, service := range services {
		random := rand.New(rand.NewPCG(seed, uint64(i+2))) //nolint:gosec // likewise
		asking.Go(func() { k.attackAllTheTime(ctx, service, random) })
	}
	k.killAtRandom(count)
	cancel()
	asking.Wait()
	k.connect()
	runs := k.settled()
	for _, wrong := range k.wrongOf(runs, 2*time.Second) {
		t.Errorf("%s (FIREDRILL_SEED=%d)", wrong, seed)
	}
	for _, run := range runs {
		for _, h := range run.Hosts {
			if h.State == fleet.HostLost {
				t.Logf("run %+v:\n%s", run, k.said(run.ID, h.Order))
			}
		}
	}
	states, takeovers, bit := map[string]int{}, 0, 0
	for _, run := range runs {
		states[run.State]++
		takeovers += len(run.Takeovers)
		for _, h := range run.Hosts {
			if h.Bit {
				bit++
			}
		}
	}
	done := 0
	for _, p := range k.agents {
		all, _ := deeds(hostOf(p))
		done += len(all)
	}
	t.Logf("%d servers, %d NATS nodes, seed %d: killed %v, %d of these while something was in force; %d runs on record %v, %d bit, %d takeovers, %d lines of what hosts did; asked: %d begun, %d refused, %d unknown", servers, engines, seed, k.killed, k.inForce, len(runs), states, bit, takeovers, done, k.begun.Load(), k.refused.Load(), k.unknown.Load())
	if k.begun.Load() == 0 {
		t.Error("no run was begun: the test tests nothing")
	}
}

// A handful of kills with each build; the long series by: make kills.
func TestNothingIsLostOrDoneTwiceWhateverIsKilled(t *testing.T) {
	t.Parallel()
	count, err := strconv.Atoi(os.Getenv("FIREDRILL_KILLS"))
	if err != nil {
		kills(t, 2, 1, 4)
		return
	}
	t.Run("three servers of our own", func(t *testing.T) { kills(t, 3, 0, count/2) })
	t.Run("a drill of the schedule whose leader dies, twice", leaderDies)
	t.Run("two servers with three NATS nodes of others", func(t *testing.T) { kills(t, 2, 3, count-count/2) })
}

// What the look at a series must notice is put into it by hand.
func TestALookThatOverlooksIsCaught(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	r := &ring{t: t, directory: directory}
	for _, name := range []string{"a", "b"} {
		config := agentConfig{Directory: filepath.Join(directory, name)}
		if err := os.MkdirAll(config.Directory, 0o700); err != nil {
			t.Fatal(err)
		}
		r.agents = append(r.agents, &part{t: t, name: name, config: config})
	}
	now := time.Now()
	run := func(id, order string) fleet.Run {
		return fleet.Run{ID: id, State: fleet.RunEnded, Services: []string{"web"}, Deadline: now.Add(10 * time.Second), Hosts: []fleet.RunHost{{Name: "a", Order: order, State: fleet.HostEnded, Lines: 3, Chain: "whole", Reverted: true}}}
	}
	did := func(at int, order string, from, to time.Duration) {
		note(hostOf(r.agents[at]), deed{Order: order, At: now.Add(from), Begins: true})
		note(hostOf(r.agents[at]), deed{Order: order, At: now.Add(to)})
	}
	look := func() string { return strings.Join(r.wrongOf([]fleet.Run{run("1", "one"), run("2", "two")}, 0), "\n") }
	did(0, "one", 0, time.Second)
	did(1, "two", 2*time.Second, 3*time.Second)
	if found := look(); found != "" {
		t.Errorf("something is wrong with what is right: %s", found)
	}
	for _, row := range []struct {
		plant func()
		says  string
	}{
		{func() { did(0, "one", 4*time.Second, 5*time.Second) }, "order one was carried out twice"},
		{func() { did(0, "three", 4*time.Second, 5*time.Second) }, "no run knows of it"},
		{func() { did(1, "two", 500*time.Millisecond, 11*time.Second) }, "after its deadline"},
		{func() { did(1, "two", 500*time.Millisecond, 2*time.Second) }, "were in force at the same time"},
	} {
		for _, p := range r.agents {
			_ = os.Remove(filepath.Join(hostOf(p), deedsFile))
		}
		did(0, "one", 0, time.Second)
		row.plant()
		if found := look(); !strings.Contains(found, row.says) {
			t.Errorf("%q is not noticed: %s", row.says, found)
		}
	}
	unended := run("1", "one")
	unended.State = fleet.RunRunning
	broken := run("2", "two")
	broken.Hosts[0].Chain = "altered"
	if found := strings.Join(r.wrongOf([]fleet.Run{unended, broken}, 0), "\n"); !strings.Contains(found, "has no end") || !strings.Contains(found, "altered") {
		t.Errorf("a run without an end, or a journal that was altered, is not noticed: %s", found)
	}
}
