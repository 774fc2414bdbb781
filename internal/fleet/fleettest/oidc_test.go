package fleettest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	dash "firedrill/internal/web"
	"firedrill/internal/web/account"
)

// idp is a small identity provider: discovery, keys, and codes that are good once and for who holds the verifier.
type idp struct {
	t      *testing.T
	server *httptest.Server
	key    *ecdsa.PrivateKey

	mu      sync.Mutex // guards the fields below
	subject string     // of who logs in next
	spoil   func(claims map[string]any, key *ecdsa.PrivateKey) *ecdsa.PrivateKey
	codes   map[string]url.Values
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{t: t, key: key, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, value any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(value)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		say(w, map[string]any{"issuer": p.server.URL, "authorization_endpoint": p.server.URL + "/auth", "token_endpoint": p.server.URL + "/token", "jwks_uri": p.server.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, 32))) }
		say(w, map[string]any{"keys": []any{map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": number(key.X), "y": number(key.Y)}}}) //nolint:staticcheck // the form of the key is what is shown
	})
	mux.HandleFunc("GET /auth", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		code := rand.Text()
		p.codes[code] = r.URL.Query()
		http.Redirect(w, r, r.URL.Query().Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {r.URL.Query().Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		asked, known := p.codes[r.PostFormValue("code")]
		delete(p.codes, r.PostFormValue("code"))
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !known || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		claims := map[string]any{"iss": p.server.URL, "aud": asked.Get("client_id"), "sub": p.subject, "nonce": asked.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
		signer := p.key
		if p.spoil != nil {
			signer = p.spoil(claims, signer)
		}
		say(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": jwt(p.t, claims, signer)})
	})
	p.server = httptest.NewTLSServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

func jwt(t *testing.T, claims map[string]any, key *ecdsa.PrivateKey) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	body := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"1"}`)) + "." + base64.RawURLEncoding.EncodeToString(text)
	sum := sha256.Sum256([]byte(body))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return body + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// through goes to the provider and back, as a browser does.
func (p *idp) through(s *surfer) answer {
	p.t.Helper()
	begun := s.get("/oidc/start?to=/fleet")
	if begun.status != http.StatusSeeOther {
		p.t.Fatalf("%d %s", begun.status, begun.text)
	}
	return s.get(p.back(begun.to))
}

// back is the way back that the provider gives for an address of its own.
func (p *idp) back(address string) string {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	client := p.server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = response.Body.Close()
	_, path, _ := strings.Cut(response.Header.Get("Location"), "dashboard.example.test")
	return path
}

func TestAnIdentityProviderSaysWhoSomebodyIs(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	provider := &dash.Provider{Name: "the works", Issuer: p.server.URL, Client: "firedrill", Secret: "s", Address: "https://dashboard.example.test", HTTP: p.server.Client()}
	if err := provider.Check(); err != nil {
		t.Fatal(err)
	}
	d := newDashboard(t, func(o *dash.Options, _ *control.Options) { o.Provider = provider })
	if err := d.book.Put(account.User{Name: "ola", Role: fleet.RoleOperator, Subject: "subject-1"}, "", time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if text := d.surfer().get("/login").text; !strings.Contains(text, "Log in with the works") {
		t.Error(text)
	}
	p.subject = "subject-1"
	s := d.surfer()
	if a := p.through(s); a.status != http.StatusOK || !strings.Contains(a.text, `content="0;url=/fleet"`) {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if a := s.get("/settings"); !strings.Contains(a.text, "<dd>ola</dd>") {
		t.Error(a.text)
	}
	d.audited("ola logs in", "the works")
	if a := d.surfer().login("ola", ""); a.status != http.StatusUnauthorized {
		t.Errorf("without a password here a password logs in: %d", a.status)
	}

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) func(map[string]any, *ecdsa.PrivateKey) *ecdsa.PrivateKey {
		return func(claims map[string]any, key *ecdsa.PrivateKey) *ecdsa.PrivateKey { claims[name] = value; return key }
	}
	for what, spoil := range map[string]func(map[string]any, *ecdsa.PrivateKey) *ecdsa.PrivateKey{
		"another audience": set("aud", "another"), "another issuer": set("iss", "https://evil.example.com"), "an old token": set("exp", time.Now().Add(-time.Hour).Unix()),
		"another log-in's nonce": set("nonce", "x"), "a stranger's subject": set("sub", "subject-2"), "a forged signature": func(map[string]any, *ecdsa.PrivateKey) *ecdsa.PrivateKey { return other },
	} {
		p.spoil = spoil
		if a := p.through(d.surfer()); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", what, a.status)
		}
	}
	d.audited("refused a log-in by the works", "nobody here has the subject subject-2")
	p.spoil = nil

	// Somebody else's way back, and one that is gone twice.
	stranger := d.surfer()
	if a := stranger.get(p.back(d.surfer().get("/oidc/start").to)); a.status != http.StatusUnauthorized {
		t.Errorf("a way back that another browser began: %d", a.status)
	}
	twice := d.surfer()
	way := p.back(twice.get("/oidc/start").to)
	if a := twice.get(way); a.status != http.StatusOK {
		t.Errorf("the way back: %d", a.status)
	}
	if a := twice.get(way); a.status != http.StatusUnauthorized {
		t.Errorf("the same way back again: %d", a.status)
	}
	provider.Insecure = true // the planted bug that two of the checks above catch
	if a := d.surfer().get(p.back(d.surfer().get("/oidc/start").to)); a.status != http.StatusOK {
		t.Errorf("a provider whose state is not looked at would not be noticed: %d", a.status)
	}
}
