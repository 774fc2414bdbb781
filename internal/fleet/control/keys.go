package control

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
)

// renewAgain is how often a host that is to replace its key is told so.
const renewAgain = 10 * time.Second

// keyring is what this server is, as it is now.
type keyring struct {
	path string

	turning sync.Mutex // one change at a time

	mu    sync.RWMutex // guards the fields below
	id    identity
	shown *tls.Certificate
	pin   string
	pins  []string // by which another server of the fleet may be known
}

func openKeyring(path string, id identity) (*keyring, error) {
	k := &keyring{path: path}
	if err := k.hold(id); err != nil {
		return nil, &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "identity.json is damaged: bring it back from a backup"}
	}
	return k, nil
}

// hold takes an identity for what the server is.
func (k *keyring) hold(id identity) error {
	shown, pin, err := id.shown()
	if err != nil {
		return err
	}
	pins := []string{pin}
	if len(id.Chain) > 0 && time.Now().Before(id.PinEnds) {
		before, err := x509.ParseCertificate(id.Chain[0])
		if err != nil {
			return err
		}
		pins = append(pins, fleet.Pin(before))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.id, k.shown, k.pin, k.pins = id, shown, pin, pins
	return nil
}

func (k *keyring) now() identity {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.id
}

func (k *keyring) ownPin() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.pin
}

// certificate is shown on each new connection.
func (k *keyring) certificate() *tls.Certificate {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.shown
}

// serverPins are those by which another server may be known.
func (k *keyring) serverPins() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(k.pins) > 1 && !time.Now().Before(k.id.PinEnds) {
		return k.pins[:1]
	}
	return k.pins
}

// door is how members are met.
func (k *keyring) door() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.certificate(), nil }}
}

// over forgets the order key before once it has ended.
func (k *keyring) over(now time.Time) error {
	k.turning.Lock()
	defer k.turning.Unlock()
	id := k.now()
	if len(id.OrderBefore) == 0 || now.Before(id.OrderEnds) {
		return nil
	}
	id.OrderBefore, id.OrderEnds = nil, time.Time{}
	if err := durable.Save(k.path, id); err != nil {
		return err
	}
	return k.hold(id)
}

// signer is the key that signs an order for a host, by what the host is known to trust. A host that has not heard of the next key takes the one before,
// until that ends.
func (k *keyring) signer(trusts uint64, now time.Time) ed25519.PrivateKey {
	id := k.now()
	if trusts < id.OrderSerial && len(id.OrderBefore) > 0 && now.Before(id.OrderEnds) {
		return ed25519.NewKeyFromSeed(id.OrderBefore)
	}
	return id.orderKey()
}

// unfit says why a host cannot be ordered that trusts a key of a serial.
func (k *keyring) unfit(trusts uint64, now time.Time) string {
	id := k.now()
	switch {
	case trusts > id.OrderSerial:
		return "trusts a newer key of orders than this server has; was it restored from an older copy? then let it join again"
	case trusts < id.OrderSerial && (trusts+1 < id.OrderSerial || len(id.OrderBefore) == 0 || !now.Before(id.OrderEnds)):
		return "has not taken the new key of orders yet"
	}
	return ""
}

// trusted is the serial of the order key that a host trusts, as it said last.
func (c *Control) trusted(host string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hosts[host]; h != nil {
		return h.presence.OrderSerial
	}
	return 0
}

// turned is a change of the identity as it lies where everything is kept: other servers follow by it. It is sealed with the identity before, so
// that who can only read there learns no key.
type turned struct {
	Turn   uint64 `json:"turn"`
	Sealed []byte `json:"sealed"`
}

func turnKey(turn uint64) string { return strconv.FormatUint(turn, 10) }

