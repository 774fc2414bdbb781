package web

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/web/account"
)

// Options of the dashboard.
type Options struct {
	Control *control.Control
	Book    *account.Book
	Log     *slog.Logger

	Provider  *Provider               // of identities; nil: passwords alone
	Results   []string                // directories below which runs with verdicts lie
	Judge     Judge                   // judges the log of a run again; needed for Results
	Standings func() []Standing       // what service files say; nil: none was given
	Alarms    func() ([]Alarm, error) // nil: there are none

	FreeForms bool // planted bug: a form is taken whoever gave it
}

// Cookies. The prefix makes browsers keep them to this host and to TLS.
const (
	sessionCookie = "__Host-firedrill"
	formCookie    = "__Host-firedrill-form"
)

const (
	formMax    = 256 << 10 // bytes of a form
	streamsMax = 500       // open pages that are kept up to date at the same time
)

// policy lets pages have their own style, script and pictures, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

type server struct {
	Options
	sessions  *account.Sessions
	limiter   account.Limiter
	looks     *looks
	streams   chan struct{}
	strangers strangers

	mu      sync.Mutex // guards the fields below
	secrets map[string]string
	halting *haltState
	folds   map[string]*drillFold

	folding sync.Mutex // guards what is in folds: one log is read on at a time
}

// Handler serves the dashboard.
func Handler(o Options) http.Handler {
	s := &server{Options: o, sessions: account.NewSessions(o.Book), looks: newLooks(), streams: make(chan struct{}, streamsMax), secrets: map[string]string{}, folds: map[string]*drillFold{}}
	s.strangers.record = s.Control.Record
	mux := http.NewServeMux()
	s.looks.serve(mux)
	mux.HandleFunc("GET /login", s.loginPage)
	mux.HandleFunc("POST /login", s.login)
	if s.Provider != nil {
		mux.HandleFunc("GET /oidc/start", s.oidcStart)
		mux.HandleFunc("GET "+callbackPath, s.oidcCallback)
	}
	for pattern, page := range s.pages() {
		mux.Handle("GET "+pattern, s.known(page))
	}
	for pattern, action := range s.actions() {
		mux.Handle("POST "+pattern, s.known(s.act(action)))
	}
	mux.Handle("GET /", s.known(func(w http.ResponseWriter, r *http.Request, v *visit) {
		s.fail(w, r, v, http.StatusNotFound, "There is no such page", "")
	}))
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.strangers.refused("refused %s %s from %s: another site asked for it", r.Method, r.URL.Path, addressOf(r))
		http.Error(w, "another site asked for this", http.StatusForbidden)
	}))
	guarded := crossOrigin.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("Strict-Transport-Security", "max-age=31536000")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		header.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, formMax)
		guarded.ServeHTTP(w, r)
	})
}

// visit is a request by somebody who is logged in.
type visit struct {
	session account.Session
	user    account.User
	secret  string
}

// May reports whether the role of the visitor may make a call.
func (v *visit) May(call string) bool { return v != nil && fleet.MayCall(v.user.Role, call) }

type pageFunc func(http.ResponseWriter, *http.Request, *visit)

// known lets those through who are logged in; everybody else is led to the log-in.
func (s *server) known(next pageFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, ok := s.visitor(r)
		if !ok {
			if r.Method != http.MethodGet || isStream(r) {
				http.Error(w, "log in first", http.StatusUnauthorized)
				return
			}
			http.Redirect(w, r, "/login"+backTo(r), http.StatusSeeOther)
			return
		}
		next(w, r, v)
	})
}

func (s *server) visitor(r *http.Request) (*visit, bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil, false
	}
	session, user, ok := s.sessions.Find(cookie.Value, time.Now(), !isStream(r))
	return &visit{session: session, user: user, secret: cookie.Value}, ok
}

func isStream(r *http.Request) bool { return r.Header.Get("Accept") == "text/event-stream" }

// addressOf is where a request comes from. What proxies say of it is not asked: anybody can say it.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func setCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: int(age.Seconds())})
}

// formToken is what the log-in's form holds before there is a session: the same as a cookie that only this host can set.
func formToken(w http.ResponseWriter, r *http.Request) string {
	if cookie, err := r.Cookie(formCookie); err == nil && len(cookie.Value) == len(rand.Text()) {
		return cookie.Value
	}
	token := rand.Text()
	setCookie(w, formCookie, token, time.Hour)
	return token
}

func genuineForm(r *http.Request) bool {
	cookie, err := r.Cookie(formCookie)
	return err == nil && len(cookie.Value) > 0 && subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(r.PostFormValue("csrf"))) == 1
}

// call asks the control plane in the visitor's name.
func (s *server) call(ctx context.Context, v *visit, call string, asked any) (any, error) {
	return s.Control.Call(ctx, v.user.Member(), call, encoded(asked))
}

func (v *visit) String() string { return fmt.Sprintf("%s, who is %s", v.user.Name, v.user.Role) }

// backTo is the part of the log-in's address that leads back to where somebody wanted to go.
func backTo(r *http.Request) string {
	if r.URL.Path == "/" || strings.ContainsAny(r.URL.Path, "\\\n\r") {
		return ""
	}
	return "?to=" + urlEscape(r.URL.RequestURI())
}
