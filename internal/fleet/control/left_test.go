package control

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

// conducting is a conductor that does once what a test wants while it conducts.
type conducting struct {
	counting
	once sync.Once
	then func() End // may be nil
}

func (c *conducting) Conduct(ctx context.Context, job Job) (End, error) {
	end, err := c.counting.Conduct(ctx, job)
	if c.then != nil {
		c.once.Do(func() { end = c.then() })
	}
	return end, err
}

// succession is a pair of servers whose first one leads, with a host of each environment of a shop, and one entry of the schedule.
type succession struct {
	*testing.T
	both      [2]*Control
	conductor *conducting
	due       time.Time

	mu       sync.Mutex      // guards the fields below
	asked    func()          // once, when the schedule is about to begin; may be nil
	answered func()          // once, before a host answers its first order; may be nil
	begun    map[string]bool // orders that were told to go
}

// once takes what is to be done once.
func (s *succession) once(what *func()) {
	s.mu.Lock()
	then := *what
	*what = nil
	s.mu.Unlock()
	if then != nil {
		then()
	}
}

// succeeds has the second server take the lease while the first one thinks that it leads, and take over.
func (s *succession) succeeds() {
	term, from, _, err := s.both[1].lead.look(s.Context(), time.Now().Add(3*time.Hour))
	if err == nil && term == 0 { // it was renewed since it was looked at
		term, from, _, err = s.both[1].lead.look(s.Context(), time.Now().Add(6*time.Hour))
	}
	if err != nil || term == 0 {
		s.Errorf("the second server does not lead: %d %v", term, err)
		return
	}
	s.both[1].takeOver(s.Context(), term, from)
}

