package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	alarmsource "firedrill/internal/source"
)

// elsewhere is another system with one alarm for each host.
type elsewhere struct {
	mu     sync.Mutex // guards the fields below
	raised map[string]bool
	silent bool
}

func (e *elsewhere) set(change func(*elsewhere)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(e)
}

type elsewhereAlarm struct {
	*elsewhere
	name string
}

func (e elsewhereAlarm) String() string { return "elsewhere" }

func (e elsewhereAlarm) Look(ctx context.Context) (alarmsource.Reading, error) {
	e.mu.Lock()
	silent, raised := e.silent, e.raised[e.name]
	e.mu.Unlock()
	if silent {
		<-ctx.Done()
		return alarmsource.Reading{}, errors.New("no answer in time")
	}
	return alarmsource.Reading{Raised: raised, Reason: fmt.Sprintf("raised there: %t", raised)}, nil
}

func (e *elsewhere) open(alarm string, _ drill.AlarmSource) (alarmsource.Source, error) {
	return elsewhereAlarm{e, alarm}, nil
}

// watched is the Bookstore with an alarm elsewhere that moves the answer too.
func watched() drill.Service {
	service := bookstore()
	service.Alarms = append(service.Alarms, drill.Alarm{
		Name: "{host}-slow", Source: &drill.AlarmSource{Prometheus: "http://{host}", Every: seconds(1), Timeout: seconds(5)},
	})
	service.Failover[0].UnhealthyWhen = append(service.Failover[0].UnhealthyWhen, "{host}-slow")
	return service
}

// playElsewhere raises the alarm after 10 s, clears it after 30, and falls silent after 50; it returns what was told, with times.
func playElsewhere(t *testing.T, sabotage func(*Watch)) (told []string, bound time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		e := &elsewhere{raised: map[string]bool{}}
		s := start(t, Options{Service: watched(), AlarmSources: e.open}, newFleet(), sabotage)
		for _, at := range []func(*elsewhere){
			func(e *elsewhere) { e.raised[blue+"-slow"] = true }, func(e *elsewhere) { e.raised[blue+"-slow"] = false },
			func(e *elsewhere) { e.silent = true }, func(e *elsewhere) { e.silent = false },
		} {
			s.pass(20*time.Second - 500*time.Millisecond)
			e.set(at)
			s.pass(500 * time.Millisecond)
		}
		s.pass(5 * time.Second)
		s.end()
		for _, event := range s.events {
			// The first answer comes before or after we listen.
			if fact, is := event.Fact.(*history.Alarm); is && strings.HasSuffix(fact.Name, "blue-slow") && event.At.After(s.begin.Add(time.Second)) {
				told = append(told, fmt.Sprintf("%.0f %s", event.At.Sub(s.begin).Seconds(), fact.To))
				if fact.To == history.AlarmRaised {
					bound = fact.Bound.Duration()
				}
				if fact.Origin != "elsewhere" {
					t.Errorf("the event does not say where the alarm lives: %+v", fact)
				}
			}
			if answer, is := event.Fact.(*history.Answer); is {
				told = append(told, fmt.Sprintf("%.0f answer %s", event.At.Sub(s.begin).Seconds(), answer.Environment))
			}
		}
	})
	return told, bound
}

// The answer moves with the alarm, and silence is not taken for good news: no answer for 5 s, asked each second.
var elsewhereTold = []string{"20 ALARM", "20 answer green", "40 OK", "65 INSUFFICIENT_DATA", "80 OK"}

func TestAlarmsElsewhereAreFollowed(t *testing.T) {
	told, bound := playElsewhere(t, nil)
	if !slices.Equal(told, elsewhereTold) {
		t.Errorf("told %q, want %q", told, elsewhereTold)
	}
	if bound != time.Second {
		t.Errorf("asked each second, and the bound of the time is %s", bound)
	}
}

// The twins: one that takes silence for good news for ever, one that gives up at once.
func TestElsewhereCheckCatchesBrokenWatches(t *testing.T) {
	patience := func(limit time.Duration) func(*Watch) {
		return func(w *Watch) {
			for _, a := range w.core.alarms {
				if a.external != nil {
					a.external.spec.Timeout = drill.Seconds(limit)
				}
			}
		}
	}
	for name, sabotage := range map[string]func(*Watch){
		"waits for ever for an answer": patience(time.Hour),
		"does not look":                func(w *Watch) { w.core.alarms = w.core.alarms[:6] },
	} {
		if told, _ := playElsewhere(t, sabotage); slices.Equal(told, elsewhereTold) {
			t.Errorf("a watch that %s passes", name)
		}
	}
}

func TestAlarmsElsewhereNeedSomebodyToOpenThem(t *testing.T) {
	if _, err := New(Options{Service: watched(), Sources: newFleet()}); err == nil || drill.KindOf(err) != drill.Invalid {
		t.Errorf("got %v", err)
	}
}
