package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"firedrill/internal/drill"
)

// offers remembers which keys were offered, for the error when none was accepted.
type offers struct {
	mu   sync.Mutex
	keys []string
}

func (o *offers) add(from string, key ssh.PublicKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys = append(o.keys, fmt.Sprintf("%s %s (%s)", key.Type(), ssh.FingerprintSHA256(key), from))
}

func (o *offers) list() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.keys) == 0 {
		return "none, there is no agent and no usable key file"
	}
	return strings.Join(o.keys, ", ")
}

// clientConfig makes the configuration of one connection. finish lets go of the agent once the handshake is over.
func (e *environment) clientConfig(ctx context.Context, h hop) (config *ssh.ClientConfig, finish func(), err error) {
	check, algorithms, err := hostKeyCheck(h)
	if err != nil {
		return nil, nil, err
	}
	signers, finish, err := h.signers(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &ssh.ClientConfig{
		User:              h.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback:   check,
		HostKeyAlgorithms: algorithms,
		ClientVersion:     "SSH-2.0-firedrill",
	}, finish, nil
}

// hostKeyCheck answers with a callback that admits only keys of known_hosts, and with the algorithms to ask for: those of the keys that
// are known, so that a host with several keys shows the one that we can check.
func hostKeyCheck(h hop) (ssh.HostKeyCallback, []string, error) {
	var files []string
	for _, name := range h.knownHosts {
		if _, err := os.Stat(name); err == nil {
			files = append(files, name)
		}
	}
	db, err := knownhosts.NewDB(files...)
	if err != nil {
		return nil, nil, &drill.Error{Op: "read known hosts", Host: h.name, Kind: drill.Invalid, Err: err, Hint: "Mend or remove the line that the error names."}
	}
	name := h.aliases[0]
	for _, alias := range h.aliases {
		if len(db.HostKeys(alias)) > 0 {
			name = alias
			break
		}
	}
	admitted := db.HostKeyCallback()
	return func(_ string, remote net.Addr, key ssh.PublicKey) error {
		err := admitted(name, remote, key)
		if err == nil {
			return nil
		}
		return hostKeyError(h, name, key, err)
	}, db.HostKeyAlgorithms(name), nil
}

func hostKeyError(h hop, name string, key ssh.PublicKey, err error) error {
	host, port, splitErr := net.SplitHostPort(name)
	if splitErr != nil {
		host, port = name, "22"
	}
	file := "~/.ssh/known_hosts"
	if len(h.knownHosts) > 0 {
		file = h.knownHosts[0]
	}
	shown := fmt.Sprintf("%s %s", key.Type(), ssh.FingerprintSHA256(key))
	refused := &drill.Error{Op: "connect", Host: h.name, Kind: drill.Refused}
	switch {
	case knownhosts.IsHostKeyChanged(err):
		refused.Err = fmt.Errorf("the host key of %s has CHANGED: it now shows %s, which is not the key in %s; someone may be in between", h.dial, shown, file)
		refused.Hint = fmt.Sprintf("If the host was reinstalled, compare the fingerprint on its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: ssh-keygen -f %s -R %s && %s",
			quote(file), quote(knownhosts.Normalize(name)), keyscan(host, port, file))
	case knownhosts.IsHostUnknown(err):
		refused.Err = fmt.Errorf("the host key of %s is not known: it shows %s, and %s has no entry for %s", h.dial, shown, file, knownhosts.Normalize(name))
		refused.Hint = fmt.Sprintf("Add it: %s ; then VERIFY that its fingerprint is the one on the host's console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), as the scan itself proves nothing.",
			keyscan(host, port, file))
	default:
		refused.Err = fmt.Errorf("the host key of %s (%s) was refused: %w", h.dial, shown, err)
		refused.Hint = fmt.Sprintf("The entry in %s says that this key must not be trusted (revoked, or not signed by the stated authority): ask who wrote it.", file)
	}
	return refused
}

func keyscan(host, port, file string) string {
	if port == "22" {
		return fmt.Sprintf("ssh-keyscan %s >> %s", quote(host), quote(file))
	}
	return fmt.Sprintf("ssh-keyscan -p %s %s >> %s", port, quote(host), quote(file))
}

// signers lists the keys to offer: those of the key files first (servers hang up after six), then the others of the agent.
func (h hop) signers(ctx context.Context) (signers []ssh.Signer, finish func(), err error) {
	held, finish := agentSigners(ctx, h.agent)
	offered := make(map[string]bool)
	offer := func(from string, signer ssh.Signer) {
		if id := string(signer.PublicKey().Marshal()); !offered[id] {
			offered[id] = true
			h.offered.add(from, signer.PublicKey())
			signers = append(signers, signer)
		}
	}
	for _, name := range h.identities {
		fromFile, err := identity(name, held)
		if errors.Is(err, fs.ErrNotExist) && !h.explicit {
			continue
		}
		if err != nil && h.explicit {
			finish()
			return nil, nil, &drill.Error{Op: "read key", Host: h.name, Kind: drill.Invalid, Err: err, Hint: hintOfKey(name, err)}
		}
		for _, signer := range fromFile {
			offer(name, signer)
		}
	}
	if !h.only {
		for _, signer := range held {
			offer("agent", signer)
		}
	}
	return signers, finish, nil
}

var errEncrypted = errors.New("is encrypted and no agent holds it")

func hintOfKey(name string, err error) string {
	if errors.Is(err, errEncrypted) {
		return fmt.Sprintf("Start an agent and add the key: eval $(ssh-agent) && ssh-add %s", quote(name))
	}
	return "State another ssh.identity, or none to use the agent and the usual files."
}

// identity reads one private key file, with the certificate beside it when there is one. An encrypted key is taken from the agent.
func identity(name string, held []ssh.Signer) ([]ssh.Signer, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		signer, err = fromAgent(name, missing.PublicKey, held)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if certified := certificate(name+"-cert.pub", signer); certified != nil {
		return []ssh.Signer{certified, signer}, nil
	}
	return []ssh.Signer{signer}, nil
}

func fromAgent(name string, public ssh.PublicKey, held []ssh.Signer) (ssh.Signer, error) {
	if public == nil { // the older PEM format does not tell its public key
		text, err := os.ReadFile(name + ".pub")
		if err != nil {
			return nil, errEncrypted
		}
		if public, _, _, _, err = ssh.ParseAuthorizedKey(text); err != nil {
			return nil, errEncrypted
		}
	}
	for _, signer := range held {
		if string(signer.PublicKey().Marshal()) == string(public.Marshal()) {
			return signer, nil
		}
	}
	return nil, errEncrypted
}

func certificate(name string, signer ssh.Signer) ssh.Signer {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	cert, ok := public.(*ssh.Certificate)
	if !ok {
		return nil
	}
	certified, err := ssh.NewCertSigner(cert, signer)
	if err != nil {
		return nil
	}
	return certified
}

// agentSigners asks the agent for its keys. An agent that does not answer is as good as none: the error then names what was offered.
func agentSigners(ctx context.Context, socket string) (held []ssh.Signer, finish func()) {
	if socket == "" {
		return nil, func() {}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, func() {}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	held, err = agent.NewClient(conn).Signers()
	if err != nil {
		held = nil
	}
	return held, func() { stop(); _ = conn.Close() }
}
