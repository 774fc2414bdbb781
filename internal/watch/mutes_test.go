package watch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/drill"
)

// storyOfMutes plays a host that dies in the first minute of the day, in which the service file keeps its alarm quiet.
func storyOfMutes(t *testing.T, mute drill.Mute, sabotage func(*Watch)) (story string, shown int) {
	synctest.Test(t, func(t *testing.T) { // it begins at midnight, UTC
		var n told
		service := paged(tell("page", func(a *drill.Action) { a.Alarms = []string{"{host}-StatusCheckFailed"} }))
		service.Mutes = []drill.Mute{mute}
		s := start(t, Options{Service: service, Notify: n.notify}, newFleet(), sabotage)
		s.pass(20 * time.Second)
		s.fleet.die(blue, true)
		s.pass(35 * time.Second)
		snapshot, err := s.Watch.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		shown = len(snapshot.Mutes)
		story = fmt.Sprintf("%q", n.take())
		s.pass(20 * time.Second)
		story += fmt.Sprintf(" %q", n.take())
		s.end()
	})
	return story, shown
}

const toldAfterTheMute = `[] ["page blue-StatusCheckFailed ALARM"]`

func TestMutesOfTheServiceFileKeepThePagerQuiet(t *testing.T) {
	all := []string{"*"}
	for name, mute := range map[string]drill.Mute{
		"a moment that comes again": {Name: "m", Alarms: []string{"{host}-StatusCheckFailed"}, Cron: "0 0 * * *", Length: drill.Seconds(time.Minute)},
		"a moment":                  {Name: "m", Alarms: all, At: "2000-01-01T00:00:00Z", Length: drill.Seconds(time.Minute)},
		"a window":                  {Name: "m", Alarms: all, Window: "00:00-00:01"},
	} {
		if story, shown := storyOfMutes(t, mute, nil); story != toldAfterTheMute || shown != 1 {
			t.Errorf("%s: told %s, %d mutes shown", name, story, shown)
		}
	}
	other := drill.Mute{Name: "m", Alarms: []string{"something-down"}, Window: "00:00-00:01"}
	if story, _ := storyOfMutes(t, other, nil); story == toldAfterTheMute {
		t.Error("another alarm was muted, and the pager kept quiet")
	}
	// The planted bugs: mutes that are forgotten, and one that never ends.
	window := drill.Mute{Name: "m", Alarms: all, Window: "00:00-00:01"}
	for name, sabotage := range map[string]func(*Watch){
		"forgets its mutes": func(w *Watch) { w.core.quietTimes = nil },
		"never ends one":    func(w *Watch) { w.core.quietTimes[0].times, _ = drill.Mute{Window: "00:00-24:00"}.Times() },
	} {
		if story, _ := storyOfMutes(t, window, sabotage); story == toldAfterTheMute {
			t.Errorf("a watch that %s passes", name)
		}
	}
}
