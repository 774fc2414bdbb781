package watch

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const statusBlue, statusGreen = blue + "-StatusCheckFailed", green + "-StatusCheckFailed"

// paged is the Bookstore with one who is told.
func paged(actions ...drill.Action) drill.Service {
	service := bookstore()
	service.Composites = []drill.Composite{
		{Name: "everything-down", Rule: `ALARM("` + statusBlue + `") AND ALARM(` + statusGreen + `)`},
		{Name: "something-down", Rule: `AT_LEAST(1, ALARM, (` + statusBlue + `, ` + statusGreen + `))`},
		{Name: "outer", Rule: "ALARM(everything-down)"},
	}
	service.Actions = actions
	return service
}

func tell(name string, change func(*drill.Action)) drill.Action {
	action := drill.Action{Name: name, Alarms: []string{"*"}, States: []string{"ALARM", "OK"}, Exec: []string{"true"}}
	if change != nil {
		change(&action)
	}
	return action
}

// told collects what actions tell, as "action alarm state".
type told struct {
	mu  sync.Mutex // guards all
	all []string
}

func (n *told) notify(notice Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, fmt.Sprintf("%s %s %s", notice.Action, strings.TrimPrefix(notice.Alarm, "bookstore-api-"), notice.To))
}

func (n *told) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.all
	n.all = nil
	return taken
}

func TestCompositesFollowTheirAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Service: paged()}, newFleet(), nil)
		s.pass(20 * time.Second)
		began := time.Now()
		s.fleet.die(blue, true)
		s.pass(10 * time.Second)
		if _, err := s.when(began, "alarm something-down ALARM"); err != nil {
			t.Error(err)
		}
		if _, err := s.when(began, "alarm everything-down ALARM"); err == nil {
			t.Error("one of two is dead, and the alarm on both was raised")
		}
		s.fleet.die(green, true)
		s.pass(10 * time.Second)
		both, err := s.when(began, "alarm everything-down ALARM")
		if err != nil {
			t.Error(err)
		}
		if outer, err := s.when(began, "alarm outer ALARM"); err != nil || outer != both {
			t.Errorf("the alarm on the composite came after %s, %v, want %s", outer, err, both)
		}
		snapshot, err := s.Watch.State(t.Context())
		if err != nil || !slices.ContainsFunc(snapshot.Alarms, func(a AlarmStatus) bool { return a.Name == "outer" && a.State == "ALARM" }) {
			t.Errorf("the snapshot lacks the composite: %+v, %v", snapshot.Alarms, err)
		}
		s.end()
	})
}

func TestActionsTellEachMoveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n told
		s := start(t, Options{Service: paged(
			tell("page", func(a *drill.Action) { a.Alarms = []string{"{host}-StatusCheckFailed"} }),
			tell("chat", func(a *drill.Action) { a.Alarms, a.States = []string{"something-down"}, []string{"ALARM"} }),
		), Notify: n.notify}, newFleet(), nil)
		s.pass(20 * time.Second)
		if got := n.take(); len(got) > 0 {
			t.Errorf("nothing was wrong, and it told %q", got)
		}
		s.fleet.die(blue, true)
		s.pass(time.Minute)
		if diff := cmp.Diff([]string{"page blue-StatusCheckFailed ALARM", "chat something-down ALARM"}, n.take()); diff != "" {
			t.Errorf("down: %s", diff)
		}
		s.fleet.boot(blue)
		s.pass(time.Minute)
		if diff := cmp.Diff([]string{"page blue-StatusCheckFailed OK"}, n.take()); diff != "" {
			t.Errorf("up again: %s", diff)
		}
		s.end()
	})
}

// suppressed plays a failure while the suppressor is raised, and returns what did not happen as it must.
func suppressed(t *testing.T, sabotage func(*Watch)) (wrong []string) {
	synctest.Test(t, func(t *testing.T) {
		var n told
		s := start(t, Options{Service: paged(tell("page", func(a *drill.Action) {
			a.Alarms, a.SuppressedBy, a.Wait, a.Extension = []string{"{host}-db-connectivity-failed"}, "something-down", seconds(10), seconds(30)
		})), Notify: n.notify}, newFleet(), sabotage)
		s.pass(20 * time.Second)
		began := time.Now()
		s.fleet.cut(green, true, "db-connectivity")
		s.fleet.die(blue, true)
		s.pass(time.Minute)
		if _, err := s.when(began, "alarm "+green+"-db-connectivity-failed ALARM"); err != nil {
			wrong = append(wrong, fmt.Sprintf("the alarm itself was kept quiet: %v", err))
		}
		if got := n.take(); len(got) > 0 {
			wrong = append(wrong, fmt.Sprintf("the suppressor is raised, and it told %q", got))
		}
		s.fleet.boot(blue)
		s.pass(20 * time.Second) // the extension is not over
		if got := n.take(); len(got) > 0 {
			wrong = append(wrong, fmt.Sprintf("in the extension it told %q", got))
		}
		s.pass(30 * time.Second)
		if diff := cmp.Diff([]string{"page green-db-connectivity-failed ALARM"}, n.take()); diff != "" {
			wrong = append(wrong, "after the extension: "+diff)
		}
		s.end()
	})
	return wrong
}

