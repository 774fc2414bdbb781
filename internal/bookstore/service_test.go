package bookstore

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testPassword = "paperback"

// backends are the databases that the service must not be able to tell apart.
var backends = []struct {
	name  string
	start func(t *testing.T) (address string)
}{
	{"stand-in", func(t *testing.T) string {
		address, _ := startDatabase(t, openDatabase(t, DatabaseOptions{Password: testPassword}))
		return address
	}},
	{"postgresql", func(t *testing.T) string { return startPostgres(t, testPassword) }},
}

// shop is a running service and what it stands on.
type shop struct {
	service  *Service
	url      string
	setting  string // the host's own database setting
	database *valve
	client   *http.Client
}

func openShop(t *testing.T, database string) *shop {
	t.Helper()
	way := newValve(t, database)
	origin := httptest.NewServer(NewOrigin("", "primary"))
	t.Cleanup(origin.Close)
	setting := filepath.Join(t.TempDir(), "database_url")
	service, err := NewService(Options{
		App: publish(t, 7), CDN: origin.URL, Environment: "bookstore-api-blue",
		DatabaseURL:     "postgres://bookstore:" + testPassword + "@" + way.address + "/bookstore?sslmode=disable",
		DatabaseURLFile: setting,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service)
	t.Cleanup(service.Close)
	t.Cleanup(server.Close)
	s := &shop{service, server.URL, setting, way, &http.Client{Timeout: testPatience}}
	eventually(t, s.answers(t)) // the service gives a connection a second; a busy machine may take longer for the first
	return s
}

// answers returns why the database does not answer by way of the service, or "".
func (s *shop) answers(t *testing.T) func() string {
	return func() string {
		if status, answer := s.ask(t, "GET", "/books/", ""); status != 200 {
			return fmt.Sprintf("books: %d %s", status, answer)
		}
		return ""
	}
}

// publish makes a release and a link to it, as a deployment does.
func publish(t *testing.T, version int) (link string) {
	t.Helper()
	dir := t.TempDir()
	release := filepath.Join(dir, "releases", "20260412T101500")
	for name, text := range map[string]string{
		"bookstore.yaml":       fmt.Sprintf("version: %d\ntitle: Corner Shop\nsettings: {banner: Hello, seed: seed.json}\n", version),
		"REVISION":             "d7172265ec23\n",
		"seed.json":            `[{"title": "Middlemarch", "author": "George Eliot"}]`,
		"templates/index.html": "<h1>{{.Title}}</h1>{{.Banner}} from {{.Environment}} at {{.Version}}",
		"static/robots.txt":    "User-agent: *\n",
	} {
		path := filepath.Join(release, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link = filepath.Join(dir, "current")
	if err := os.Symlink(release, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// ask sends a request and returns status and body; status 0 means that nothing came within the client's patience.
func (s *shop) ask(t *testing.T, method, path, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	if got := response.Header.Get("X-Bookstore-Environment"); got != "bookstore-api-blue" {
		t.Errorf("%s %s: answered by environment %q", method, path, got)
	}
	return response.StatusCode, string(text)
}

func (s *shop) mustAnswer(t *testing.T, method, path, body string, status int, part string) {
	t.Helper()
	got, answer := s.ask(t, method, path, body)
	if got != status || !strings.Contains(answer, part) {
		t.Errorf("%s %s: got %d %s, want %d with %q", method, path, got, answer, status, part)
	}
}

func TestServiceCannotTellTheDatabasesApart(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend.name, func(t *testing.T) {
			shop := openShop(t, backend.start(t))
			t.Run("answers come from the database", func(t *testing.T) { testAnswers(t, shop) })
			t.Run("ledger keeps what it acknowledged", func(t *testing.T) { testLedger(t, shop) })
			t.Run("wrong password spoils only what needs the database", func(t *testing.T) { testWrongPassword(t, shop) })
			t.Run("cut database gives 503 and comes back", func(t *testing.T) { testCut(t, shop) })
			t.Run("many requests share the pool", func(t *testing.T) { testMany(t, shop) })
		})
	}
}

func testAnswers(t *testing.T, s *shop) {
	for _, step := range []struct {
		method, path, body string
		status             int
		part               string
	}{
		{"GET", "/version", "", 200, `{"environment":"bookstore-api-blue","version":7,"revision":"d7172265ec23","release":"20260412T101500"}`},
		{"GET", "/", "", 200, "<h1>Corner Shop</h1>Hello from bookstore-api-blue at 7"},
		{"GET", "/books/", "", 200, `{"id":1,"title":"Middlemarch","author":"George Eliot"}`},
		{"GET", "/authors/", "", 200, `{"id":1,"name":"George Eliot"}`},
		{"POST", "/books/", `{"title": "Romola", "author": "George Eliot"}`, 201, `"title":"Romola"`},
		{"POST", "/books/", `{"title": "Romola", "author": "George Eliot"}`, 409, "there already"},
		{"POST", "/books/", `{"title": "It's; drop table books --", "author": "O'Neil \" ü"}`, 201, "drop table"},
		{"GET", "/books/", "", 200, `O'Neil \" ü`},
		{"POST", "/books/", `{"title": "", "author": "x"}`, 400, "1 to 200"},
		{"POST", "/books/", `{"title": `, 400, "JSON"},
		{"POST", "/books/", `{"title": "a\u0000b", "author": "x"}`, 400, "1 to 200"},
		{"GET", "/static/status.json", "", 200, `{"online":true,"cdn":"primary"}`},
		{"GET", "/static/robots.txt", "", 200, "User-agent"},
		{"GET", "/static/%2e%2e/bookstore.yaml", "", 404, "no such page"},
		{"GET", "/static/..%2fbookstore.yaml", "", 404, "no such page"},
		{"GET", "/nothing", "", 404, "no such page"},
		{"GET", "/healthy", "", 200, `"version":7`},
	} {
		s.mustAnswer(t, step.method, step.path, step.body, step.status, step.part)
	}
}

func testLedger(t *testing.T, s *shop) {
	s.mustAnswer(t, "GET", "/ledger?writer=w", "", 200, `{"seqs":[]}`)
	for _, seq := range []int{3, 1, 10, 2} {
		s.mustAnswer(t, "POST", "/ledger", fmt.Sprintf(`{"writer":"w","seq":%d}`, seq), 201, "")
	}
	s.mustAnswer(t, "POST", "/ledger", `{"writer":"other","seq":4}`, 201, "")
	s.mustAnswer(t, "POST", "/ledger", `{"writer":"w","seq":3}`, 409, "there already")
	s.mustAnswer(t, "POST", "/ledger", `{"writer":"w"}`, 400, "seq")
	s.mustAnswer(t, "POST", "/ledger", `{"writer":"w","seq":-1}`, 400, "seq")
	s.mustAnswer(t, "GET", "/ledger?writer=w", "", 200, `{"seqs":[1,2,3,10]}`)
	s.mustAnswer(t, "GET", "/ledger", "", 400, "writer")
}

func testWrongPassword(t *testing.T, s *shop) {
	wrong := "postgres://bookstore:hardcover@" + s.database.address + "/bookstore?sslmode=disable\n"
	if err := os.WriteFile(s.setting, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mustAnswer(t, "GET", "/books/", "", 503, stateWrongPassword)
	s.mustAnswer(t, "GET", "/version", "", 200, `"version":7`)
	s.mustAnswer(t, "GET", "/healthy", "", 503, `"db":`)
	if err := os.Remove(s.setting); err != nil {
		t.Fatal(err)
	}
	s.mustAnswer(t, "GET", "/books/", "", 200, "Middlemarch")
}

// survivesCut cuts the way to the database while connections are open, and says what went wrong.
func survivesCut(t *testing.T, s *shop) string {
	t.Helper()
	if status, answer := s.ask(t, "GET", "/books/", ""); status != 200 {
		return fmt.Sprintf("before the cut: %d %s", status, answer)
	}
	s.database.cut()
	defer s.database.mend()
	var asking sync.WaitGroup
	answers := make([]string, 2*poolSize)
	for i := range answers {
		asking.Go(func() {
			if status, answer := s.ask(t, "GET", "/books/", ""); status != 503 || !strings.Contains(answer, `"dependency":"db"`) {
				answers[i] = fmt.Sprintf("during the cut: %d %s", status, answer)
			}
		})
	}
	asking.Wait()
	if status, answer := s.ask(t, "POST", "/ledger", `{"writer":"cut","seq":1}`); status != 503 {
		return fmt.Sprintf("write during the cut: %d %s", status, answer)
	}
	if status, answer := s.ask(t, "GET", "/version", ""); status != 200 {
		return fmt.Sprintf("version during the cut: %d %s", status, answer)
	}
	return strings.Join(answers, "")
}

func testCut(t *testing.T, s *shop) {
	if trouble := survivesCut(t, s); trouble != "" {
		t.Fatal(trouble)
	}
	eventually(t, s.answers(t))
}

func testMany(t *testing.T, s *shop) {
	var asking sync.WaitGroup
	for i := range 5 * poolSize {
		asking.Go(func() { s.mustAnswer(t, "POST", "/ledger", fmt.Sprintf(`{"writer":"many","seq":%d}`, i), 201, "") })
	}
	asking.Wait()
	_, answer := s.ask(t, "GET", "/ledger?writer=many", "")
	var got struct{ Seqs []int64 }
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	want := make([]int64, 5*poolSize)
	for i := range want {
		want[i] = int64(i)
	}
	if diff := cmp.Diff(want, got.Seqs); diff != "" {
		t.Error(diff)
	}
}

func TestCutCheckCatchesAServiceWithoutDeadlines(t *testing.T) {
	address, _ := startDatabase(t, openDatabase(t, DatabaseOptions{}))
	s := openShop(t, address)
	s.service.catalog.pool.patience = patience{request: time.Hour, connect: time.Hour, check: time.Hour, rested: time.Hour}
	s.client.Timeout = 3 * time.Second
	if survivesCut(t, s) == "" {
		t.Error("a service that waits for ever passed")
	}
}

func TestServiceTellsWhichCDNFailureItMet(t *testing.T) {
	silent := listen(t) // accepts in the kernel and never answers
	closed := listen(t)
	closed.Close()
	broken := httptest.NewServer(http.NotFoundHandler())
	defer broken.Close()
	for _, c := range []struct {
		name, cdn string
		status    int
	}{
		{"refused", "http://" + closed.Addr().String(), 502},
		{"silent", "http://" + silent.Addr().String(), 504},
		{"without the asset", broken.URL, 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			address, _ := startDatabase(t, openDatabase(t, DatabaseOptions{Password: testPassword}))
			s := openShop(t, address)
			s.service.cdn = newCDN(c.cdn)
			s.mustAnswer(t, "GET", "/static/status.json", "", c.status, `"dependency":"cdn"`)
			s.mustAnswer(t, "GET", "/healthy", "", 503, `"failed":{"cdn":`)
			s.mustAnswer(t, "GET", "/books/", "", 200, "Middlemarch")
		})
	}
}

func TestServiceWithoutAReleaseSaysSoUntilRestarted(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "current")
	empty, err := NewService(Options{App: link, Environment: "bookstore-api-blue"})
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	for _, path := range []string{"/version", "/books/", "/", "/healthy"} {
		answer := httptest.NewRecorder()
		empty.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != 503 || !strings.Contains(answer.Body.String(), "nothing is published at "+link) {
			t.Errorf("%s: %d %s", path, answer.Code, answer.Body)
		}
	}
	if err := os.Symlink(publish(t, 8), link); err != nil {
		t.Fatal(err)
	}
	restarted, err := NewService(Options{App: link, Environment: "bookstore-api-blue"})
	if err != nil {
		t.Fatal(err)
	}
	defer restarted.Close()
	answer := httptest.NewRecorder()
	restarted.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/version", nil))
	if answer.Code != 200 || !strings.Contains(answer.Body.String(), `"version":8`) {
		t.Errorf("after restart: %d %s", answer.Code, answer.Body)
	}
}

func TestBrokenReleaseIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"no version":      {"bookstore.yaml", "title: x\n", "version must be 1 or more"},
		"no YAML":         {"bookstore.yaml", "version: [\n", "bookstore.yaml of the release"},
		"broken template": {"templates/index.html", "{{.Title", "templates of the release"},
		"broken seed":     {"seed.json", "[{]", "seed seed.json of the release"},
		"seed elsewhere":  {"bookstore.yaml", "version: 1\nsettings: {seed: ../seed.json}\n", "not inside the release"},
	} {
		t.Run(name, func(t *testing.T) {
			link := publish(t, 7)
			if err := os.WriteFile(filepath.Join(link, c.file), []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := OpenRelease(link)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// valve is the way to a database. Cut, it is a dead path: nothing gets through and nobody is told; connections that were open then stay
// dead after mend, as after a power cut.
type valve struct {
	address string
	target  string

	mu    sync.Mutex // guards the fields below
	shut  bool
	ended bool
	ways  []*way
}

// way is one connection through the valve.
type way struct {
	ends []net.Conn
	dead chan struct{}
}

func newValve(t *testing.T, target string) *valve {
	t.Helper()
	listener := listen(t)
	v := &valve{address: listener.Addr().String(), target: target}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { v.pass(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		v.mu.Lock()
		v.ended = true
		for _, w := range v.ways {
			for _, end := range w.ends {
				end.Close()
			}
		}
		v.mu.Unlock()
		running.Wait()
	})
	return v
}

func (v *valve) pass(conn net.Conn) {
	v.mu.Lock()
	w := &way{ends: []net.Conn{conn}, dead: make(chan struct{})}
	v.ways = append(v.ways, w)
	if v.shut || v.ended {
		if v.ended {
			conn.Close()
		}
		v.mu.Unlock()
		return // open, and never answered
	}
	v.mu.Unlock()
	other, err := net.Dial("tcp", v.target)
	if err != nil {
		conn.Close()
		return
	}
	v.mu.Lock()
	w.ends = append(w.ends, other)
	if v.ended {
		conn.Close()
		other.Close()
	}
	v.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { w.carry(conn, other) })
	both.Go(func() { w.carry(other, conn) })
	both.Wait()
}

func (w *way) carry(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-w.dead:
			if err != nil {
				return
			}
			continue
		default:
		}
		if _, writeErr := to.Write(buffer[:n]); writeErr != nil || err != nil {
			to.Close()
			return
		}
	}
}

func (v *valve) cut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = true
	for _, w := range v.ways {
		select {
		case <-w.dead:
		default:
			close(w.dead)
		}
	}
}

func (v *valve) mend() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = false
}

func TestOriginServesItsFilesAndItsStatus(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "logo.svg"), []byte("<svg/>"), 0o644); err != nil {
		t.Fatal(err)
	}
	origin := NewOrigin(root, "secondary")
	for path, want := range map[string]string{
		"/static/status.json": `{"online":true,"cdn":"secondary"}` + "\n", "/static/logo.svg": "<svg/>",
	} {
		answer := httptest.NewRecorder()
		origin.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if diff := cmp.Diff(want, answer.Body.String()); answer.Code != 200 || diff != "" {
			t.Errorf("%s: %d %s", path, answer.Code, diff)
		}
	}
	answer := httptest.NewRecorder()
	origin.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/static/none", nil))
	if answer.Code != 404 {
		t.Errorf("a file that is not there: %d", answer.Code)
	}
}
