package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/alarm"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/history"
)

const (
	blue  = "bookstore-api-blue"
	green = "bookstore-api-green"
)

// hostDeath plays the death and the return of the active host, and returns what did not happen as it must.
func hostDeath(s *stage, loud bool) error {
	s.pass(20 * time.Second)
	death := time.Now()
	s.fleet.die(blue, loud)
	s.pass(15 * time.Second)
	took, err := s.when(death, "alarm "+blue+"-StatusCheckFailed ALARM")
	if err != nil {
		return err
	}
	if took > 4500*time.Millisecond {
		return fmt.Errorf("the alarm came after %s", took)
	}
	moved, err := s.when(death, "answer green")
	if err != nil {
		return err
	}
	if moved != took {
		return fmt.Errorf("the alarm came after %s, the move after %s", took, moved)
	}
	returned := time.Now()
	s.fleet.boot(blue)
	s.pass(20 * time.Second)
	if _, err := s.when(returned, "alarm "+blue+"-StatusCheckFailed OK"); err != nil {
		return err
	}
	if answers := s.told(returned, history.KindAnswer); len(answers) > 0 {
		return fmt.Errorf("manual failback moved by itself: %v", answers)
	}
	return nil
}

func TestDeadHostRaisesItsAlarmAndMovesTheAnswer(t *testing.T) {
	for _, loud := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := start(t, Options{Service: bookstore()}, newFleet(), nil)
			if err := hostDeath(s, loud); err != nil {
				t.Errorf("loud %t: %v\n%s", loud, err, strings.Join(s.told(s.begin), "\n"))
			}
			s.end()
		})
	}
}

// The twins: watches that take silence for good news, or never look at the stream again.
func TestDeadHostCheckCatchesBrokenWatches(t *testing.T) {
	for name, sabotage := range map[string]func(*Watch){
		"takes a lost stream for no news": func(w *Watch) {
			for _, a := range w.core.alarms {
				if a.alarm.Rule.Heartbeat {
					a.alarm.Rule.Heartbeat, a.alarm.Rule.Missing = false, alarm.MissingIsNotBreaching
					a.series = alarm.NewSeries(a.alarm.Rule, w.started)
				}
			}
		},
		"waits for the whole range": func(w *Watch) {
			for _, a := range w.core.alarms {
				if a.alarm.Rule.Heartbeat {
					a.alarm.Rule.Heartbeat = false
					a.series = alarm.NewSeries(a.alarm.Rule, w.started)
				}
			}
		},
		"raises alarms but does not decide": func(w *Watch) { w.core.names[0].against = nil },
		"fails back though told not to":     func(w *Watch) { w.core.names[0].policy.Failback = failover.FailbackAuto },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := start(t, Options{Service: bookstore()}, newFleet(), sabotage)
			if hostDeath(s, false) == nil {
				t.Errorf("a watch that %s passes", name)
			}
			s.end()
		})
	}
}

func TestCutDependenciesRaiseExactlyTheirAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Service: bookstore()}, newFleet(), nil)
		s.pass(30 * time.Second)
		cut := time.Now()
		s.fleet.cut(green, true, "db-connectivity", "cdn-connectivity")
		s.pass(30 * time.Second)
		s.fleet.cut(green, false, "db-connectivity", "cdn-connectivity")
		s.pass(30 * time.Second)
		got := s.told(cut, history.KindAlarm, history.KindAnswer, history.KindHost)
		want := []string{
			"alarm " + green + "-db-connectivity-failed ALARM", "alarm " + green + "-cdn-connectivity-failed ALARM",
			"alarm " + green + "-db-connectivity-failed OK", "alarm " + green + "-cdn-connectivity-failed OK",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		took, err := s.when(cut, "alarm "+green+"-db-connectivity-failed ALARM")
		if err != nil || took > 16*time.Second {
			t.Errorf("raised after %s, %v", took, err)
		}
		s.end()
	})
}

func TestQuietDayTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		f.set(blue, func(h *fakeHost) { h.skew = time.Hour })
		f.set(green, func(h *fakeHost) { h.skew = -26 * time.Hour })
		s := start(t, Options{Service: bookstore()}, f, nil)
		s.pass(30 * time.Second)
		if got := len(s.told(s.begin, history.KindAlarm)); got != 6 {
			t.Errorf("%d alarms left INSUFFICIENT_DATA, want all 6, whatever the clocks of the hosts say", got)
		}
		quiet := time.Now()
		s.pass(time.Hour)
		if got := s.told(quiet, history.KindAlarm, history.KindAnswer, history.KindHost); len(got) > 0 {
			t.Errorf("told %v", got)
		}
		s.end()
	})
}

func TestBootIsToldWithItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Service: bookstore()}, newFleet(), nil)
		s.pass(5 * time.Second)
		s.fleet.die(blue, false)
		s.pass(10 * time.Second)
		s.fleet.boot(blue)
		s.pass(5 * time.Second)
		var got []string
		for _, line := range s.told(s.begin, history.KindHost) {
			if strings.Contains(line, blue) {
				got = append(got, line)
			}
		}
		want := []string{
			"host " + blue + " up=true " + blue + "-1", "host " + blue + " up=false " + blue + "-1", "host " + blue + " up=true " + blue + "-2",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		s.end()
	})
}

func TestHostOutOfReachFromTheStartIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		f.die(blue, false)
		s := start(t, Options{Service: bookstore()}, f, nil)
		s.pass(10 * time.Second)
		if got := s.active(t); got != "blue" {
			t.Errorf("answers %s before anything was known", got)
		}
		s.pass(20 * time.Second)
		if got := s.active(t); got != "green" {
			t.Errorf("answers %s though blue never gave a sign of life", got)
		}
		s.end()
	})
}

func TestBothDeadFailsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Service: bookstore()}, newFleet(), nil)
		s.pass(20 * time.Second)
		s.fleet.die(blue, false)
		s.pass(20 * time.Second)
		s.fleet.die(green, false)
		s.pass(20 * time.Second)
		snapshot, err := s.State(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if name := snapshot.Names[0]; name.Active != "blue" || len(name.Addresses) == 0 || !strings.Contains(name.Reason, "fail open") {
			t.Errorf("answers %+v, want the primary", name)
		}
		s.end()
	})
}

func TestFrozenNameAndDisabledAlarmDoNothing(t *testing.T) {
	for name, change := range map[string]func(*drill.Service){
		"frozen": func(s *drill.Service) { s.Failover[0].Frozen = true },
		"disabled": func(s *drill.Service) {
			for i := range s.Alarms {
				s.Alarms[i].Disabled = true
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			service := bookstore()
			change(&service)
			s := start(t, Options{Service: service}, newFleet(), nil)
			s.pass(20 * time.Second)
			s.fleet.die(blue, true)
			s.pass(time.Minute)
			if got := s.told(s.begin, history.KindAnswer); len(got) > 0 {
				t.Errorf("%s: %v", name, got)
			}
			if got := s.told(s.begin, history.KindAlarm); name == "disabled" && len(got) > 0 {
				t.Errorf("disabled alarms: %v", got)
			}
			s.end()
		})
	}
}

// stalled stops the watch and what comes in for a moment, as SIGSTOP does, and returns the alarms that came of it.
func stalled(t *testing.T, sabotage bool) []string {
	var got []string
	synctest.Test(t, func(t *testing.T) {
		service := bookstore()
		service.Alarms[2].Datapoints = drill.Datapoints{M: 1, N: 1} // a single silent second is enough
		s := start(t, Options{Service: service}, newFleet(), nil)
		s.pass(19850 * time.Millisecond) // just before a second begins: then the stall holds a whole one
		stop := time.Now()
		for _, host := range []string{blue, green} {
			s.fleet.set(host, func(h *fakeHost) { h.stuck = true })
		}
		if err := s.ask(context.Background(), func(time.Time) {
			time.Sleep(1600 * time.Millisecond) // less than the silence that ends a connection
			if sabotage {
				s.stalls = stallsMax
			}
		}); err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{blue, green} {
			s.fleet.set(host, func(h *fakeHost) { h.stuck = false })
		}
		s.pass(10 * time.Second)
		got = s.told(stop, history.KindAlarm, history.KindAnswer)
		s.end()
	})
	return got
}

func TestStalledWatchBlamesItselfAndNotTheHosts(t *testing.T) {
	if got := stalled(t, false); len(got) > 0 {
		t.Errorf("a stall of the watch raised %v", got)
	}
	if got := stalled(t, true); len(got) == 0 {
		t.Error("without the pause the same stall raises nothing: the test proves nothing")
	}
}

