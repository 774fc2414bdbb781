package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	// ScopeEvents is the scope of a token that may hear what changes.
	ScopeEvents = "events"
	// ScopeMetrics is the scope of a token that may read how the fleet stands, as Prometheus does.
	ScopeMetrics = "metrics"

	// scopeSchedule is the scope of a token that may put drills on the schedule, where they are leashed until a person lets them go.
	scopeSchedule = "schedule"

	apiTokenPrefix   = "fda."
	apiTokenMember   = "token " // before the name of one, where it stands for a person; no person's name has a space
	apiTokenValid    = 90 * 24 * time.Hour
	apiTokenValidMax = 366 * 24 * time.Hour
	runsStanding     = 50
	changesMax       = 256 // that a reader may be behind
)

// scopes are what a token may ever have: what a program needs to attack and to halt, never who is let in, and never the
// release of the lever, which a named person answers for.
var scopes = []string{"attack", "audit", "auditproof", "cadences", "drill", "drillfile", "drillfiles", "drilllog", "drillrun", "drills", ScopeEvents, "freeze", "freezes", "halt", "hosts", "journal", "leash", "lever", ScopeMetrics, "putservice", "run", "runs", "runscheduled", scopeSchedule, "scheduled",
	"service", "services", "stop", "stopdrill", "unschedule"}

// Scopes are what a token may have.
func Scopes() []string { return slices.Clone(scopes) }

// Holder is a program that came with a token.
type Holder struct {
	Member fleet.Member
	scopes []string
}

// May reports whether the token has a scope, and may have it still: what no token can have is refused to old ones too.
func (h Holder) May(scope string) bool {
	return slices.Contains(h.scopes, scope) && slices.Contains(scopes, scope)
}

// TokenHolder finds out whose a token is. The server keeps hashes alone.
func (c *Control) TokenHolder(text string) (Holder, bool) {
	secret, ok := strings.CutPrefix(text, apiTokenPrefix)
	if !ok || len(secret) > 128 {
		return Holder{}, false
	}
	kept, ok := c.apiTokens.get(fleet.TokenID(secret))
	if !ok || kept.Revoked || !time.Now().Before(kept.Expires) {
		return Holder{}, false
	}
	return Holder{Member: fleet.Member{Name: apiTokenMember + kept.Name, Role: fleet.RoleOperator}, scopes: kept.Scopes}, true
}

// isToken reports whether it is a program that asks, with a token.
func isToken(m fleet.Member) bool { return m.Key == "" && strings.HasPrefix(m.Name, apiTokenMember) }

// tokenStanding is what a token may do now that has put a drill on the schedule: nothing, once it was put out or has expired.
func (c *Control) tokenStanding(m fleet.Member) (fleet.Member, bool) {
	now := fleet.Member{Name: m.Name, Role: fleet.RoleOperator}
	for _, kept := range c.apiTokens.values() {
		if apiTokenMember+kept.Name == m.Name && !kept.Revoked && time.Now().Before(kept.Expires) && slices.Contains(kept.Scopes, scopeSchedule) {
			return now, true
		}
	}
	return now, false
}

// apiToken makes a token for a program.
func (c *Control) apiToken(ctx context.Context, by fleet.Member, r fleet.APITokenRequest) (string, error) {
	wrong := func(err error, hint string) (string, error) {
		return "", &drill.Error{Op: "api-token", Kind: drill.Invalid, Err: err, Hint: hint}
	}
	if err := fleet.CheckName("a token", r.Name); err != nil {
		return wrong(err, "")
	}
	valid := cmp.Or(r.Valid.Duration(), apiTokenValid)
	if valid < time.Second || valid > apiTokenValidMax {
		return wrong(fmt.Errorf("valid for %s", valid), "at most a year")
	}
	if len(r.Scopes) == 0 {
		return wrong(fmt.Errorf("it may do nothing"), "name with --may one or more of: "+strings.Join(scopes, ", "))
	}
	for _, scope := range r.Scopes {
		if !slices.Contains(scopes, scope) {
			return wrong(fmt.Errorf("there is no scope %q; %s", scope, drill.Suggest(scope, scopes)), "")
		}
	}
	for _, other := range c.apiTokens.values() {
		if other.Name == r.Name && !other.Revoked && time.Now().Before(other.Expires) {
			return wrong(fmt.Errorf("there is a token %q already", r.Name), "put it out first: firedrill fleet revoke "+r.Name)
		}
	}
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	secret := base64.RawURLEncoding.EncodeToString(random)
	kept := apiToken{ID: fleet.TokenID(secret), Name: r.Name, Scopes: r.Scopes, Expires: time.Now().Add(valid), By: by.Name}
	if err := c.apiTokens.put(ctx, kept.ID, kept); err != nil {
		return "", err
	}
	c.record("%s makes API token %s, which may %s until %s", by.Name, r.Name, strings.Join(r.Scopes, ", "), kept.Expires.Format(time.RFC3339))
	return apiTokenPrefix + secret, nil
}

// apiToken is what is kept of one.
type apiToken struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scopes  []string  `json:"scopes"`
	Expires time.Time `json:"expires"`
	By      string    `json:"by"`
	Revoked bool      `json:"revoked,omitempty"`
}

// revokeToken puts a token out, if there is one of that name.
func (c *Control) revokeToken(ctx context.Context, by fleet.Member, name string) (found bool, err error) {
	for _, kept := range c.apiTokens.values() {
		if kept.Name == name && !kept.Revoked {
			kept.Revoked = true
			found = true
			if err := c.apiTokens.put(ctx, kept.ID, kept); err != nil {
				return true, err
			}
			c.record("%s puts out API token %s", by.Name, name)
		}
	}
	return found, nil
}

// Change is something that changed, as it is now.
type Change struct {
	Name  string // what changed; openapi.json lists all, with what comes with each
	Value any
}

// Watch returns what changes from now on. A reader that is too far behind finds the channel closed.
func (c *Control) Watch() (changes <-chan Change, stop func()) {
	watcher := make(chan Change, changesMax)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[watcher] = true
	return watcher, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.watchers[watcher] {
			delete(c.watchers, watcher)
			close(watcher)
		}
	}
}

func (c *Control) changed(name string, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for watcher := range c.watchers {
		select {
		case watcher <- Change{Name: name, Value: value}:
		default:
			delete(c.watchers, watcher)
			close(watcher)
		}
	}
}

// Standing is how things stand: what a reader of changes begins with.
func (c *Control) Standing() (fleet.Lever, []fleet.Run) {
	return c.lever(), c.runs.newest("", runsStanding, nil)
}
