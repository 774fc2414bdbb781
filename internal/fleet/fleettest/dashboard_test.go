package fleettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	dash "firedrill/internal/web"
	"firedrill/internal/web/account"
)

const dashPassword = "correct horse battery"

// dashboard is a world with its pages and some people.
type dashboard struct {
	*world
	server *httptest.Server
	book   *account.Book
}

func newDashboard(t *testing.T, change func(*dash.Options, *control.Options)) *dashboard {
	t.Helper()
	d := &dashboard{book: account.Open(filepath.Join(t.TempDir(), "users.json"))}
	d.book.Cheap = true
	options := dash.Options{Book: d.book}
	d.world = newWorld(t, func(o *control.Options) {
		if change != nil {
			change(&options, o)
		}
	})
	options.Control, options.Log = d.control, d.logger("web")
	d.server = httptest.NewTLSServer(dash.Handler(options))
	t.Cleanup(d.server.Close)
	for _, user := range []account.User{
		{Name: "vera", Role: fleet.RoleViewer}, {Name: "otto", Role: fleet.RoleOperator}, {Name: "ada", Role: fleet.RoleAdmin},
		{Name: "bella", Role: fleet.RoleOperator, Services: []string{"shop"}}, {Name: "karl", Role: fleet.RoleOperator, Kinds: []string{"io"}},
	} {
		if err := d.book.Put(user, dashPassword, time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// surfer is somebody with a browser without JavaScript.
type surfer struct {
	d      *dashboard
	client *http.Client
}

func (d *dashboard) surfer() *surfer {
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return &surfer{d, &http.Client{Transport: d.server.Client().Transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type answer struct {
	status int
	to     string
	text   string
	header http.Header
}

func (s *surfer) do(request *http.Request) answer {
	s.d.t.Helper()
	response, err := s.client.Do(request)
	if err != nil {
		s.d.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.d.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header.Get("Location"), string(text), response.Header}
}

func (s *surfer) get(path string) answer {
	s.d.t.Helper()
	request, err := http.NewRequestWithContext(s.d.t.Context(), http.MethodGet, s.d.server.URL+path, http.NoBody)
	if err != nil {
		s.d.t.Fatal(err)
	}
	return s.do(request)
}

var csrfForm = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// post sends a form with the token of the page that holds it.
func (s *surfer) post(page, path string, values url.Values) answer {
	s.d.t.Helper()
	found := csrfForm.FindStringSubmatch(s.get(page).text)
	if found == nil {
		s.d.t.Fatalf("%s has no form", page)
	}
	values.Set("csrf", found[1])
	return s.send(path, values, nil)
}

func (s *surfer) send(path string, values url.Values, header http.Header) answer {
	s.d.t.Helper()
	request, err := http.NewRequestWithContext(s.d.t.Context(), http.MethodPost, s.d.server.URL+path, strings.NewReader(values.Encode()))
	if err != nil {
		s.d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, value := range header {
		request.Header[name] = value
	}
	return s.do(request)
}

func (s *surfer) login(name, password string) answer {
	s.d.t.Helper()
	return s.post("/login", "/login", url.Values{"name": {name}, "password": {password}})
}

func (d *dashboard) as(name string) *surfer {
	d.t.Helper()
	s := d.surfer()
	if a := s.login(name, dashPassword); a.status != http.StatusSeeOther || a.to != "/" {
		d.t.Fatalf("%s cannot log in: %d %s", name, a.status, a.text)
	}
	return s
}

// audited waits for a line of the audit log.
func (d *dashboard) audited(words ...string) {
	d.t.Helper()
	d.await("an audit line with "+strings.Join(words, ", "), func() error {
		page, err := d.control.Audit(d.t.Context(), fleet.AuditRequest{Count: 1000, Contains: words[0]})
		if err != nil {
			return err
		}
		for _, line := range page.Lines {
			text := line.Text
			all := true
			for _, word := range words {
				all = all && strings.Contains(text, word)
			}
			if all {
				return nil
			}
		}
		return errors.New("there is none")
	})
}

func TestNothingIsShownWithoutALogIn(t *testing.T) {
	t.Parallel()
	d := newDashboard(t, nil)
	s := d.surfer()
	for _, path := range []string{"/", "/fleet", "/fleet/hosts", "/runs", "/runs/x", "/attack", "/halt", "/lever", "/audit", "/settings", "/settings/factor", "/settings/factor.png", "/nothing"} {
		if a := s.get(path); a.status != http.StatusSeeOther || !strings.HasPrefix(a.to, "/login") {
			t.Errorf("%s: %d %s", path, a.status, a.to)
		}
	}
	for _, path := range []string{"/halt", "/attack", "/lever/release", "/runs/x/stop", "/settings/password", "/settings/factor", "/logout"} {
		if a := s.send(path, url.Values{}, nil); a.status != http.StatusUnauthorized {
			t.Errorf("POST %s: %d", path, a.status)
		}
	}
	a := s.get("/login")
	for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "Strict-Transport-Security": "max-age", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
		if !strings.Contains(a.header.Get(name), want) {
			t.Errorf("%s: %q", name, a.header.Get(name))
		}
	}
	if strings.Contains(a.header.Get("Content-Security-Policy"), "unsafe") {
		t.Error("the policy lets in what is written into a page")
	}
	for _, to := range []string{"//evil.example.com/", "https://evil.example.com", "/\\evil.example.com", "javascript:alert(1)"} {
		if a := d.surfer().post("/login?to="+url.QueryEscape(to), "/login", url.Values{"name": {"vera"}, "password": {dashPassword}, "to": {to}}); a.to != "/" {
			t.Errorf("a log-in leads to %q", a.to)
		}
	}
}

func TestEveryPageIsWholeWithoutAScript(t *testing.T) {
	t.Parallel()
	d := newDashboard(t, nil)
	d.join("web1", web1Tags("blue"), nil)
	d.join("web2", web1Tags("green"), nil)
	run := d.mustAttack("cpu", "0.2", "web1")
	d.ended(run.ID)
	s := d.as("ada")
	inline := regexp.MustCompile(`(?i)<style|<script>|\sstyle=|\son[a-z]+=|javascript:`)
	for path, words := range map[string][]string{
		"/": {"Overview", "cpu", "it bit, reverted", "Halt all"}, "/fleet": {"bookstore · blue", "web1"}, "/fleet/hosts": {"web2", "2 hosts"}, "/fleet/hosts?environment=blue": {"1 host<"},
		"/fleet/hosts/web1": {"cpu, io", "service=bookstore"}, "/runs": {"1 in all"}, "/runs?kind=io": {"No runs."}, "/runs/" + run.ID: {"in force until", "whole", `<svg class="timeline"`},
		"/attack": {"Start an attack", "<option>cpu"}, "/halt": {"Halt everything on all hosts"}, "/halt/report": {"Nobody has halted"}, "/lever": {"released"}, "/audit": {"ada logs in", "admin orders cpu"},
		"/settings": {"bella", "People with a key"}, "/settings/factor": {"factor.png"},
	} {
		a := s.get(path)
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
		for _, word := range words {
			if !strings.Contains(a.text, word) {
				t.Errorf("%s does not say %q:\n%s", path, word, a.text)
			}
		}
		if found := inline.FindString(a.text); found != "" {
			t.Errorf("%s holds %q", path, found)
		}
	}
	for _, path := range []string{"/runs/nothing", "/fleet/hosts/nothing", "/audit?from=nothing:1"} {
		if a := s.get(path); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := s.get("/nothing"); a.status != http.StatusNotFound {
		t.Errorf("a page that is not there: %d", a.status)
	}
}

func web1Tags(environment string) map[string]string {
	return map[string]string{"service": "bookstore", "environment": environment}
}

func TestFormsAreTakenFromTheirSessionAlone(t *testing.T) {
	t.Parallel()
	for _, planted := range []bool{false, true} {
		d := newDashboard(t, func(o *dash.Options, _ *control.Options) { o.FreeForms = planted })
		mine, other := d.as("otto"), d.as("ada")
		token := csrfForm.FindStringSubmatch(other.get("/halt").text)[1]
		a := mine.send("/halt", url.Values{"csrf": {token}}, nil)
		if refused := a.status == http.StatusForbidden; refused == planted {
			t.Errorf("planted %v: the form of another: %d", planted, a.status)
		}
		if planted {
			continue
		}
		for _, row := range []struct {
			token  string
			header http.Header
		}{
			{"", nil},
			{csrfForm.FindStringSubmatch(mine.get("/halt").text)[1], http.Header{"Sec-Fetch-Site": {"cross-site"}}},
			{csrfForm.FindStringSubmatch(mine.get("/halt").text)[1], http.Header{"Origin": {"https://evil.example.com"}}},
		} {
			if a := mine.send("/halt", url.Values{"csrf": {row.token}}, row.header); a.status != http.StatusForbidden {
				t.Errorf("%+v: %d", row, a.status)
			}
		}
		if lever, _ := d.control.Standing(); lever.Engaged {
			t.Error("a forged form has halted")
		}
		d.audited("refused /halt to otto, who is operator")
		d.audited("another site asked for it")
	}
}

func TestWhoMayDoWhatOnThePages(t *testing.T) {
	t.Parallel()
	for _, planted := range []bool{false, true} {
		d := newDashboard(t, func(_ *dash.Options, o *control.Options) { o.Boundless = planted })
		h := d.join("web1", web1Tags("blue"), nil)
		d.join("web2", web1Tags("green"), nil)
		form := func() url.Values {
			return url.Values{"hosts": {"web1"}, "much": {"all"}, "kind": {"cpu"}, "args": {"-l 60"}, "do": {"start"}}
		}
		bounded := map[string]string{"bella": "bella may attack shop alone", "karl": "karl may attack with io alone"}
		for name, why := range bounded {
			a := d.as(name).post("/attack", "/attack", form())
			if planted {
				if a.status == http.StatusConflict {
					continue // the first of them holds the permit
				}
				if a.status != http.StatusSeeOther {
					t.Errorf("planted: %s: %d", name, a.status)
				}
				continue
			}
			if a.status != http.StatusConflict || !strings.Contains(a.text, why) || !strings.Contains(a.text, `value="-l 60"`) {
				t.Errorf("%s: %d %s", name, a.status, a.text)
			}
			d.audited("refused attack to " + name)
		}
		if planted {
			d.await("the impact", h.inForce)
			continue
		}
		vera, otto := d.as("vera"), d.as("otto")
		if a := vera.post("/attack", "/attack", form()); a.status != http.StatusForbidden || !strings.Contains(a.text, "vera is viewer, and that needs operator") {
			t.Errorf("a viewer attacks: %d %s", a.status, a.text)
		}
		d.audited("refused attack to vera")
		look := form()
		look.Set("do", "look")
		if a := otto.post("/attack", "/attack", look); a.status != http.StatusOK || !strings.Contains(a.text, "1 host would be attacked") || h.hit() {
			t.Errorf("a look: %d %s", a.status, a.text)
		}
		a := otto.post("/attack", "/attack", form())
		if a.status != http.StatusSeeOther || !strings.HasPrefix(a.to, "/runs/") {
			t.Fatalf("an operator attacks: %d %s", a.status, a.text)
		}
		run := a.to
		d.await("the impact", h.inForce)
		if a := otto.post("/attack", "/attack", url.Values{"hosts": {"web2"}, "much": {"all"}, "kind": {"cpu"}, "args": {"-l 1"}, "do": {"start"}}); a.status != http.StatusConflict || !strings.Contains(a.text, "not attacking:") {
			t.Errorf("what limits and permits forbid: %d %s", a.status, a.text)
		}
		// A viewer stops and halts: stopping is easier than starting, on purpose.
		if a := vera.post(run, run+"/stop", url.Values{}); a.status != http.StatusSeeOther {
			t.Errorf("a viewer stops: %d %s", a.status, a.text)
		}
		d.await("the end", h.whole)
		if a := vera.post("/halt", "/halt", url.Values{"reason": {"the pager"}}); a.status != http.StatusSeeOther || a.to != "/halt/report" {
			t.Errorf("a viewer halts: %d %s", a.status, a.text)
		}
		d.await("the report", func() error {
			if text := vera.get("/halt/report").text; !strings.Contains(text, `<b class="pill passed">halted</b> by vera`) {
				return errors.New(text)
			}
			return nil
		})
		if a := otto.post("/attack", "/attack", form()); a.status != http.StatusConflict || !strings.Contains(a.text, "the lever is engaged") {
			t.Errorf("under the lever: %d %s", a.status, a.text)
		}
		token := csrfForm.FindStringSubmatch(vera.get("/lever").text)[1]
		if a := vera.send("/lever/release", url.Values{"csrf": {token}}, nil); a.status != http.StatusConflict {
			t.Errorf("a viewer releases: %d", a.status)
		}
		d.audited("refused release to vera")
		if a := otto.post("/lever", "/lever/release", url.Values{}); a.status != http.StatusSeeOther {
			t.Errorf("an operator releases: %d %s", a.status, a.text)
		}
		d.audited("otto releases the lever")
	}
}

func TestASessionIsLostWithThePassword(t *testing.T) {
	t.Parallel()
	d := newDashboard(t, nil)
	here, there := d.as("otto"), d.as("otto")
	if a := here.post("/settings", "/settings/password", url.Values{"old": {"wrong"}, "new": {"another horse battery"}, "again": {"another horse battery"}}); a.status != http.StatusConflict {
		t.Errorf("with a wrong old password: %d", a.status)
	}
	if a := here.post("/settings", "/settings/password", url.Values{"old": {dashPassword}, "new": {"another horse battery"}, "again": {"another horse battery"}}); a.to != "/login" {
		t.Errorf("%d %s", a.status, a.text)
	}
	for name, s := range map[string]*surfer{"here": here, "there": there} {
		if a := s.get("/"); a.status != http.StatusSeeOther {
			t.Errorf("%s the session goes on: %d", name, a.status)
		}
	}
	if a := d.surfer().login("otto", dashPassword); a.status != http.StatusUnauthorized {
		t.Errorf("the old password: %d", a.status)
	}
	for range 10 {
		d.surfer().login("otto", "guess guess guess")
	}
	if a := d.surfer().login("otto", "another horse battery"); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("after many guesses: %d", a.status)
	}
	d.audited(`refused a log-in of "otto"`, "too many have failed")
	ada := d.as("ada")
	if a := ada.post("/", "/logout", url.Values{}); a.to != "/login" || ada.get("/").status != http.StatusSeeOther {
		t.Errorf("a log-out: %+v", a)
	}
}

func TestAPageMovesAsARunDoes(t *testing.T) {
	t.Parallel()
	d := newDashboard(t, nil)
	h := d.join("web1", web1Tags("blue"), nil)
	d.join("web2", web1Tags("green"), nil)
	s := d.as("vera")
	run := d.mustAttack("cpu", "60", "web1")
	told := &lockedLog{}
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.server.URL+"/runs/"+run.ID, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = io.Copy(told, response.Body) }()
	says := func(words ...string) func() error {
		return func() error {
			for _, word := range words {
				if !strings.Contains(told.String(), word) {
					return fmt.Errorf("it does not say %q", word)
				}
			}
			return nil
		}
	}
	d.await("the impact", h.inForce)
	d.await("the page says so", says("in force until", `class=\"inforce\"`))
	d.must("stop", run.ID, nil)
	d.await("the page tells the end", says("it bit, reverted", "wasforce", "data-done"))
	if err := d.book.Remove("vera"); err != nil {
		t.Fatal(err)
	}
	select { // the session is looked at with each beat
	case <-ended:
	case <-time.After(patience):
		t.Error("a page is told more after its reader was put out")
	}
	cancel()
	_ = response.Body.Close()
}

func TestTheAuditLogIsReadBackwardsPageByPage(t *testing.T) {
	t.Parallel()
	d := newDashboard(t, nil)
	const lines = 450
	padding := strings.Repeat("x", 300) // more than one chunk is read
	for i := range lines {
		d.control.Record("line %d of many %s", i, padding)
	}
	d.stop()
	d.admin.Close()
	d.start() // a log of its own for this start: pages go on in the one before
	for i := range 3 {
		d.control.Record("line %d of many", lines+i)
	}
	var got []string
	place := ""
	for range 100 {
		page, err := d.control.Audit(t.Context(), fleet.AuditRequest{From: place, Count: 50, Contains: "OF MANY"})
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range page.Lines {
			got = append(got, strings.Fields(line.Text)[1])
		}
		if place = page.Next; place == "" {
			break
		}
	}
	if len(got) != lines+3 {
		t.Fatalf("%d lines of %d", len(got), lines+3)
	}
	for i, number := range got {
		if number != fmt.Sprint(lines+2-i) {
			t.Fatalf("line %s stands at %d", number, i)
		}
	}
}
