package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed static
var staticFiles embed.FS

// looks are the templates and what pages load.
type looks struct {
	pages  map[string]*template.Template
	static map[string]staticFile // by path
	names  map[string]string     // path by name
}

type staticFile struct {
	kind string
	text []byte
}

// newLooks reads what is built in. Names of files hold their hash, so browsers may keep them for ever.
func newLooks() *looks {
	l := &looks{pages: map[string]*template.Template{}, static: map[string]staticFile{}, names: map[string]string{}}
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("web: built-in files: %v", err)) // our own words, which a test renders
		}
	}
	entries, err := fs.ReadDir(staticFiles, "static")
	must(err)
	for _, entry := range entries {
		text, err := staticFiles.ReadFile("static/" + entry.Name())
		must(err)
		sum := sha256.Sum256(text)
		address := "/static/" + hex.EncodeToString(sum[:8]) + "/" + entry.Name()
		l.static[address] = staticFile{kind: mime.TypeByExtension(path.Ext(entry.Name())), text: text}
		l.names[entry.Name()] = address
	}
	functions := template.FuncMap{"static": func(name string) string { return l.names[name] }, "when": whenText, "iso": isoText, "ago": agoText, "join": strings.Join, "short": shortID, "tags": tagText, "lower": strings.ToLower, "query": urlEscape,
		"outcomeof": outcomeOf, "verdictclass": verdictClass, "cadenceclass": cadenceClass, "outcomes": func() []string { return outcomes }, "classof": classOf, "conditionof": conditionOf, "sayevent": sayEvent, "drilloutcome": drillOutcome, "counted": counted, "moment": momentText}
	layout, err := template.New("layout.html").Funcs(functions).ParseFS(pageFiles, "pages/layout.html")
	must(err)
	files, err := fs.Glob(pageFiles, "pages/*.html")
	must(err)
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" {
			continue
		}
		page, err := template.Must(layout.Clone()).ParseFS(pageFiles, file)
		must(err)
		l.pages[name] = page
	}
	return l
}