func (id identity) sealer(turn uint64) (cipher.AEAD, error) {
	secret := slices.Concat(id.OrderSeed, id.Key)
	key, err := hkdf.Key(sha256.New, secret, []byte(id.Fleet), "firedrill turn "+turnKey(turn), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (id identity) seal(next identity) (turned, error) {
	aead, err := id.sealer(next.Turn)
	if err != nil {
		return turned{}, err
	}
	return turned{Turn: next.Turn, Sealed: aead.Seal(nil, nil, encode(next), nil)}, nil
}

func (id identity) unseal(t turned) (identity, error) {
	var next identity
	aead, err := id.sealer(t.Turn)
	if err != nil {
		return next, err
	}
	text, err := aead.Open(nil, nil, t.Sealed, nil)
	if err == nil {
		err = json.Unmarshal(text, &next)
	}
	if err == nil && (next.Fleet != id.Fleet || next.Turn != t.Turn || len(next.OrderSeed) != ed25519.SeedSize) {
		err = errors.New("it is not of this fleet")
	}
	return next, err
}

// catchUpKeys follows all changes that are kept, from where this server is.
func (c *Control) catchUpKeys() error {
	k := c.keys
	k.turning.Lock()
	defer k.turning.Unlock()
	for {
		id := k.now()
		t, ok := c.turns.get(turnKey(id.Turn + 1))
		if !ok {
			return nil
		}
		next, err := id.unseal(t)
		if err != nil {
			return &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: fmt.Errorf("change %d of the keys of the fleet cannot be followed: %w", t.Turn, err),
				Hint: "copy fleet/identity.json from the data directory of a server that has followed, and start again"}
		}
		if err := errors.Join(durable.Save(k.path, next), k.hold(next)); err != nil {
			return err
		}
		c.record("this server has followed change %d of the keys of the fleet", t.Turn)
	}
}

// turnCame follows a change that another server has written.
func (c *Control) turnCame(string, turned) {
	if !c.opened.Load() || c.options.Unfollowing {
		return // what was kept before is followed when all of it is read
	}
	if err := c.catchUpKeys(); err != nil {
		c.log.Error("the keys of the fleet cannot be followed", "error", err) //nolint:sloglint // no request to carry
	}
	c.refreshAdmin()
}

// turn replaces what the server is. It is kept for the other servers before it counts here: one that dies in between finds it at its next start.
func (c *Control) turn(ctx context.Context, with func(identity) (identity, error)) (identity, error) {
	if err := c.catchUpKeys(); err != nil {
		return identity{}, err
	}
	id := c.keys.now()
	next, err := with(id)
	if err != nil {
		return id, err
	}
	next.Turn = id.Turn + 1
	sealed, err := id.seal(next)
	if err != nil {
		return id, err
	}
	if err := c.turns.put(ctx, turnKey(next.Turn), sealed); err != nil {
		return id, err
	}
	if err := c.catchUpKeys(); err != nil {
		return id, err
	}
	c.refreshAdmin()
	c.pulse() // hosts that know older keys say hello
	return c.keys.now(), nil
}

// rotate replaces keys.
func (c *Control) rotate(ctx context.Context, by fleet.Member, r fleet.RotateRequest) (fleet.KeysView, error) {
	overlap := cmp.Or(r.Overlap.Duration(), fleet.OverlapDefault)
	invalid := func(format string, args ...any) error {
		return &drill.Error{Op: "rotate", Kind: drill.Invalid, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case overlap < time.Second || overlap > fleet.OverlapMax:
		return fleet.KeysView{}, invalid("%s; write a second or more, and %s at most", overlap, fleet.OverlapMax)
	case len(r.Hosts) > 0 && r.What != fleet.KeyOfAgents:
		return fleet.KeysView{}, invalid("hosts are named where the keys of hosts are replaced")
	case r.Now && (r.Overlap != 0 || r.What == fleet.KeyOfAgents):
		return fleet.KeysView{}, invalid("now and an overlap are not both to be had, and the key of a host ends at once in any case")
	}
	if r.Now {
		overlap = 0
	}
	var err error
	switch r.What {
	case fleet.KeyOfAgents:
		err = c.renewAgents(ctx, by, r.Hosts)
	case fleet.KeyOfOrders:
		err = c.turnOrders(ctx, by, overlap)
	case fleet.KeyCertificate:
		err = c.turnCertificate(ctx, by, overlap)
	default:
		err = invalid("%q is no key; write %s, %s or %s", r.What, fleet.KeyOfAgents, fleet.KeyOfOrders, fleet.KeyCertificate)
	}
	return c.keysView(), err
}

// canFollow refuses while a host is there that would be shut out.
func (c *Control) canFollow() error {
	var old []string
	for name, host := range c.trusting() {
		if host.online && host.pin == "" {
			old = append(old, name)
		}
	}
	slices.Sort(old)
	if len(old) == 0 {
		return nil
	}
	return &drill.Error{Op: "rotate", Kind: drill.Refused, Err: fmt.Errorf("agents of an older version cannot follow: %s", strings.Join(old, ", ")), Hint: "put a newer firedrill on these hosts first; after that they join again by themselves"}
}

func (c *Control) turnOrders(ctx context.Context, by fleet.Member, overlap time.Duration) error {
	c.ordering.Lock() // not between the choice of hosts and their orders
	defer c.ordering.Unlock()
	if err := c.canFollow(); err != nil {
		return err
	}
	now := time.Now()
	next, err := c.turn(ctx, func(id identity) (identity, error) {
		if len(id.OrderBefore) > 0 && now.Before(id.OrderEnds) && overlap > 0 {
			return id, &drill.Error{Op: "rotate", Kind: drill.Refused, Err: fmt.Errorf("the key before still counts, until %s", id.OrderEnds.Format(time.RFC3339)), Hint: "wait until then; if a key is known to others: --now"}
		}
		if len(id.Handovers) >= fleet.ChainMax {
			id.Handovers = id.Handovers[1:] // a host that has not been there for so long joins again
		}
		seed := make([]byte, ed25519.SeedSize)
		if _, err := rand.Read(seed); err != nil {
			return id, err
		}
		h := fleet.Handover{Fleet: id.Fleet, Serial: id.OrderSerial + 1, Key: ed25519.NewKeyFromSeed(seed)[ed25519.SeedSize:], At: now, Ends: now.Add(overlap)}
		text, err := fleet.SignHandover(h, id.orderKey())
		if err != nil {
			return id, err
		}
		id.Handovers = append(slices.Clone(id.Handovers), text)
		id.OrderBefore, id.OrderEnds, id.OrderSeed, id.OrderSerial, id.OrderSince = id.OrderSeed, h.Ends, seed, h.Serial, now
		if overlap == 0 {
			id.OrderBefore, id.OrderEnds = nil, time.Time{}
		}
		return id, nil
	})
	if err == nil {
		c.record("%s replaces the key of orders by number %d; the one before counts for another %s", by.Name, next.OrderSerial, overlap)
	}
	return err
}

func (c *Control) turnCertificate(ctx context.Context, by fleet.Member, overlap time.Duration) error {
	if err := c.canFollow(); err != nil {
		return err
	}
	_, err := c.turn(ctx, func(id identity) (identity, error) { return nextCertificate(id, overlap) })
	if err == nil {
		c.record("%s replaces the certificate; it is known by %s now", by.Name, c.keys.ownPin())
	}
	return err
}

// nextCertificate is an identity with another certificate, which the one before signs.
func nextCertificate(id identity, overlap time.Duration) (identity, error) {
	before, err := x509.ParseCertificate(id.Certificate)
	if err != nil {
		return id, err
	}
	signer, err := x509.ParsePKCS8PrivateKey(id.Key)
	if err != nil {
		return id, err
	}
	id.Chain = append([][]byte{id.Certificate}, id.Chain[:min(len(id.Chain), fleet.ChainMax-2)]...)
	id.PinEnds = time.Now().Add(overlap)
	id.Certificate, id.Key, err = newCertificate(id.Fleet, before, signer)
	return id, err
}

// renewAgents has hosts replace the key that they log in with; those that are not there do it when they come back.
func (c *Control) renewAgents(ctx context.Context, by fleet.Member, names []string) error {
	asked := c.members.list(func(m fleet.Member) bool {
		return m.Role == fleet.RoleAgent && m.Revoked == nil && (len(names) == 0 || slices.Contains(names, m.Name))
	})
	for _, name := range names {
		if !slices.ContainsFunc(asked, func(m fleet.Member) bool { return m.Name == name }) {
			return &drill.Error{Op: "rotate", Kind: drill.Invalid, Err: fmt.Errorf("no host is called %q", name), Hint: "see: firedrill fleet hosts"}
		}
	}
	now := time.Now()
	for _, host := range asked {
		if _, err := c.members.change(ctx, host.Key, func(m fleet.Member, _ bool) (fleet.Member, error) {
			if m.Renew == nil {
				m.Renew = &now
			}
			return m, nil
		}); err != nil {
			return err
		}
		c.say(fleet.ToAgent(host.Key, fleet.WordRenew), struct{}{})
	}
	c.record("%s has %d hosts replace their keys: %s", by.Name, len(asked), strings.Join(memberNames(asked), ", "))
	return nil
}

func memberNames(all []fleet.Member) []string {
	names := make([]string, 0, len(all))
	for _, m := range all {
		names = append(names, m.Name)
	}
	return names
}

// remindRenewals tells hosts again that are to replace their keys: one that carries an order out does it afterwards.
func (c *Control) remindRenewals(now time.Time) {
	c.mu.Lock()
	due := now.Sub(c.reminded) >= renewAgain && len(c.renewing) > 0
	var keys []string
	if due {
		c.reminded = now
		keys = slices.Collect(maps.Keys(c.renewing))
	}
	c.mu.Unlock()
	for _, key := range keys {
		c.say(fleet.ToAgent(key, fleet.WordRenew), struct{}{})
	}
}

// heardRekey replaces the key of a host by the one that it has made, and written down before it asked.
func (c *Control) heardRekey(message *nats.Msg) {
	member, ok := c.speaker(message)
	if !ok {
		return
	}
	asked, err := fleet.Decode[fleet.Rekey](message.Data)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), storeMax)
		defer cancel()
		_, err = c.rekey(ctx, member, asked)
	}
	reply := fleet.Reply{}
	if err != nil {
		c.record("refused another key to %s: %v", member.Name, err)
		reply.Error = &fleet.Problem{Kind: kindOf(err), Text: err.Error(), Hint: drill.HintOf(err)}
	}
	c.answer(message, member.Key, reply)
}

