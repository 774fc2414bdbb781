package control

import (
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"firedrill/internal/fleet"
)

// controlUser is how this process itself logs in to the engine inside of it, with a secret that is made anew at each start.
const controlUser = "control"

// joinTime is how long a connection may last that was let in by a token.
const joinTime = 30 * time.Second

// gate lets in who proves a key that is on the list, and holds each to its own subjects. The engine asks it for every connection.
type gate struct {
	secret string
	open   bool // planted bug: an agent may say anything to anyone

	hoarding bool // planted bug: the first key of a member lets in after it was replaced

	mu      sync.RWMutex // guards the fields below
	members *members     // nil until they are read: then nobody is in
	tokens  *tokens
}

func (g *gate) fill(m *members, t *tokens) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members, g.tokens = m, t
}

func (g *gate) lists() (m *members, t *tokens, ready bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.members, g.tokens, g.members != nil
}

// Check implements server.Authentication.
func (g *gate) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	options := c.GetOpts()
	if options.Username == controlUser {
		if subtle.ConstantTimeCompare([]byte(options.Password), []byte(g.secret)) != 1 {
			return false
		}
		c.RegisterUser(&server.User{Username: controlUser})
		return true
	}
	members, tokens, ready := g.lists()
	switch {
	case !ready:
		return false
	case options.Nkey != "":
		member, ok := members.get(options.Nkey)
		if !ok || member.Revoked != nil {
			return false
		}
		// The name on the wire is the first key of a member; what lets in is the key that it has now, and that alone.
		if !signedNonce(member.LoginKey(), options.Sig, c.GetNonce()) && !(g.hoarding && signedNonce(member.Key, options.Sig, c.GetNonce())) {
			return false
		}
		permissions := permissionsOf(member)
		if g.open {
			permissions = nil
		}
		c.RegisterUser(&server.User{Username: member.Key, Permissions: permissions})
		return true
	case options.Token != "":
		id := fleet.TokenID(options.Token)
		if !tokens.valid(id) {
			return false
		}
		c.RegisterUser(&server.User{Username: "join " + id, ConnectionDeadline: time.Now().Add(joinTime), Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{joinSubject(id)}}, Subscribe: &server.SubjectPermission{Allow: []string{fleet.Inbox(joinMember(id)) + ".>"}},
		}})
		return true
	}
	return false
}

func signedNonce(key, signature string, nonce []byte) bool {
	public, err := nkeys.FromPublicKey(key)
	if err != nil || len(nonce) == 0 {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(signature, "="))
	return err == nil && public.Verify(nonce, text) == nil
}

// permissionsOf are the subjects of a member. Neither agents nor people reach JetStream, or each other.
func permissionsOf(m fleet.Member) *server.Permissions {
	inbox := fleet.Inbox(m.Key) + ".>"
	if m.Role == fleet.RoleAgent {
		return &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{fleet.FromAgent(m.Key, "*")}},
			Subscribe: &server.SubjectPermission{Allow: []string{fleet.ToAgent(m.Key, "*"), fleet.ToAgent("all", "*"), inbox}},
		}
	}
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{fleet.APISubject(m.Key, "*")}},
		Subscribe: &server.SubjectPermission{Allow: []string{inbox}},
	}
}

func joinSubject(token string) string { return "fd.join." + token }

func joinMember(token string) string { return "join-" + token }