func (l *looks) serve(mux *http.ServeMux) {
	mux.HandleFunc("GET /static/", func(w http.ResponseWriter, r *http.Request) {
		file, ok := l.static[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", file.kind)
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		_, _ = w.Write(file.text)
	})
}

// head is what the frame of a page needs.
type head struct {
	Title  string
	Path   string
	Visit  *visit
	CSRF   string
	Lever  fleet.Lever
	Going  []fleet.Run
	Drills []fleet.DrillRun // that are going on
	Keeps  error            // why nothing can be kept just now
	Live   bool
	Now    time.Time
}

// User is who looks; nil before the log-in.
func (h head) User() string {
	if h.Visit == nil {
		return ""
	}
	return h.Visit.user.Name
}

// Role of who looks.
func (h head) Role() string { return h.Visit.user.Role }

// May reports whether who looks may make a call.
func (h head) May(call string) bool { return h.Visit.May(call) }

// barsMax is how many runs that are going on have a bar of their own on top of each page, and as many drills.
const barsMax = 3

// RunBars are the runs that have one.
func (h head) RunBars() []fleet.Run { return h.Going[:min(len(h.Going), barsMax)] }

// DrillBars are the drills that have one.
func (h head) DrillBars() []fleet.DrillRun { return h.Drills[:min(len(h.Drills), barsMax)] }

// MoreRuns is how many go on without one.
func (h head) MoreRuns() int { return max(0, len(h.Going)-barsMax) }

// MoreDrills is how many go on without one.
func (h head) MoreDrills() int { return max(0, len(h.Drills)-barsMax) }

// At reports whether a menu's entry is that of this page.
func (h head) At(prefix string) bool {
	return h.Path == prefix || prefix != "/" && strings.HasPrefix(h.Path, prefix+"/")
}

type shown struct {
	Head head
	Body any
}

func (l *looks) render(w http.ResponseWriter, status int, name string, h head, body any) {
	var text bytes.Buffer
	if err := l.pages[name].ExecuteTemplate(&text, "layout.html", shown{h, body}); err != nil {
		http.Error(w, "the page cannot be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // who has gone needs no error
}

func (s *server) head(r *http.Request, v *visit, title string) head {
	lever, _ := s.Control.Standing()
	return head{Title: title, Path: r.URL.Path, Visit: v, CSRF: v.session.CSRF, Lever: lever, Keeps: s.Control.Problem(), Going: s.Control.Going(), Drills: s.Control.GoingDrills(), Now: time.Now()}
}

// fail shows what went wrong, with what to do about it.
func (s *server) fail(w http.ResponseWriter, r *http.Request, v *visit, status int, problem, hint string) {
	s.looks.render(w, status, "problem", s.head(r, v, "Not done"), map[string]any{"Problem": problem, "Hint": hint, "Status": status})
}

// show shows a page. Its part "live" is kept up to date: the same address, asked for as events, tells it again whenever it has changed, at most
// every so often.
func (s *server) show(w http.ResponseWriter, r *http.Request, v *visit, name, title string, every time.Duration, build func(ctx context.Context) (any, error)) {
	if isStream(r) {
		s.stream(w, r, v, name, title, every, build)
		return
	}
	body, err := build(r.Context())
	if err != nil {
		s.fail(w, r, v, statusOf(err), err.Error(), drill.HintOf(err))
		return
	}
	h := s.head(r, v, title)
	h.Live = every > 0
	w.Header().Set("Vary", "Accept")
	s.looks.render(w, http.StatusOK, name, h, body)
}

const (
	beatEvery = 15 * time.Second
	lookEvery = time.Second // for what changes without a word
	writeMax  = 10 * time.Second
)

// stream tells the moving parts of a page until the reader goes, or the session ends.
func (s *server) stream(w http.ResponseWriter, r *http.Request, v *visit, name, title string, every time.Duration, build func(ctx context.Context) (any, error)) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	changes, stop := s.Control.Watch()
	defer func() { stop() }()
	w.Header().Set("Content-Type", "text/event-stream")
	to := http.NewResponseController(w)
	send := func(event string, data []byte) error {
		if err := to.SetWriteDeadline(time.Now().Add(writeMax)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data); err != nil {
			return err
		}
		return to.Flush()
	}
	look, beat := time.NewTicker(max(every, lookEvery)), time.NewTicker(beatEvery)
	defer look.Stop()
	defer beat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	told, news := "", true
	for {
		ready := pause.C
		if !news {
			ready = nil
		}
		select {
		case <-r.Context().Done():
			return
		case _, open := <-changes:
			if !open { // we were too slow: what is told next is how things stand then
				changes, stop = s.Control.Watch()
			}
			news = true
		case <-look.C:
			news = true
		case <-beat.C:
			if _, ok := s.visitor(r); !ok {
				_ = send("over", []byte("{}"))
				return
			}
			if send("beat", []byte("{}")) != nil {
				return
			}
		case <-ready:
			news = false
			pause.Reset(every)
			text, err := s.parts(r, v, name, title, build)
			if err != nil {
				return
			}
			if text != told && send("parts", []byte(text)) != nil {
				return
			}
			told = text
		}
	}
}

// parts are the moving parts of a page as JSON: the bar on top, and what is live in it.
func (s *server) parts(r *http.Request, v *visit, name, title string, build func(ctx context.Context) (any, error)) (string, error) {
	body, err := build(r.Context())
	if err != nil {
		return "", err
	}
	view := shown{s.head(r, v, title), body}
	var bar, live bytes.Buffer
	if err := s.looks.pages[name].ExecuteTemplate(&bar, "bar", view); err != nil {
		return "", err
	}
	if err := s.looks.pages[name].ExecuteTemplate(&live, "live", view); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]string{"bar": bar.String(), "live": live.String()})
	return string(text), err
}

// whenText is a moment as people read it, below a heading that says UTC; all times of the dashboard are, as those of logs.
func whenText(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format("2006-01-02 15:04:05")
}

// momentText is a moment outside of a table whose heading says that it is UTC.
func momentText(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return whenText(at) + " UTC"
}

func isoText(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// agoText is how long ago something was, coarse, so that a page does not change with every second.
func agoText(at, now time.Time) string {
	d := now.Sub(at)
	switch {
	case at.IsZero():
		return "never"
	case d < 0:
		return "in " + coarse(-d)
	case d < 30*time.Second:
		return "just now"
	}
	return coarse(d) + " ago"
}

func coarse(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds())/10*10)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

// shortID is the end of a name, which is what tells runs apart.
func shortID(id string) string { return id[max(0, len(id)-6):] }

// lookedThrough is how often a list is brought up to date: less often when it is narrowed, which goes through all that is kept.
func lookedThrough(filter string) time.Duration {
	if filter == "" {
		return time.Second
	}
	return 5 * time.Second
}

// pageOf cuts a page out of what is sorted by a key: what comes after one, and no more than fits. next is the key to go on from; empty: that was all.
func pageOf[T any](all []T, key func(T) string, after string, size int) (page []T, next string) {
	from := 0
	if after != "" {
		from = len(all)
		if at := slices.IndexFunc(all, func(one T) bool { return key(one) > after }); at >= 0 {
			from = at
		}
	}
	page = all[from:]
	if len(page) > size {
		page = page[:size]
		next = key(page[size-1])
	}
	return page, next
}

// address is a page with a query of names and values; those that are empty are left out.
func address(path string, pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

// nextOf is the address of the next page; empty: there is none.
func nextOf(path, after string, pairs ...string) string {
	if after == "" {
		return ""
	}
	return address(path, append(pairs, "after", after)...)
}

// counted is a number with its word: "1 host", "2 hosts".
func counted(count int, word string) string {
	if count == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", count, word)
}
