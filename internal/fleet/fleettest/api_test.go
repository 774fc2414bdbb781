package fleettest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/httpapi"
)

// api is the HTTP side of a world.
type api struct {
	t      *testing.T
	server *httptest.Server
}

func (w *world) api() *api {
	server := httptest.NewServer(httpapi.Handler(w.control))
	w.t.Cleanup(server.Close)
	return &api{t: w.t, server: server}
}

func (w *world) apiToken(name string, scopes ...string) string {
	w.t.Helper()
	var token string
	w.must("apitoken", fleet.APITokenRequest{Name: name, Scopes: scopes}, &token)
	return token
}

func (a *api) ask(method, path, token, body string) (status int, text []byte) {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), method, a.server.URL+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err = io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return response.StatusCode, text
}

func TestProgramsAskWithATokenWithinItsScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h := w.join("web1", web(), nil)
	w.join("web2", web(), nil)
	a := w.api()
	ci, pager := w.apiToken("ci", "attack", "run", "runs", "events", "journal", "hosts"), w.apiToken("pager", "halt")
	for _, row := range []struct {
		method, path, token, body string
		want                      int
	}{
		{http.MethodGet, "/v1/hosts", "", "", http.StatusUnauthorized},
		{http.MethodGet, "/v1/hosts", "fda.wrong", "", http.StatusUnauthorized},
		{http.MethodGet, "/v1/hosts", pager, "", http.StatusForbidden},
		{http.MethodPost, "/v1/halt", ci, "", http.StatusForbidden},
		{http.MethodPost, "/v1/calls/release", pager, "", http.StatusForbidden},
		{http.MethodGet, "/v1/events", pager, "", http.StatusForbidden},
		{http.MethodGet, "/v1/hosts", ci, "", http.StatusOK},
		{http.MethodPost, "/v1/runs", ci, `{"selector":{"all":true},"kind":"cpu","args":[]}`, http.StatusConflict},
		{http.MethodPost, "/v1/runs", ci, `{"selektor":{"all":true}}`, http.StatusBadRequest},
		{http.MethodGet, "/v1/runs/nothing", ci, "", http.StatusBadRequest},
		{http.MethodGet, "/v1/openapi.json", "", "", http.StatusOK},
		{http.MethodDelete, "/v1/hosts", ci, "", http.StatusMethodNotAllowed},
	} {
		if status, text := a.ask(row.method, row.path, row.token, row.body); status != row.want {
			t.Errorf("%s %s: %d %s; want %d", row.method, row.path, status, text, row.want)
		}
	}
	told := a.events(ci)
	status, text := a.ask(http.MethodPost, "/v1/runs", ci, `{"selector":{"names":["web1"]},"kind":"cpu","args":["-l","60"]}`)
	var run fleet.Run
	if err := json.Unmarshal(text, &run); status != http.StatusCreated || err != nil {
		t.Fatalf("%d %s %v", status, text, err)
	}
	w.await("the impact", h.inForce)
	if status, text := a.ask(http.MethodPost, "/v1/halt", pager, ""); status != http.StatusOK || h.hit() {
		t.Errorf("a pager's halt: %d %s, in force %v", status, text, h.hit())
	}
	w.ended(run.ID)
	if status, text := a.ask(http.MethodGet, "/v1/runs/"+run.ID+"/journals/web1", ci, ""); status != http.StatusOK || bytes.Count(text, []byte("\n")) < 3 {
		t.Errorf("the journal: %d %s", status, text)
	}
	w.await("the events", func() error {
		for _, said := range []string{"event: runs", "event: lever", `"state":"running"`, `"state":"ended"`, `"engaged":true`} {
			if !strings.Contains(told.String(), said) {
				return fmt.Errorf("no event says %s", said)
			}
		}
		return nil
	})
	w.must("revoke", "ci", nil)
	if status, _ := a.ask(http.MethodGet, "/v1/hosts", ci, ""); status != http.StatusUnauthorized {
		t.Errorf("a token that was put out: %d", status)
	}
}

func TestMetricsAndCadencesAreReadWithAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join("web1", web(), nil)
	a := w.api()
	prometheus, ci := w.apiToken("prometheus", "metrics"), w.apiToken("ci", "cadences")
	w.must("putservice", fleet.PutService{Text: strings.Replace(stageFile, "drills:\n", "drills:\n  often:\n    cadence: 28d\n    on: idle environment\n    attack: {cpu: {length: 1s}}\n    expect: [answer stays]\n", 1)}, nil)
	if status, _ := a.ask(http.MethodGet, "/v1/metrics", ci, ""); status != http.StatusForbidden {
		t.Errorf("metrics without the scope: %d", status)
	}
	status, text := a.ask(http.MethodGet, "/v1/metrics", prometheus, "")
	for _, line := range []string{`firedrill_fleet_hosts{there="yes"} 1`, "firedrill_fleet_lever_engaged 0", `firedrill_drill_cadence_seconds{service="shop",drill="often"} 2.4192e+06`, `firedrill_drill_due{service="shop",drill="often"} 0`, "# EOF"} {
		if status != http.StatusOK || !strings.Contains(string(text), line+"\n") {
			t.Errorf("%d: no %q in\n%s", status, line, text)
		}
	}
	var all []fleet.Cadence
	if status, text := a.ask(http.MethodGet, "/v1/cadences", ci, ""); status != http.StatusOK || json.Unmarshal(text, &all) != nil || len(all) != 1 || all[0].State != "kept" {
		t.Errorf("%d %s", status, text)
	}
}