func TestSuppressorKeepsActionsAndNotAlarmsQuiet(t *testing.T) {
	for _, wrong := range suppressed(t, nil) {
		t.Error(wrong)
	}
}

// The twins: watches that do not look at the suppressor, forget its extension, or never tell what they held back.
func TestSuppressorCheckCatchesBrokenWatches(t *testing.T) {
	for name, sabotage := range map[string]func(*Watch){
		"does not look at the suppressor": func(w *Watch) { w.core.actions[0].action.SuppressedBy = "" },
		"forgets the extension":           func(w *Watch) { w.core.actions[0].rule.Extension = 0 },
		"tells nothing":                   func(w *Watch) { w.core.actions[0].action.States = nil },
	} {
		if len(suppressed(t, sabotage)) == 0 {
			t.Errorf("a watch that %s passes", name)
		}
	}
}

// muted plays a drill during which the actions of one alarm are quiet.
func muted(t *testing.T, alarms []string, length time.Duration) (during, after []string, events []string) {
	synctest.Test(t, func(t *testing.T) {
		var n told
		s := start(t, Options{Service: paged(tell("page", nil)), Notify: n.notify}, newFleet(), nil)
		s.pass(20 * time.Second)
		began := time.Now()
		if _, err := s.Watch.Mute(t.Context(), alarms, length, "drill lose-host"); err != nil {
			t.Fatal(err)
		}
		s.fleet.die(blue, true)
		s.pass(30 * time.Second)
		during = n.take()
		s.pass(time.Minute)
		after = n.take()
		events = s.told(began, history.KindAlarm)
		s.end()
	})
	return during, after, events
}

func TestMuteKeepsThePagerQuietAndNotTheAlarm(t *testing.T) {
	during, after, events := muted(t, []string{statusBlue, "something-down"}, time.Minute)
	if len(during) > 0 {
		t.Errorf("muted, and it told %q", during)
	}
	if !slices.ContainsFunc(events, func(e string) bool { return strings.Contains(e, statusBlue+" ALARM") }) {
		t.Errorf("the alarm did not move: %q", events)
	}
	// The drill is over and the host still dead: somebody must hear of it.
	if diff := cmp.Diff([]string{"page blue-StatusCheckFailed ALARM", "page something-down ALARM"}, after); diff != "" {
		t.Errorf("after the mute: %s", diff)
	}
	if during, _, _ := muted(t, []string{statusGreen}, time.Minute); len(during) == 0 {
		t.Error("another alarm was muted, and the pager kept quiet")
	}
	if during, _, _ := muted(t, nil, time.Minute); len(during) > 0 {
		t.Errorf("all are muted, and it told %q", during)
	}
}

func TestMuteRefusesWhatWouldSurprise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Service: paged(tell("page", nil))}, newFleet(), nil)
		for name, test := range map[string]struct {
			alarms []string
			length time.Duration
			want   drill.ErrorKind
		}{
			"no such alarm": {[]string{"nobody"}, time.Minute, drill.Invalid},
			"no time":       {nil, 0, drill.Refused},
			"for ever":      {nil, 25 * time.Hour, drill.Refused},
		} {
			if _, err := s.Watch.Mute(t.Context(), test.alarms, test.length, "x"); drill.KindOf(err) != test.want || drill.HintOf(err) == "" {
				t.Errorf("%s: got %v, want a %v with a cure", name, err, test.want)
			}
		}
		s.end()
	})
}

func TestCompositesThatCannotBeAreRefused(t *testing.T) {
	for rule, want := range map[string]string{"ALARM(": "column 7", "ALARM(nobody)": "nobody", "ALARM(a)": "circle"} {
		service := bookstore()
		service.Composites = []drill.Composite{{Name: "a", Rule: rule}}
		if _, err := New(Options{Service: service, Sources: newFleet()}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", rule, err, want)
		}
	}
}
