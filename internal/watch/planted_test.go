package watch

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/drill"
)

// storyOfActions plays a dead host with one who is told, through a mute or not, and returns what was told and which composites were raised.
func storyOfActions(t *testing.T, muteFor time.Duration, sabotage, later func(*Watch)) string {
	var story []string
	synctest.Test(t, func(t *testing.T) {
		var n told
		s := start(t, Options{Service: paged(tell("page", func(a *drill.Action) {
			a.Alarms = []string{"{host}-StatusCheckFailed", "something-down", "everything-down"}
		})),
			Notify: n.notify}, newFleet(), sabotage)
		s.pass(20 * time.Second)
		if muteFor > 0 {
			if _, err := s.Watch.Mute(t.Context(), nil, muteFor, "drill"); err != nil {
				t.Fatal(err)
			}
		}
		s.fleet.die(blue, true)
		for range 6 {
			s.pass(10 * time.Second)
			if later != nil {
				if err := s.ask(t.Context(), func(time.Time) { later(s.Watch) }); err != nil {
					t.Fatal(err)
				}
			}
			story = append(story, fmt.Sprintf("%q", n.take()))
		}
		s.fleet.boot(blue)
		s.pass(30 * time.Second)
		story = append(story, fmt.Sprintf("%q", n.take()))
		s.end()
	})
	return strings.Join(story, " ")
}

const (
	toldOnce  = `["page blue-StatusCheckFailed ALARM" "page something-down ALARM"] [] [] [] [] [] ["page blue-StatusCheckFailed OK" "page something-down OK"]`
	toldMuted = `[] [] ["page blue-StatusCheckFailed ALARM" "page something-down ALARM"] [] [] [] ["page blue-StatusCheckFailed OK" "page something-down OK"]`
)

func TestStoryOfActions(t *testing.T) {
	if got := storyOfActions(t, 0, nil, nil); got != toldOnce {
		t.Errorf("told %s", got)
	}
	if got := storyOfActions(t, 25*time.Second, nil, nil); got != toldMuted {
		t.Errorf("through a mute, told %s", got)
	}
}

// forget makes a watch take every state for news.
func forget(w *Watch) {
	for _, a := range w.core.actions {
		for name, state := range w.core.states() {
			if state == alarm.Raised && a.wants(name) {
				delete(a.told, name)
				a.pending[name] = alarm.Pending{State: state, Until: time.Now()}
			}
		}
	}
}

// The twins: watches that do not keep a mute, never end it, tell twice, or whose composites do not follow.
func TestStoryCatchesBrokenWatches(t *testing.T) {
	replace := func(name, rule string) func(*Watch) {
		return func(w *Watch) {
			for _, c := range w.core.composites {
				if c.alarm.Name == name {
					c.alarm.Expression, _ = alarm.ParseExpression(rule)
				}
			}
		}
	}
	for name, twin := range map[string]struct {
		mute            time.Duration
		sabotage, later func(*Watch)
		want            string
	}{
		"forgets the mute": {25 * time.Second, nil, func(w *Watch) { w.core.mutes = nil }, toldMuted},
		"never ends the mute": {25 * time.Second, nil, func(w *Watch) {
			for i := range w.core.mutes {
				w.core.mutes[i].Until = time.Now().Add(time.Hour)
			}
		}, toldMuted},
		"tells a move twice":       {0, nil, forget, toldOnce},
		"takes AT_LEAST for all":   {0, replace("something-down", "ALARM("+statusBlue+") AND ALARM("+statusGreen+")"), nil, toldOnce},
		"takes AND for OR":         {0, replace("everything-down", "ALARM("+statusBlue+") OR ALARM("+statusGreen+")"), nil, toldOnce},
		"has composites that stay": {0, func(w *Watch) { w.core.composites = nil }, nil, toldOnce},
	} {
		if got := storyOfActions(t, twin.mute, twin.sabotage, twin.later); got == twin.want {
			t.Errorf("a watch that %s passes", name)
		}
	}
}