// restart lets blue die and the watch be started anew while it is dead, and returns what the new one does that it must not.
func restart(t *testing.T, tamper func(path string)) (wrong error) {
	path := filepath.Join(t.TempDir(), "state.json")
	synctest.Test(t, func(t *testing.T) {
		service := bookstore()
		service.Failover[0].Failback = "auto"
		f := newFleet()
		first := start(t, Options{Service: service, StateFile: path}, f, nil)
		first.pass(20 * time.Second)
		f.die(blue, false)
		first.pass(20 * time.Second)
		before, err := first.State(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		first.end()
		if tamper != nil {
			tamper(path)
		}
		second := start(t, Options{Service: service, StateFile: path}, f, nil)
		at := func() {
			after, err := second.State(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if was, is := before.Names[0], after.Names[0]; was.Active != "green" || is.Active != was.Active || is.Serial <= was.Serial {
				wrong = fmt.Errorf("answered %s serial %d, after the restart %s serial %d", was.Active, was.Serial, is.Active, is.Serial)
			}
		}
		at()
		second.pass(time.Second)
		at()
		second.pass(time.Minute)
		at()
		f.boot(blue)
		second.pass(time.Minute)
		if got := second.active(t); wrong == nil && got != "blue" {
			wrong = fmt.Errorf("blue is back, and %s is still answered", got)
		}
		second.end()
	})
	return wrong
}

func TestRestartKeepsTheAnswer(t *testing.T) {
	if err := restart(t, nil); err != nil {
		t.Error(err)
	}
	for name, tamper := range map[string]func(string){
		"forgets the state": func(path string) { _ = os.Remove(path) },
		"forgets who was unhealthy": func(path string) {
			var saved savedState
			text, err := os.ReadFile(path)
			if err == nil {
				err = json.Unmarshal(text, &saved)
			}
			if saved.Unhealthy = nil; err == nil {
				err = writeState(path, saved)
			}
			if err != nil {
				t.Error(err)
			}
		},
	} {
		if restart(t, tamper) == nil {
			t.Errorf("a watch that %s passes", name)
		}
	}
}

func TestUnusableStateFileIsRefusedWithCure(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":2,"service":"bookstore"}`, `{"version":1,"service":"other"}`} {
		path := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(Options{Service: bookstore(), Sources: newFleet(), StateFile: path})
		if drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), "--state") {
			t.Errorf("%q: error %v, hint %q", text, err, drill.HintOf(err))
		}
	}
}

func TestHangingDiskDoesNotStopTheFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state.json")
		release := make(chan struct{})
		s := start(t, Options{Service: bookstore(), StateFile: path}, newFleet(), nil)
		s.pass(20 * time.Second)
		s.saver.mu.Lock()
		s.saver.write = func(string, savedState) error { <-release; return nil }
		s.saver.mu.Unlock()
		death := time.Now()
		s.fleet.die(blue, false)
		s.pass(20 * time.Second)
		if took, err := s.when(death, "answer green"); err != nil || took > 10*time.Second {
			t.Errorf("moved after %s, %v", took, err)
		}
		close(release)
		s.end()
	})
}

func TestFollowerIsToldTheStateFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Service: bookstore()}, newFleet(), nil)
		s.pass(20 * time.Second)
		current, live, leave, err := s.Follow(context.Background(), history.KindAlarm, history.KindAnswer)
		if err != nil {
			t.Fatal(err)
		}
		alarms, answers := 0, 0
		for _, event := range current {
			switch fact := event.Fact.(type) {
			case *history.Alarm:
				if alarms++; fact.From != "" || fact.To != history.AlarmOK {
					t.Errorf("alarm %s: from %q to %s", fact.Name, fact.From, fact.To)
				}
			case *history.Answer:
				if answers++; !fact.Decided || fact.Environment != "blue" || !slices.Equal(fact.Addresses, []string{"10.77.1.10"}) || fact.Serial == 0 {
					t.Errorf("answer %+v", fact)
				}
			default:
				t.Errorf("a %s was not asked for", event.Fact.Kind())
			}
		}
		if alarms != 6 || answers != 1 {
			t.Errorf("%d alarms and %d answers, want 6 and 1", alarms, answers)
		}
		if _, err := s.Switch(context.Background(), failoverName, failover.Order{To: "green"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if fact, ok := (<-live).Fact.(*history.Answer); !ok || fact.Environment != "green" {
			t.Errorf("live: %+v", fact)
		}
		leave()
		if _, open := <-live; open {
			t.Error("the stream goes on after leaving")
		}
		s.end()
	})
}

