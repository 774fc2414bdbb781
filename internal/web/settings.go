package web

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"net/http"
	"time"

	"github.com/pquerna/otp"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/web/account"
)

const (
	auditShown  = 100
	peopleShown = 200
	pictureSize = 240 // pixels
	secretsMax  = 1000
	auditEvery  = 5 * time.Second // a search reads megabytes
)

func (s *server) audit(w http.ResponseWriter, r *http.Request, v *visit) {
	q := r.URL.Query()
	contains, place, server := q.Get("q"), q.Get("from"), q.Get("server")
	every := time.Second
	if contains != "" {
		every = auditEvery
	}
	if place != "" {
		every = 0 // what was does not change
	}
	s.show(w, r, v, "audit", "Audit log", every, func(ctx context.Context) (any, error) {
		page, err := s.Control.Audit(ctx, fleet.AuditRequest{From: place, Count: auditShown, Contains: contains, Server: server})
		return map[string]any{"Page": page, "Contains": contains, "From": place, "Server": server, "Several": len(page.Servers) > 1}, err
	})
}

func (s *server) settings(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "settings", "Settings", 0, func(ctx context.Context) (any, error) {
		view := map[string]any{"Me": v.user, "Limits": s.Control.Limits(), "Address": s.Control.Address(), "Pin": s.Control.Pin(), "Said": r.URL.Query().Get("said")}
		if v.user.Role != fleet.RoleAdmin {
			return view, nil
		}
		users, err := s.Book.List()
		if err != nil {
			return nil, err
		}
		members, err := s.call(ctx, v, "members", nil)
		if err != nil {
			return nil, err
		}
		var people []fleet.Member
		for _, m := range members.([]fleet.Member) { //nolint:forcetypeassert // what the call returns
			if m.Role != fleet.RoleAgent && m.Revoked == nil {
				people = append(people, m)
			}
		}
		view["Users"], view["MoreUsers"] = users[:min(len(users), peopleShown)], max(0, len(users)-peopleShown)
		view["Members"], view["MoreMembers"] = people[:min(len(people), peopleShown)], max(0, len(people)-peopleShown)
		return view, nil
	})
}

// confirmed asks for the password once more: who finds a screen that is not locked does not get the account. op is what is to be changed.
func (s *server) confirmed(r *http.Request, v *visit, op, password string, now time.Time) error {
	address := addressOf(r)
	if s.limiter.Wait(v.user.Name, address, now) > 0 {
		return &drill.Error{Op: op, Kind: drill.Refused, Err: errors.New("too many tries have failed"), Hint: "wait a minute"}
	}
	if !s.Book.Knows(v.user.Name, password) {
		s.limiter.Failed(v.user.Name, address, now)
		s.Control.Record("refused to change the %s of %s from %s: the password is wrong", op, v.user.Name, address)
		return &drill.Error{Op: op, Kind: drill.Refused, Err: errors.New("the password is wrong")}
	}
	return nil
}

// changePassword needs the old one.
func (s *server) changePassword(r *http.Request, v *visit) (string, error) {
	now := time.Now()
	if err := s.confirmed(r, v, "password", r.PostFormValue("old"), now); err != nil {
		return "", err
	}
	if r.PostFormValue("new") != r.PostFormValue("again") {
		return "", &drill.Error{Op: "password", Kind: drill.Invalid, Err: errors.New("the two new passwords differ")}
	}
	if err := s.Book.SetPassword(v.user.Name, r.PostFormValue("new"), now); err != nil {
		return "", err
	}
	s.Control.Record("%s has a new password; all sessions of %s end", v.user.Name, v.user.Name)
	return "/login", nil
}

// pending is the secret of a second factor that is being set up in a session; it is made at the first look.
func (s *server) pending(v *visit) (secret, address string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	address, ok := s.secrets[v.session.CSRF]
	if !ok {
		if len(s.secrets) >= secretsMax {
			clear(s.secrets)
		}
		if _, address, err = account.NewSecret(v.user.Name); err != nil {
			return "", "", err
		}
		s.secrets[v.session.CSRF] = address
	}
	key, err := otp.NewKeyFromURL(address)
	if err != nil {
		return "", "", err
	}
	return key.Secret(), address, nil
}

func (s *server) factorPage(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "factor", "Second factor", 0, func(context.Context) (any, error) {
		secret, address, err := s.pending(v)
		return map[string]any{"Secret": secret, "Address": address, "On": v.user.Secret != ""}, err
	})
}

// factorPicture is the secret as a picture that an authenticator reads.
func (s *server) factorPicture(w http.ResponseWriter, r *http.Request, v *visit) {
	_, address, err := s.pending(v)
	if err != nil {
		s.fail(w, r, v, http.StatusInternalServerError, err.Error(), "")
		return
	}
	var text bytes.Buffer
	key, err := otp.NewKeyFromURL(address)
	if err == nil {
		picture, imageErr := key.Image(pictureSize, pictureSize)
		if err = imageErr; err == nil {
			err = png.Encode(&text, picture)
		}
	}
	if err != nil {
		s.fail(w, r, v, http.StatusInternalServerError, err.Error(), "")
		return
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(text.Bytes())
}

// changeFactor turns the second factor on with a code of it, or off with the password.
func (s *server) changeFactor(r *http.Request, v *visit) (string, error) {
	now := time.Now()
	if err := s.confirmed(r, v, "second factor", r.PostFormValue("password"), now); err != nil {
		return "", err
	}
	secret, word := "", "off"
	if r.PostFormValue("do") == "on" {
		var err error
		if secret, _, err = s.pending(v); err != nil {
			return "", err
		}
		word = "on"
	}
	if err := s.Book.SetSecret(v.user.Name, secret, r.PostFormValue("code"), now); err != nil {
		return "", err
	}
	s.Control.Record("%s turns the second factor %s", v.user.Name, word)
	return "/login", nil
}
