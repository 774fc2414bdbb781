package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"firedrill/internal/web/account"
)

func encoded(value any) []byte {
	text, _ := json.Marshal(value) // our own types always encode
	return text
}

func urlEscape(text string) string { return url.QueryEscape(text) }

// inside is a path of this server, or the front page: an address that leads elsewhere is not followed.
func inside(path string) string {
	parsed, err := url.Parse(path)
	if err != nil || parsed.Host != "" || parsed.Scheme != "" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\n\r") {
		return "/"
	}
	return path
}

type loginView struct {
	To, Token, Name, Problem string
	Empty                    bool // nobody can log in yet
	Provider                 string
}

func (s *server) loginPage(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.visitor(r); ok {
		http.Redirect(w, r, inside(r.URL.Query().Get("to")), http.StatusSeeOther)
		return
	}
	s.showLogin(w, r, http.StatusOK, loginView{To: inside(r.URL.Query().Get("to"))})
}

func (s *server) showLogin(w http.ResponseWriter, r *http.Request, status int, view loginView) {
	view.Token = formToken(w, r)
	if s.Provider != nil {
		view.Provider = s.Provider.Name
	}
	users, err := s.Book.List()
	if err != nil {
		s.Log.ErrorContext(r.Context(), "users cannot be read", "error", err)
		view.Problem = "The users of this server cannot be read. Its log says why."
	}
	view.Empty = err == nil && len(users) == 0
	s.looks.render(w, status, "login", head{Title: "Log in"}, view)
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	now, name, address := time.Now(), r.PostFormValue("name"), addressOf(r)
	if len(name) > 128 {
		name = name[:128]
	}
	view := loginView{To: inside(r.PostFormValue("to")), Name: name}
	if !genuineForm(r) && !s.FreeForms {
		s.strangers.refused("refused a log-in of %q from %s: the form was not ours", name, address)
		view.Problem = "That form was too old. Please try again."
		s.showLogin(w, r, http.StatusForbidden, view)
		return
	}
	if wait := s.limiter.Wait(name, address, now); wait > 0 {
		s.strangers.refused("refused a log-in of %q from %s: too many have failed", name, address)
		w.Header().Set("Retry-After", fmt.Sprint(int(wait.Seconds())+1))
		view.Problem = fmt.Sprintf("Too many tries have failed. Wait %d seconds.", int(wait.Seconds())+1)
		s.showLogin(w, r, http.StatusTooManyRequests, view)
		return
	}
	user, reason, err := s.Book.Check(name, r.PostFormValue("password"), r.PostFormValue("code"), now)
	if err != nil {
		s.limiter.Failed(name, address, now)
		s.strangers.refused("refused a log-in of %q from %s: %s", name, address, reason)
		view.Problem = "Name, password or code is wrong."
		s.showLogin(w, r, http.StatusUnauthorized, view)
		return
	}
	s.limiter.Succeeded(name, address)
	s.enter(w, r, user, "a password")
	http.Redirect(w, r, view.To, http.StatusSeeOther)
}

// enter begins a session.
func (s *server) enter(w http.ResponseWriter, r *http.Request, user account.User, by string) {
	setCookie(w, sessionCookie, s.sessions.Begin(user.Name, time.Now()), account.SessionMax)
	s.Control.Record("%s logs in from %s with %s", user.Name, addressOf(r), by)
}

func (s *server) logout(r *http.Request, v *visit) (string, error) {
	s.sessions.End(v.session)
	s.Control.Record("%s logs out from %s", v.user.Name, addressOf(r))
	return "/login", nil
}