func succeed(t *testing.T, drilled bool, change func(*Options)) *succession {
	t.Helper()
	s := &succession{T: t, conductor: &conducting{}, begun: map[string]bool{}}
	s.both = pair(t, func(o *Options) {
		o.Conductor, o.RollCall, o.Lead = s.conductor, 5*time.Second, 2*time.Second
		o.Clock = func() time.Time { return s.due.Add(2 * time.Second) }
		o.Person = func(name string) (fleet.Member, bool) {
			s.once(&s.asked)
			return fleet.Member{Name: name, Role: fleet.RoleOperator}, true
		}
		if change != nil {
			change(o)
		}
	})
	leads(t, s.both[0], 0)
	if _, _, _, err := s.both[1].lead.look(t.Context(), time.Now()); err != nil { // so that it has seen whose the lease is
		t.Fatal(err)
	}
	for i, name := range []string{"web1", "web2"} {
		host := fleet.Member{Key: "U" + strings.Repeat(string(rune('A'+i)), 55), Name: name, Role: fleet.RoleAgent, Tags: map[string]string{"service": "shop"}}
		if err := s.both[0].members.add(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		for _, c := range s.both {
			s.host(c, host)
		}
	}
	otto := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
	call := func(call string, asked any) {
		if _, err := s.both[0].Call(t.Context(), otto, call, encode(asked)); err != nil {
			t.Fatalf("%s: %v", call, err)
		}
	}
	call("putservice", fleet.PutService{Text: shop})
	entry := fleet.ScheduleRequest{Name: "daily", Cron: "0 10 * * * UTC", CatchUp: drill.Seconds(time.Hour)}
	if drilled {
		entry.Drill = &fleet.DrillRequest{Service: "shop", Drill: "cut"}
	} else {
		entry.Request = fleet.AttackRequest{Kind: "cpu", Args: []string{"-l", "1"}, Selector: fleet.Selector{Names: []string{"web1"}}}
	}
	call("schedule", entry)
	call("unleash", "daily")
	s.due = s.both[0].Scheduled(time.Now())[0].Next.Add(time.Second)
	return s
}

// host answers a server as an agent does.
func (s *succession) host(c *Control, host fleet.Member) {
	s.Helper()
	here := func(*nats.Msg) {
		c.saw(host, fleet.Presence{At: time.Now(), Facts: &fleet.Facts{Kinds: []string{"cpu"}, Tags: host.Tags}})
	}
	here(nil)
	for subject, handle := range map[string]nats.MsgHandler{
		fleet.SubjectRollCall: here,
		fleet.ToAgent(host.Key, fleet.WordOrder): func(*nats.Msg) {
			if c != s.both[0] && s.both[0] != nil && c.lead.leader().Server != c.boot {
				return // it was not this server that ordered
			}
			s.once(&s.answered)
			for _, run := range c.runs.going() {
				for _, one := range run.Hosts {
					if one.Key == host.Key {
						c.hand(one.Order, said{host: host.Key, answer: fleet.Answer{Order: one.Order, State: fleet.Accepted}})
					}
				}
			}
		},
		fleet.ToAgent(host.Key, fleet.WordGo): func(message *nats.Msg) {
			if order, err := fleet.Decode[fleet.Go](message.Data); err == nil {
				s.mu.Lock()
				s.begun[order.Order] = true
				s.mu.Unlock()
			}
		},
	} {
		if _, err := c.conn.Subscribe(subject, handle); err != nil {
			s.Fatal(err)
		}
	}
	if err := c.conn.Flush(); err != nil {
		s.Fatal(err)
	}
}

// old has a server lead for long.
func (c *Control) old() {
	c.lead.mu.Lock()
	defer c.lead.mu.Unlock()
	c.lead.since = time.Now().Add(-youth)
}

// entry is the entry of the schedule as the second server knows it.
func (s *succession) entry() fleet.Scheduled {
	all := s.both[1].scheduled()
	if len(all) != 1 {
		return fleet.Scheduled{}
	}
	return all[0]
}

// times plays the moment: the first server begins it, the second one leads after, and is asked until nothing is open. It returns how often it was begun.
func (s *succession) times() int {
	s.Helper()
	first, second := s.both[0], s.both[1]
	first.carryOutDue(s.Context(), s.due)
	first.due.Wait()
	if _, leads := second.lead.holds(); !leads {
		s.succeeds()
	}
	// What the first one wrote last has come, as it has when the second one is not young any more.
	if err := errors.Join(second.runs.shelf.sync(s.Context()), second.drills.sync(s.Context()), second.schedule.sync(s.Context())); err != nil {
		s.Fatal(err)
	}
	second.old()
	for quiet := 0; quiet < 3; { // what one look begins, the next one may have to look after
		second.follow(s.Context(), time.Now())
		second.followDrills(s.Context())
		second.carryOutDue(s.Context(), s.due.Add(2*time.Second))
		second.carryOutLeft(s.Context(), s.due.Add(2*time.Second))
		second.due.Wait()
		quiet++
		if one := s.entry(); one.Done.IsZero() || one.Beginning != "" && !second.options.Forsaking || len(second.GoingDrills()) > 0 {
			quiet = 0
		}
	}
	told := func(run fleet.Run) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.begun[run.Hosts[0].Order]
	}
	for _, run := range second.runs.newest("", 100, nil) {
		for run.State == fleet.RunRunning && !told(run) { // it is on its way
			<-time.After(time.Millisecond)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.begun) + s.conductor.count()
}

// losses are the places at which a server may lose a moment that it is about to begin.
var losses = []struct {
	name            string
	attacks, drills bool // of which it can happen
	times           int  // a drill that was broken off was begun, and is once more
	with            func(*succession)
}{
	{"its lease ran out", true, true, 1, func(s *succession) {
		s.asked = func() { s.both[0].lead.expire(time.Now().Add(2 * time.Hour)) }
	}},
	{"it was killed", true, true, 1, func(s *succession) { s.asked = runtime.Goexit }},
	{"another one leads and it does not know", true, true, 1, func(s *succession) { s.asked = s.succeeds }},
	{"another one leads when the hosts have answered", true, false, 1, func(s *succession) { s.answered = s.succeeds }},
	{"another one leads in the middle of the drill", false, true, 2, func(s *succession) {
		s.conductor.then = func() End {
			s.both[0].lead.expire(time.Now().Add(2 * time.Hour))
			s.succeeds()
			s.both[0].endDrills("this server leads no more")
			return End{Record: fleet.Record{Outcome: string(history.Inconclusive)}}
		}
	}},
	{"that it began could not be written down", true, true, 1, func(s *succession) {
		s.asked = func() {
			shelf := s.both[0].schedule
			shelf.mu.Lock()
			defer shelf.mu.Unlock()
			for id, one := range shelf.all {
				one.revision = 1 << 60 // whatever it writes now is of another time
				shelf.all[id] = one
			}
		}
	}},
}

func TestAMomentWhoseServerLedNoMoreIsBegunByTheNext(t *testing.T) {
	t.Parallel()
	for _, loss := range losses {
		for _, drilled := range []bool{false, true} {
			if drilled && !loss.drills || !drilled && !loss.attacks {
				continue
			}
			t.Run(fmt.Sprintf("%s, drill %v", loss.name, drilled), func(t *testing.T) {
				t.Parallel()
				s := succeed(t, drilled, nil)
				loss.with(s)
				if got := s.times(); got != loss.times {
					t.Errorf("begun %d times: %+v", got, s.entry())
				}
				if one := s.entry(); one.Last == "" || one.Why != "" {
					t.Errorf("what became of it is not said: %+v", one)
				}
			})
		}
	}
}

// lossNamed plays one of the losses with planted bugs.
func lossNamed(t *testing.T, name string, drilled bool, change func(*Options)) int {
	t.Helper()
	for _, loss := range losses {
		if loss.name == name {
			s := succeed(t, drilled, change)
			loss.with(s)
			times := s.times()
			t.Logf("%+v", s.entry())
			return times
		}
	}
	t.Fatalf("nothing is called %q", name)
	return 0
}

func TestAServerThatForgetsWhatTheOneBeforeWasToBeginIsCaught(t *testing.T) {
	t.Parallel()
	if got := lossNamed(t, "its lease ran out", false, func(o *Options) { o.Forsaking = true }); got != 0 {
		t.Errorf("the planted bug is not noticed: begun %d times", got)
	}
}

func TestAServerThatBeginsAgainWhateverBecameOfItIsCaught(t *testing.T) {
	t.Parallel()
	if got := lossNamed(t, "that it began could not be written down", true, func(o *Options) { o.Rash = true }); got <= 1 {
		t.Errorf("the planted bug is not noticed: begun %d times", got)
	}
}

// A moment that cannot be caught up by now, or was begun once more already, is missed, and that is said.
func TestAMomentThatCannotBeCaughtUpIsMissed(t *testing.T) {
	t.Parallel()
	s := succeed(t, false, nil)
	s.asked = runtime.Goexit
	s.both[0].carryOutDue(t.Context(), s.due)
	s.both[0].due.Wait()
	s.succeeds()
	s.both[1].carryOutLeft(t.Context(), s.due.Add(2*time.Hour))
	if one := s.entry(); one.Beginning == "" {
		t.Errorf("a server that has just begun to lead does not wait: %+v", one)
	}
	s.both[1].old()
	s.both[1].carryOutLeft(t.Context(), s.due.Add(2*time.Hour))
	s.both[1].due.Wait()
	if one := s.entry(); one.Beginning != "" || !strings.Contains(one.Why, "cannot be caught up now") || audited(t, s.both[1], "missed daily") != 1 {
		t.Errorf("%+v", one)
	}
	again := s.entry()
	again.Again, again.Beginning = again.Done, "01a2282b-39da-775b-b224-f0536b3808d1"
	if err := s.both[1].schedule.put(t.Context(), again.ID, again); err != nil {
		t.Fatal(err)
	}
	s.both[1].carryOutLeft(t.Context(), s.due.Add(time.Second))
	s.both[1].due.Wait()
	if one := s.entry(); one.Beginning != "" || !strings.Contains(one.Why, "twice") {
		t.Errorf("%+v", one)
	}
}

// What a moment before came to is known late, and changes nothing of the one that has come since: it would come due again.
func TestAMomentThatEndsLateDoesNotBringTheNextOneBack(t *testing.T) {
	t.Parallel()
	for _, byHand := range []bool{false, true} {
		s := succeed(t, false, nil)
		c := s.both[0]
		next := s.due.Add(24 * time.Hour)
		s.answered = func() { c.carryOutDue(t.Context(), next) }
		if byHand {
			if _, err := c.Call(t.Context(), fleet.Member{Name: "otto", Role: fleet.RoleOperator}, "runscheduled", encode("daily")); err != nil {
				t.Error(err)
			}
		} else {
			c.carryOutDue(t.Context(), s.due)
		}
		c.due.Wait()
		if one := c.scheduled()[0]; !one.Done.Equal(next.Add(-time.Second)) || one.Beginning != "" {
			t.Errorf("by hand %v: %+v", byHand, one)
		}
	}
}