// rekey gives a member another key. The one before is good for nothing from then on, and what is connected with it is cut off; the member knows both
// until it has logged in with the new one.
func (c *Control) rekey(ctx context.Context, by fleet.Member, asked fleet.Rekey) (fleet.Member, error) {
	refuse := func(format string, args ...any) error {
		return &drill.Error{Op: "rekey", Kind: drill.Refused, Err: fmt.Errorf(format, args...)}
	}
	public, err := nkeys.FromPublicKey(asked.Key)
	if err != nil || !nkeys.IsValidPublicUserKey(asked.Key) || public.Verify(fleet.RekeyText(by.Key, asked.Key), asked.Signature) != nil {
		return by, refuse("the new key is not that of the one who asks")
	}
	if by.Key == "" {
		return by, refuse("who logs in elsewhere has no key here")
	}
	c.members.changing.Lock()
	defer c.members.changing.Unlock()
	if err := c.members.find(func(other fleet.Member) error {
		if other.Key != by.Key && (other.Key == asked.Key || other.Login == asked.Key) {
			return refuse("the new key is of %s %s", other.Role, other.Name)
		}
		return nil
	}); err != nil {
		return by, err
	}
	member, err := c.members.change(ctx, by.Key, func(m fleet.Member, known bool) (fleet.Member, error) {
		switch {
		case !known || m.Revoked != nil:
			return m, refuse("this member was put out")
		case m.LoginKey() == asked.Key:
			m.Renew = nil // said twice
			return m, nil
		}
		m.Login, m.Keyed, m.Renew = asked.Key, time.Now(), nil
		return m, nil
	})
	if err == nil {
		c.record("%s %s has another key: %s", member.Role, member.Name, member.LoginKey())
	}
	return member, err
}