func TestSlowFollowerIsCutOffAndOthersAreNot(t *testing.T) {
	h := newHub()
	h.buffer = 10
	slow, quick := h.add(nil), h.add(nil)
	cut := 0
	for i := range 20 {
		cut += h.publish([]history.Event{history.New(time.Unix(int64(i), 0), source, &history.Note{Text: "x"})})
		<-quick.events
	}
	if cut != 1 || len(h.followers) != 1 || !h.followers[quick] {
		t.Fatalf("%d cut off, %d left", cut, len(h.followers))
	}
	got := 0
	for range slow.events {
		got++
	}
	if got != 10 {
		t.Errorf("the slow follower got %d events before its end, want 10", got)
	}
	h.remove(slow) // what its handler does when it sees the end
}

func TestHistoryIsARing(t *testing.T) {
	h := newHub()
	for i := range keptMax + 7 {
		h.publish([]history.Event{history.New(time.Unix(int64(i), 0), source, &history.Answer{Serial: uint64(i)})})
		h.publish([]history.Event{history.New(time.Unix(int64(i), 0), source, &history.Datapoint{})})
	}
	past := h.past()
	if len(past) != keptMax {
		t.Fatalf("%d events kept, want %d", len(past), keptMax)
	}
	for i, event := range past {
		if got := event.Fact.(*history.Answer).Serial; got != uint64(i+7) {
			t.Fatalf("event %d has serial %d, want %d", i, got, i+7)
		}
	}
}

func TestClockFollowsTheFastestDelivery(t *testing.T) {
	ours := time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)
	for _, skew := range []time.Duration{0, time.Hour, -26 * time.Hour} {
		var c clock
		worst := time.Duration(0)
		for i := range 1000 {
			sent := ours.Add(time.Duration(i) * 250 * time.Millisecond)
			delay := time.Duration(2+i*37%90) * time.Millisecond
			if i == 500 {
				delay = 8 * time.Second // a stall: the lot comes at once later
			}
			c.see(sent.Add(skew), sent.Add(delay))
			if i > 100 {
				off := c.ours(sent.Add(skew)).Sub(sent)
				worst = max(worst, off, -off)
			}
		}
		if worst > 10*time.Millisecond {
			t.Errorf("skew %s: off by %s", skew, worst)
		}
	}
}

func TestClockThatIsSetBackIsLearnedAnew(t *testing.T) {
	ours := time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)
	for _, jump := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		var c clock
		for i := range 100 {
			at := ours.Add(time.Duration(i) * time.Second)
			skew := time.Duration(0)
			if i >= 50 {
				skew = jump
			}
			c.see(at.Add(skew), at.Add(2*time.Millisecond))
			if off := c.ours(at.Add(skew)).Sub(at); off < 0 || off > 10*time.Millisecond {
				t.Fatalf("jump %s, event %d: off by %s", jump, i, off)
			}
		}
	}
}

func TestProbesAreMadeFromTheMetrics(t *testing.T) {
	service := bookstore()
	service.Metrics = append(service.Metrics, drill.Metric{Name: "cache", Connect: "10.1.2.3:6379", Every: seconds(1), Timeout: seconds(.5)})
	specs, err := Probes(service, service.Environments[0].Hosts[0], "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, spec := range specs {
		got = append(got, fmt.Sprintf("%s %s %s %s", spec.Name, spec.Kind, spec.Address, spec.Every))
	}
	want := []string{
		"db-connectivity tcp db.bookstore.example.test:5432 1s", "cdn-connectivity tcp cdn.bookstore.example.test:80 1s",
		"status-check heartbeat  250ms", "cache tcp 10.1.2.3:6379 1s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	service.Metrics = nil
	if specs, err := Probes(service, service.Environments[0].Hosts[0], ""); err != nil || len(specs) != 1 || specs[0].Name != bareHeartbeat {
		t.Errorf("without metrics: %v, %v; want a heartbeat all the same", specs, err)
	}
	service.Metrics = []drill.Metric{{Name: "nothing"}}
	if _, err := Probes(service, service.Environments[0].Hosts[0], ""); err == nil {
		t.Error("a metric that measures nothing is taken")
	}
}

func TestOurOwnFaultIsNoDatapoint(t *testing.T) {
	now := time.Now()
	c, err := newCore(bookstore(), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	c.sample(now, now, blue, &history.Sample{Probe: "db-connectivity", Cause: history.CauseProber})
	c.sample(now, now, blue, &history.Sample{Probe: "status-check", Cause: history.CauseProber})
	later := now.Add(6 * time.Second)
	for _, event := range c.tick(later) {
		t.Errorf("told %+v", event.Fact)
	}
}
