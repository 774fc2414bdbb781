package web

import (
	"errors"
	"maps"
	"net/http"
	"slices"

	"firedrill/internal/drill"
)

// action does what a form asks for and returns the page to go to. An error is shown with its hint.
type action func(r *http.Request, v *visit) (to string, err error)

// actions are all forms but the log-in's.
func (s *server) actions() map[string]action {
	return map[string]action{
		"/logout":                   s.logout,
		"/halt":                     s.halt,
		"/lever/release":            s.release,
		"/attack":                   s.attack,
		"/schedule/{entry}/remove":  s.unschedule,
		"/schedule/{entry}/leash":   s.leash("leash"),
		"/schedule/{entry}/unleash": s.leash("unleash"),
		"/runs/{run}/stop":          s.stop,
		"/services/put":             s.putService,
		"/services/{service}/drill": s.startDrill,
		"/drills/{drill}/stop":      s.stopDrill,
		"/settings/password":        s.changePassword,
		"/settings/factor":          s.changeFactor,
	}
}

// act takes a form that was given to this session, and refuses every other.
func (s *server) act(do action) pageFunc {
	return func(w http.ResponseWriter, r *http.Request, v *visit) {
		if err := r.ParseForm(); err != nil {
			s.fail(w, r, v, http.StatusBadRequest, "The form cannot be read", "")
			return
		}
		if !v.session.Genuine(r.PostFormValue("csrf")) && !s.FreeForms {
			s.Control.Record("refused %s to %s: the form was not given to this session", r.URL.Path, v)
			s.fail(w, r, v, http.StatusForbidden, "This form was not made for your session", "Go back, load the page again, and repeat it.")
			return
		}
		to, err := do(r, v)
		if err != nil {
			var asked *formError
			if errors.As(err, &asked) {
				asked.show(w)
				return
			}
			s.fail(w, r, v, statusOf(err), err.Error(), drill.HintOf(err))
			return
		}
		if to == "" {
			to = "/"
		}
		if r.URL.Path == "/logout" {
			setCookie(w, sessionCookie, "", -1)
			w.Header().Set("Clear-Site-Data", `"cache"`)
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// formError shows the form again, with what was wrong.
type formError struct{ show func(http.ResponseWriter) }

func (e *formError) Error() string { return "the form is shown again" }

func statusOf(err error) int {
	var known *drill.Error
	if !errors.As(err, &known) {
		return http.StatusInternalServerError
	}
	switch known.Kind {
	case drill.Invalid:
		return http.StatusBadRequest
	case drill.Refused, drill.Unsupported:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

// Actions are the patterns of all forms but the log-in's.
func Actions() []string { return slices.Sorted(maps.Keys((&server{}).actions())) }
