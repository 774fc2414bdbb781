package watch

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// What is held neither moves nor is told, until the hold ends by itself or is let go.
func TestHoldKeepsStillAndEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Service: bookstore()}, newFleet(), nil)
		s.pass(20 * time.Second)
		alarms := []string{blue + "-StatusCheckFailed", blue + "-db-connectivity-failed", blue + "-cdn-connectivity-failed"}
		if _, err := s.Hold(t.Context(), Hold{Alarms: alarms, Names: []string{failoverName}, Reason: "prove"}, time.Minute); err != nil {
			t.Fatal(err)
		}
		held := time.Now()
		s.fleet.die(blue, true)
		s.pass(50 * time.Second)
		if got := s.told(held, history.KindAlarm, history.KindAnswer); len(got) > 0 {
			t.Errorf("told while it was held: %v", got)
		}
		s.pass(30 * time.Second)
		if got := s.active(t); got != "green" {
			t.Errorf("after the hold %s is answered", got)
		}
		s.end()
	})
}

func TestHoldIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Service: bookstore()}, newFleet(), nil)
		s.pass(20 * time.Second)
		if _, err := s.Hold(t.Context(), Hold{Names: []string{failoverName}}, holdMax); err != nil {
			t.Fatal(err)
		}
		s.fleet.die(blue, true)
		s.pass(20 * time.Second)
		if got := s.active(t); got != "blue" {
			t.Errorf("the name was held, and leads to %s", got)
		}
		if _, err := s.Hold(t.Context(), Hold{}, 0); err != nil {
			t.Fatal(err)
		}
		s.pass(5 * time.Second)
		if got := s.active(t); got != "green" {
			t.Errorf("let go, and %s is answered", got)
		}
		s.end()
	})
}

func TestHoldTakesOnlyTheTokenAndGoodOrders(t *testing.T) {
	_, server := serve(t, Options{Service: bookstore(), Token: token})
	for _, row := range []struct {
		name, bearer, body string
		status             int
	}{
		{"no token", "", `{"names":["` + failoverName + `"],"seconds":60}`, 403},
		{"for ever", "Bearer " + token, `{"names":["` + failoverName + `"],"seconds":6000}`, 400},
		{"in the past", "Bearer " + token, `{"seconds":-1}`, 400},
		{"no such alarm", "Bearer " + token, `{"alarms":["nobody"],"seconds":60}`, 404},
		{"no such name", "Bearer " + token, `{"names":["nobody"],"seconds":60}`, 404},
		{"good", "Bearer " + token, `{"names":["` + failoverName + `"],"seconds":60,"reason":"prove"}`, 200},
	} {
		status, body := call(t, http.MethodPost, server.URL+"/v1/hold", row.bearer, row.body)
		if status != row.status || status != 200 && !strings.Contains(body, `"cure"`) {
			t.Errorf("%s: %d %s, want %d with a cure", row.name, status, body, row.status)
		}
	}
	w, _ := New(Options{Service: bookstore(), Sources: newFleet()})
	if err := w.core.hold(time.Now(), Hold{Until: time.Now().Add(time.Hour)}); drill.KindOf(err) != drill.Refused {
		t.Errorf("an hour: %v", err)
	}
}
