package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
)

// Identity is what an agent is. Its file is root's alone: who reads it can speak as this host, and can order nothing.
type Identity struct {
	Fleet   string            `json:"fleet"`
	Address string            `json:"address"`
	Pin     string            `json:"pin"`
	Key     string            `json:"key"` // the first one; its name on the wire
	Seed    string            `json:"seed"`
	Next    string            `json:"next_seed,omitempty"` // of the key that is about to replace it: one of both lets in
	Name    string            `json:"name"`
	Zone    string            `json:"zone,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`

	fleet.Trust
}

const identityFile = "agent.json"

// joinMax bounds the way to the control plane and back.
const joinMax = 20 * time.Second

// Join makes a key for this host, hands it to the control plane with a token, and keeps what comes back. A directory that has joined already
// keeps its key, and may join again: under another name, or elsewhere.
func Join(ctx context.Context, directory, address string, token fleet.Token, as Identity) (Identity, error) {
	if err := errors.Join(fleet.CheckName("a host", as.Name), fleet.CheckTags(as.Tags)); err != nil {
		return as, &drill.Error{Op: "agent join", Kind: drill.Invalid, Err: err, Hint: "name it with --name"}
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return as, &drill.Error{Op: "agent join", Kind: drill.Invalid, Err: err, Hint: "run it as root, or name a directory of yours with --state"}
	}
	had, err := LoadIdentity(directory)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return as, err
	}
	as.Address, as.Pin, as.Key, as.Seed, as.Next = address, token.Pin, had.Key, had.Seed, had.Next
	if as.Seed == "" {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return as, err
		}
		seed, err1 := pair.Seed()
		key, err2 := pair.PublicKey()
		if err := errors.Join(err1, err2); err != nil {
			return as, err
		}
		as.Seed, as.Key = string(seed), key
	}
	joined, err := ask(ctx, as, token)
	if drill.KindOf(err) == drill.Refused && as.Next != "" {
		// It was replaced, or was about to be, when this agent ended.
		as.Seed, as.Next = as.Next, ""
		joined, err = ask(ctx, as, token)
	}
	if err != nil {
		return as, err
	}
	as.Fleet, as.Name = joined.Fleet, joined.Name
	as.Trust = fleet.Trust{OrderKey: joined.OrderKey, OrderSerial: joined.Serial}
	// The way that was named comes first: it is known to lead there.
	for _, other := range strings.Split(joined.Servers, ",") {
		if address, err := fleet.Address(other); err == nil && !slices.Contains(strings.Split(as.Address, ","), address) && strings.Contains(joined.Servers, ",") {
			as.Address += "," + address
		}
	}
	return as, durable.Save(filepath.Join(directory, identityFile), as)
}

func ask(ctx context.Context, as Identity, token fleet.Token) (fleet.Joined, error) {
	pair, err := nkeys.FromSeed([]byte(as.Seed))
	if err != nil {
		return fleet.Joined{}, &drill.Error{Op: "agent join", Kind: drill.Invalid, Err: err, Hint: "remove the agent's directory and join again"}
	}
	login, err1 := pair.PublicKey()
	signature, err2 := pair.Sign(fleet.JoinText(token.ID(), as.Key, as.Name))
	if err := errors.Join(err1, err2); err != nil {
		return fleet.Joined{}, err
	}
	if login == as.Key {
		login = ""
	}
	var tried tries
	conn, err := nats.Connect(fleet.URLs(as.Address), nats.SetCustomDialer(&tried), nats.Secure(fleet.PinnedTLS(as.Pin)), nats.TLSHandshakeFirst(), nats.Token(token.Secret), nats.Timeout(joinMax),
		nats.MaxReconnects(0), nats.CustomInboxPrefix(fleet.Inbox("join-"+token.ID())), nats.Name("join "+as.Name))
	if err != nil {
		if why := tried.last(); why != nil && errors.Is(err, nats.ErrNoServers) {
			err = why
		}
		return fleet.Joined{}, unreachable("agent join", as.Address, err)
	}
	defer conn.Close()
	text, err := json.Marshal(fleet.Join{Key: as.Key, Login: login, Name: as.Name, Zone: as.Zone, Tags: as.Tags, Signature: signature})
	if err != nil {
		return fleet.Joined{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinMax)
	defer cancel()
	reply, err := conn.RequestWithContext(ctx, "fd.join."+token.ID(), text)
	if err != nil {
		return fleet.Joined{}, unreachable("agent join", as.Address, err)
	}
	joined, err := fleet.Decode[fleet.Joined](reply.Data)
	if err == nil && joined.Error != "" {
		err = &drill.Error{Op: "agent join", Kind: drill.Refused, Err: errors.New(joined.Error), Hint: joined.Cure}
	}
	return joined, err
}

// tries dials, and remembers why it could not: the engine's client says only that no server is available.
type tries struct {
	mu  sync.Mutex // guards err
	err error
}

// Dial implements nats.CustomDialer.
func (t *tries) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialMax}).Dial(network, address) //nolint:noctx // the library gives none
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	return conn, err
}

func (t *tries) last() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// unreachable explains why a control plane could not be spoken to.
func unreachable(op, address string, err error) error {
	known := &drill.Error{Op: op, Kind: drill.Unreachable, Err: fmt.Errorf("%s: %w", address, err), Hint: "is the server there, and does the way to it let TCP out?"}
	var look *net.DNSError
	switch {
	case errors.As(err, &look):
		known.Hint = "does the name lead to the server?"
	case errors.Is(err, fleet.ErrPin):
		known.Kind, known.Hint = drill.Refused, "somebody else answers there, or the server has a new identity: get a new token from it"
	case errors.Is(err, nats.ErrAuthorization):
		known.Kind, known.Hint = drill.Refused, "the token is used up, has expired, or is not one of this server: firedrill fleet token"
	}
	return known
}

// LoadIdentity reads what a directory joined as.
func LoadIdentity(directory string) (Identity, error) {
	path := filepath.Join(directory, identityFile)
	info, err := os.Stat(path)
	if err != nil {
		return Identity{}, &drill.Error{Op: "agent", Kind: drill.Invalid, Err: err, Hint: "join first: firedrill agent join ADDRESS TOKEN"}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Identity{}, &drill.Error{Op: "agent", Kind: drill.Invalid, Err: fmt.Errorf("%s may be read by others", path), Hint: "chmod 600 " + path}
	}
	var id Identity
	if err := durable.Load(path, &id); err != nil {
		return Identity{}, &drill.Error{Op: "agent", Kind: drill.Invalid, Err: err, Hint: "remove the file and join again"}
	}
	return id, nil
}
