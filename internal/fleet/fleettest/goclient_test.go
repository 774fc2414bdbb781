package fleettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"firedrill/client"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/httpapi"
)

// The Go client attacks, waits, follows events over a broken connection, and halts; what its token may not is refused with the cure.
func TestTheGoClientAsksAndFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h := w.join("web1", web(), nil)
	w.join("web2", web(), nil)
	server := httptest.NewTLSServer(httpapi.Handler(w.control))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL+"#sha256//"+fleet.Pin(server.Certificate()), w.apiToken("ci", "hosts", "attack", "run", "halt", "lever", "events", "journal", "drills", "scheduled"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if hosts, err := c.Hosts(t.Context()); err != nil || len(hosts) != 2 || hosts[0].Name != "web1" {
		t.Errorf("%v %v", hosts, err)
	}
	if _, err := c.StartDrill(t.Context(), client.DrillRequest{}); client.KindOf(err) != client.Refused || !strings.Contains(client.HintOf(err), "--may drill") {
		t.Errorf("beyond the scopes: %v, %q", err, client.HintOf(err))
	}
	var mu sync.Mutex
	var said []string
	following, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Events(following, func(e client.Event) error {
			mu.Lock()
			defer mu.Unlock()
			var run client.Run
			if e.Name == "run" && json.Unmarshal(e.Data, &run) == nil {
				e.Name += " " + run.State
			}
			said = append(said, e.Name)
			return nil
		})
	}()
	heard := func(name string, times int) func() error {
		return func() error {
			mu.Lock()
			defer mu.Unlock()
			count := 0
			for _, one := range said {
				if one == name {
					count++
				}
			}
			if count < times {
				return fmt.Errorf("%q was told %d times: %v", name, count, said)
			}
			return nil
		}
	}
	begin := []string{"lever", "runs", "drills", "scheduled", "freezes"}
	w.await("how things stand", heard("freezes", 1))
	mu.Lock()
	if len(said) < len(begin) || !slices.Equal(said[:len(begin)], begin) {
		t.Errorf("it begins with %v", said)
	}
	mu.Unlock()
	var run client.Run
	attack := func(length string) {
		w.await("a run", func() error { // on a busy machine a host may not answer in time
			run, err = c.Attack(t.Context(), client.AttackRequest{Selector: client.Selector{Names: []string{"web1"}}, Kind: "cpu", Args: []string{"-l", length}})
			return err
		})
	}
	attack("0.2")
	server.CloseClientConnections() // as a restart of the server, or a proxy in between
	if run, err = c.Await(t.Context(), run.ID); err != nil || !run.Done() || !run.Hosts[0].Reverted {
		t.Errorf("%+v %v", run, err)
	}
	w.await("how things stand, again", heard("freezes", 2))
	if text, err := c.Journal(t.Context(), run.ID, "web1"); err != nil || strings.Count(text, "\n") < 3 {
		t.Errorf("%q %v", text, err)
	}
	attack("60")
	w.await("the impact", h.inForce)
	if report, err := c.Halt(t.Context(), "enough"); err != nil || report.Ended != 1 || !report.Lever.Engaged || h.hit() {
		t.Errorf("%+v %v", report, err)
	}
	if _, err := c.Await(t.Context(), run.ID); err != nil {
		t.Error(err)
	}
	w.await("its end", heard("run ended", 1))
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("following ends with %v", err)
	}
	enough := errors.New("enough")
	if err := c.Events(t.Context(), func(client.Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("who had enough is told on: %v", err)
	}
	w.must("revoke", "ci", nil)
	if err := c.Events(t.Context(), func(client.Event) error { return nil }); client.KindOf(err) != client.Refused {
		t.Errorf("with a token that was put out: %v", err)
	}
}