// trust is what a host says that it trusts.
type trust struct {
	online bool
	serial uint64
	pin    string
}

// trusting is what hosts trust, by name.
func (c *Control) trusting() map[string]trust {
	now := time.Now()
	all := map[string]trust{}
	agents := c.members.list(func(m fleet.Member) bool { return m.Role == fleet.RoleAgent && m.Revoked == nil })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, member := range agents {
		var t trust
		if h := c.hosts[member.Key]; h != nil && !h.heard.IsZero() {
			t = trust{online: now.Sub(h.heard) < presenceMax, serial: h.presence.OrderSerial, pin: h.presence.Pin}
		}
		all[member.Name] = t
	}
	return all
}

// keysView is which keys count now, for people.
func (c *Control) keysView() fleet.KeysView {
	id := c.keys.now()
	view := fleet.KeysView{OrderSerial: id.OrderSerial, OrderKey: id.orderPublic(), OrderSince: id.OrderSince, OrderBehind: []string{}, Pin: c.keys.ownPin(), PinBehind: []string{}}
	if time.Now().Before(id.OrderEnds) {
		view.OrderEnds = id.OrderEnds
	}
	if time.Now().Before(id.PinEnds) {
		view.PinEnds = id.PinEnds
	}
	if shown := c.keys.certificate(); shown != nil {
		view.PinSince = shown.Leaf.NotBefore.Add(time.Hour) // as it was made
	}
	for name, host := range c.trusting() {
		if host.serial != id.OrderSerial {
			view.OrderBehind = append(view.OrderBehind, name)
		}
		if host.pin != view.Pin {
			view.PinBehind = append(view.PinBehind, name)
		}
	}
	slices.Sort(view.OrderBehind)
	slices.Sort(view.PinBehind)
	view.AgentsAsked = memberNames(c.members.list(func(m fleet.Member) bool { return m.Renew != nil && m.Revoked == nil }))
	return view
}

// identityPath is where the identity lies.
func (o Options) identityPath() string { return filepath.Join(o.Directory, "identity.json") }