// events reads what changes until the test ends.
func (a *api) events(token string) *lockedLog {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server.URL+"/v1/events", http.NoBody)
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	told, ended := &lockedLog{}, make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			_, _ = fmt.Fprintln(told, lines.Text())
		}
	}()
	a.t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			a.t.Error(errors.New("the stream does not end"))
		}
		_ = response.Body.Close()
	})
	return told
}

// Whatever a person asks over the fleet's own port a program asks over HTTPS, within its scopes, and hears the same: an answer beside an error too.
func TestAProgramCallsOverHTTPSAsAPersonDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join("web1", web(), nil)
	w.join("web2", web(), nil)
	server := httptest.NewTLSServer(httpapi.Handler(w.control))
	t.Cleanup(server.Close)
	open := func(token string) *client.Client {
		t.Helper()
		c, err := client.OverHTTPS(server.URL+"#"+fleet.Pin(server.Certificate()), token)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	ci, pager := open(w.apiToken("ci", "attack", "run", "runs", "stop", "hosts", "services", "putservice", "service")), open(w.apiToken("pager", "halt"))
	var byPerson, byProgram []fleet.HostView
	w.must("hosts", nil, &byPerson)
	if err := ci.Call(t.Context(), "hosts", nil, &byProgram); err != nil || len(byProgram) != 2 || byProgram[0].Name != byPerson[0].Name || byProgram[1].Key != byPerson[1].Key {
		t.Errorf("%v, and a person hears %v: %v", byProgram, byPerson, err)
	}
	big := stageFile + "# " + strings.Repeat("é", fleet.ServiceFileMax/2-len(stageFile)) // a megabyte is not reached, as JSON either
	var put, got fleet.ServiceFile
	if err := ci.Call(t.Context(), "putservice", fleet.PutService{Text: big}, &put); err != nil || put.Version != 1 {
		t.Errorf("a large service file: %v %v", put, err)
	}
	if err := ci.Call(t.Context(), "service", fleet.ServiceRequest{Name: put.Name}, &got); err != nil || got.Text != big {
		t.Errorf("it comes back with %d bytes, not %d: %v", len(got.Text), len(big), err)
	}
	for _, row := range []struct {
		by    *client.Client
		call  string
		asked any
		kind  drill.ErrorKind
		says  string
	}{
		{pager, "hosts", nil, drill.Refused, "firedrill fleet api-token --may hosts"},
		{ci, "token", fleet.TokenRequest{Uses: 1}, drill.Refused, "no token ever may"},
		{ci, "nothing", nil, drill.Refused, "no token ever may"},
		{ci, "run", "nothing", drill.Invalid, ""},
		{ci, "attack", map[string]any{"selektor": 1}, drill.Invalid, ""},
		{ci, "attack", fleet.AttackRequest{Selector: fleet.Selector{All: true}, Kind: "cpu", Args: []string{"-l", "60"}}, drill.Refused, ""},
		{open("fda.wrong"), "hosts", nil, drill.Refused, "a token is needed"},
	} {
		err := row.by.Call(t.Context(), row.call, row.asked, nil)
		if drill.KindOf(err) != row.kind || !strings.Contains(fmt.Sprint(err, drill.HintOf(err)), row.says) {
			t.Errorf("%s: %v (%s), and not %s", row.call, err, drill.HintOf(err), row.says)
		}
	}
	// io is known to these hosts, and its arguments are not: each refuses, and the answer says so beside the error.
	var refused, running fleet.Run
	err := ci.Call(t.Context(), "attack", fleet.AttackRequest{Selector: fleet.Selector{Names: []string{"web1"}}, Kind: "io", Args: []string{"--nonsense"}}, &refused)
	if err == nil || len(refused.Hosts) != 1 || refused.Hosts[0].State != fleet.HostRefused {
		t.Errorf("a refused attack: %v %+v", err, refused)
	}
	if err := ci.Call(t.Context(), "attack", fleet.AttackRequest{Selector: fleet.Selector{Names: []string{"web1"}}, Kind: "cpu", Args: []string{"-l", "60"}}, &running); err != nil {
		t.Fatal(err)
	}
	w.await("the impact", w.agents["web1"].inForce)
	var report fleet.HaltReport
	if err := pager.Call(t.Context(), "halt", fleet.HaltRequest{Reason: "of a test"}, &report); err != nil || w.agents["web1"].hit() || !report.Lever.Engaged {
		t.Errorf("a pager's halt: %+v %v, in force %v", report, err, w.agents["web1"].hit())
	}
	w.ended(running.ID)
	if err := ci.Renew(t.Context(), func(fleet.Credentials) error { return nil }); drill.KindOf(err) != drill.Invalid {
		t.Errorf("a token is renewed: %v", err)
	}
}
