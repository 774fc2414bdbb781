package web

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"firedrill/internal/drill"
)

const (
	oidcCookie   = "__Host-firedrill-oidc"
	oidcMax      = 10 * time.Minute // from the button to the way back
	oidcAskMax   = 15 * time.Second // of the provider, for one answer
	oidcWaiting  = 10_000
	callbackPath = "/oidc/callback"
)

// Provider is an identity provider that speaks OpenID Connect. It says who somebody is; what they may do stands in the users' file, found by the
// subject of the token.
type Provider struct {
	Name     string // on the button
	Issuer   string // address, as it stands in tokens
	Client   string
	Secret   string // empty: a public client, with PKCE alone
	Address  string // of this dashboard, as browsers see it
	Insecure bool   // planted bug: nonce and state are not looked at

	HTTP *http.Client // nil: the usual one

	mu       sync.Mutex // guards the fields below
	found    *oidc.Provider
	attempts map[string]attempt // by state
}

// attempt is a log-in that has gone to the provider.
type attempt struct {
	nonce, verifier, to string
	until               time.Time
}

// Check refuses a provider that cannot be.
func (p *Provider) Check() error {
	if p.Issuer == "" {
		return &drill.Error{Op: "OpenID Connect", Kind: drill.Invalid, Err: errors.New("--oidc-client, --oidc-secret-file and --dashboard-url are for a log-in by an identity provider, and none is named"), Hint: "name it with --oidc-issuer, or leave them out: passwords need none"}
	}
	for _, one := range [][2]string{{"--oidc-issuer", p.Issuer}, {"--dashboard-url", p.Address}} {
		parsed, err := url.Parse(one[1])
		if err != nil || parsed.Scheme != "https" || parsed.Host == "" {
			return &drill.Error{Op: "OpenID Connect", Kind: drill.Invalid, Err: fmt.Errorf("%s: %q is not https://HOST", one[0], one[1]), Hint: "see docs/fleet.md, People: the dashboard"}
		}
	}
	if p.Client == "" {
		return &drill.Error{Op: "OpenID Connect", Kind: drill.Invalid, Err: errors.New("the client has no name"), Hint: "register the dashboard at the provider, and give its client ID with --oidc-client"}
	}
	return nil
}

func (p *Provider) context(ctx context.Context) context.Context {
	if p.HTTP != nil {
		return oidc.ClientContext(ctx, p.HTTP)
	}
	return ctx
}

// config asks the provider for its addresses, at the first log-in: a provider that is down must not keep the server from starting.
func (p *Provider) config(ctx context.Context) (oauth2.Config, *oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil {
		// Keys are fetched later with the context of this call, so it must not end.
		found, err := oidc.NewProvider(p.context(context.WithoutCancel(ctx)), p.Issuer)
		if err != nil {
			return oauth2.Config{}, nil, err
		}
		p.found = found
	}
	return oauth2.Config{ClientID: p.Client, ClientSecret: p.Secret, Endpoint: p.found.Endpoint(), RedirectURL: strings.TrimSuffix(p.Address, "/") + callbackPath, Scopes: []string{oidc.ScopeOpenID}}, p.found, nil
}

func (p *Provider) remember(state string, a attempt, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.attempts == nil || len(p.attempts) >= oidcWaiting {
		p.attempts = map[string]attempt{}
	}
	for other, old := range p.attempts {
		if now.After(old.until) {
			delete(p.attempts, other)
		}
	}
	p.attempts[state] = a
}

// take gives an attempt out once.
func (p *Provider) take(state string, now time.Time) (attempt, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.attempts[state]
	delete(p.attempts, state)
	return a, ok && now.Before(a.until)
}

func (s *server) oidcStart(w http.ResponseWriter, r *http.Request) {
	config, _, err := s.Provider.config(r.Context())
	if err != nil {
		s.Log.WarnContext(r.Context(), "the identity provider does not answer", "issuer", s.Provider.Issuer, "error", err)
		s.showLogin(w, r, http.StatusBadGateway, loginView{Problem: s.Provider.Name + " does not answer. The server's log says why."})
		return
	}
	state, a := rand.Text(), attempt{nonce: rand.Text(), verifier: oauth2.GenerateVerifier(), to: inside(r.URL.Query().Get("to")), until: time.Now().Add(oidcMax)}
	s.Provider.remember(state, a, time.Now())
	// The way back comes from another site, with which a strict cookie would not be sent.
	http.SetCookie(w, &http.Cookie{Name: oidcCookie, Value: state, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(oidcMax.Seconds())})
	http.Redirect(w, r, config.AuthCodeURL(state, oidc.Nonce(a.nonce), oauth2.S256ChallengeOption(a.verifier)), http.StatusSeeOther)
}

func (s *server) oidcCallback(w http.ResponseWriter, r *http.Request) {
	refuse := func(why, told string) {
		s.strangers.refused("refused a log-in by %s from %s: %s", s.Provider.Name, addressOf(r), why)
		s.showLogin(w, r, http.StatusUnauthorized, loginView{Problem: told})
	}
	state := r.URL.Query().Get("state")
	cookie, err := r.Cookie(oidcCookie)
	a, known := s.Provider.take(state, time.Now())
	if !s.Provider.Insecure && (err != nil || subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(state)) != 1) || !known {
		refuse("it was not begun in this browser, or long ago", "That log-in was not begun here, or long ago. Please try again.")
		return
	}
	if problem := r.URL.Query().Get("error"); problem != "" {
		refuse("the provider says "+problem, s.Provider.Name+" did not let you in.")
		return
	}
	subject, err := s.subject(r.Context(), r.URL.Query().Get("code"), a)
	if err != nil {
		refuse(err.Error(), s.Provider.Name+" did not say who you are. The audit log says why.")
		return
	}
	user, ok := s.Book.BySubject(subject)
	if !ok {
		refuse("nobody here has the subject "+subject, "You are known to "+s.Provider.Name+", but not here. Ask an admin.")
		return
	}
	s.enter(w, r, user, s.Provider.Name)
	// A redirect would still count as coming from the provider's site, and the new cookie would not be sent with it; a page of our own leads on.
	s.looks.render(w, http.StatusOK, "entered", head{Title: "Logged in"}, map[string]string{"To": a.to})
}

// subject is who somebody is, by the provider's signed word.
func (s *server) subject(ctx context.Context, code string, a attempt) (string, error) {
	ctx, cancel := context.WithTimeout(s.Provider.context(ctx), oidcAskMax)
	defer cancel()
	config, provider, err := s.Provider.config(ctx)
	if err != nil {
		return "", err
	}
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(a.verifier))
	if err != nil {
		return "", err
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return "", errors.New("there is no id_token in the answer")
	}
	id, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: s.Provider.Client}).Verify(ctx, raw)
	if err != nil {
		return "", err
	}
	if !s.Provider.Insecure && subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.nonce)) != 1 {
		return "", errors.New("the token is of another log-in")
	}
	return id.Subject, nil
}
