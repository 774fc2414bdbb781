package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"firedrill/internal/drill"
)

// offers remembers which keys were offered and which could not be, for the error when none was accepted.
type offers struct {
	mu      sync.Mutex // guards the fields below
	keys    []string
	skipped []string
	hint    string // the cure of what is most likely wrong; "" when nothing stands out
}

func (o *offers) add(from, user string, key ssh.PublicKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := fmt.Sprintf("%s %s (%s)", key.Type(), ssh.FingerprintSHA256(key), from)
	if cert := certificateOf(key); cert != nil {
		wrong := o.wrongWith(cert, user)
		text = fmt.Sprintf("%s %s (%s, certificate %q signed by %s%s)", key.Type(), ssh.FingerprintSHA256(cert.Key), from, cert.KeyId, ssh.FingerprintSHA256(cert.SignatureKey), wrong)
	}
	o.keys = append(o.keys, text)
}

// wrongWith says what a server may dislike in a certificate. It has the last word: it may map principals to other users.
func (o *offers) wrongWith(cert *ssh.Certificate, user string) string {
	var wrong string
	if when := outOfTime(cert, time.Now()); when != "" {
		wrong += ", which " + when
		o.hint = "Have the certificate signed again, or compare the clocks of both sides (ssh-keygen -L -f CERTIFICATE shows it)."
	}
	if !slices.Contains(cert.ValidPrincipals, user) {
		names := strings.Join(cert.ValidPrincipals, ", ")
		if names == "" {
			names = "nobody by name"
		}
		wrong += fmt.Sprintf(", for %s and not for %s", names, user)
		o.hint = fmt.Sprintf("Log in as one of the certificate's principals (ssh.user), or have one signed for %s (ssh-keygen -s CA -I NAME -n %s KEY.pub).", user, quote(user))
	}
	return wrong
}

func (o *offers) skip(name string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.skipped = append(o.skipped, err.Error())
	if o.hint == "" {
		o.hint = hintOfKey(name, err)
	}
}

func (o *offers) list() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.Join(o.keys, ", ")
	if text == "" {
		text = "none, there is no agent and no usable key file"
	}
	if len(o.skipped) > 0 {
		text += "; not offered: " + strings.Join(o.skipped, ", ")
	}
	return text
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
		Config:            ssh.Config{KeyExchanges: h.algorithms.exchanges, Ciphers: h.algorithms.ciphers, MACs: h.algorithms.macs},
		User:              h.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback:   check,
		HostKeyAlgorithms: algorithms,
		ClientVersion:     "SSH-2.0-firedrill",
	}, finish, nil
}

// signers lists the keys to offer: certificates first, then the keys of the key files (servers hang up after six), then the others of
// the agent.
func (h hop) signers(ctx context.Context) (signers []ssh.Signer, finish func(), err error) {
	held, finish := agentSigners(ctx, h.agent)
	offered := make(map[string]bool)
	offer := func(from string, signer ssh.Signer) {
		if id := string(signer.PublicKey().Marshal()); !offered[id] {
			if signer = h.restricted(signer); signer == nil {
				return
			}
			offered[id] = true
			h.offered.add(from, h.user, signer.PublicKey())
			signers = append(signers, signer)
		}
	}
	type named struct {
		from   string
		signer ssh.Signer
	}
	var plain []named
	for _, name := range h.identities {
		signer, err := h.identity(name, held)
		if errors.Is(err, fs.ErrNotExist) && !h.explicit {
			continue
		}
		if err != nil && h.explicit {
			finish()
			var known *drill.Error
			if errors.As(err, &known) {
				return nil, nil, err
			}
			return nil, nil, &drill.Error{Op: "read key", Host: h.name, Kind: drill.Invalid, Err: err, Hint: hintOfKey(name, err)}
		}
		if err != nil {
			h.offered.skip(name, err)
			continue
		}
		plain = append(plain, named{name, signer})
	}
	for _, name := range h.certificates {
		cert, err := readCertificate(name)
		if err != nil {
			finish()
			return nil, nil, &drill.Error{Op: "read certificate", Host: h.name, Kind: drill.Invalid, Err: err, Hint: "Mend the CertificateFile of the SSH configuration; ssh-keygen -L -f FILE shows a certificate."}
		}
		for _, key := range plain {
			if certified := certify(cert, key.signer); certified != nil {
				offer(name, certified)
			}
		}
		for _, signer := range held {
			if certified := certify(cert, signer); certified != nil {
				offer(name, certified)
			}
		}
	}
	for _, key := range plain {
		if cert, err := readCertificate(certificateBeside(key.from)); err == nil {
			if certified := certify(cert, key.signer); certified != nil {
				offer(certificateBeside(key.from), certified)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			h.offered.skip(key.from, err)
		}
		for _, signer := range held { // an agent may hold the certificate of a key that is named by its file
			if cert := certificateOf(signer.PublicKey()); cert != nil && sameKey(cert.Key, key.signer.PublicKey()) {
				offer("agent", signer)
			}
		}
		offer(key.from, key.signer)
	}
	if !h.only {
		for _, signer := range held {
			offer("agent", signer)
		}
	}
	return signers, finish, nil
}

// restricted keeps a key to the algorithms that PubkeyAcceptedAlgorithms leaves; nil when it leaves none.
func (h hop) restricted(signer ssh.Signer) ssh.Signer {
	allowed := h.algorithms.publicKeys
	if allowed == nil {
		return signer
	}
	var kept []string
	key := signer.PublicKey()
	cert := certificateOf(key)
	isCert := cert != nil
	if isCert {
		key = cert.Key
	}
	for _, algorithm := range typeAlgorithms(key.Type()) {
		name := algorithm
		if isCert {
			name = certificateAlgorithm(algorithm)
		}
		if slices.Contains(allowed, name) || isCert && slices.Contains(allowed, algorithm) {
			kept = append(kept, algorithm)
		}
	}
	able, ok := signer.(ssh.AlgorithmSigner)
	switch {
	case len(kept) == 0:
		h.offered.skip("", fmt.Errorf("%s %s is not among PubkeyAcceptedAlgorithms", signer.PublicKey().Type(), ssh.FingerprintSHA256(key)))
		return nil
	case !ok || isCert || len(kept) == len(typeAlgorithms(key.Type())):
		return signer
	}
	limited, err := ssh.NewSignerWithAlgorithms(able, kept)
	if err != nil {
		return signer
	}
	return limited
}

// certificateAlgorithm is the name of an algorithm with a certificate.
func certificateAlgorithm(algorithm string) string {
	if name, ok := strings.CutSuffix(algorithm, "@openssh.com"); ok {
		return name + "-cert-v01@openssh.com"
	}
	return algorithm + "-cert-v01@openssh.com"
}

var (
	errEncrypted  = errors.New("is encrypted, no agent holds it, and no passphrase is given")
	errPassphrase = errors.New("is encrypted, and the passphrase that is given does not open it")
	errAgentOnly  = errors.New("is a public key, and no agent holds its other half")
)

func hintOfKey(name string, err error) string {
	switch {
	case errors.Is(err, errEncrypted):
		return fmt.Sprintf("Start an agent and add the key: eval $(ssh-agent) && ssh-add %s ; or put the passphrase into a file for you alone and name it in %s_FILE.", quote(name), PassphraseVariable)
	case errors.Is(err, errPassphrase):
		return fmt.Sprintf("Try it: ssh-keygen -y -f %s ; then mend the passphrase that %s or %s_FILE gives.", quote(name), PassphraseVariable, PassphraseVariable)
	case errors.Is(err, errAgentOnly):
		return "Add the private key to the agent (ssh-add), or name the private key file."
	default:
		return "State another ssh.identity, or none to use the agent and the usual files."
	}
}

// identity reads one private key file. An encrypted key is taken from the agent, or opened with the passphrase; of a public key the agent
// must hold the other half.
func (h hop) identity(name string, held []ssh.Signer) (ssh.Signer, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		if signer := among(held, public); signer != nil {
			return signer, nil
		}
		return nil, fmt.Errorf("%s: %w", name, errAgentOnly)
	}
	signer, err := ssh.ParsePrivateKey(text)
	var missing *ssh.PassphraseMissingError
	if !errors.As(err, &missing) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return signer, nil
	}
	public := missing.PublicKey
	if public == nil { // the older PEM format does not tell its public key
		if text, err := os.ReadFile(name + ".pub"); err == nil {
			public, _, _, _, _ = ssh.ParseAuthorizedKey(text)
		}
	}
	if public != nil {
		if signer := among(held, public); signer != nil {
			return signer, nil
		}
	}
	passphrase, ok, err := h.passphrase.value()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, errEncrypted)
	}
	if signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, errPassphrase) // the error of the library is no wiser
	}
	return signer, nil
}

// among finds the signer of a plain public key.
func among(held []ssh.Signer, public ssh.PublicKey) ssh.Signer {
	for _, signer := range held {
		if sameKey(signer.PublicKey(), public) {
			return signer
		}
	}
	return nil
}

func sameKey(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }

// certificateOf returns the certificate that a public key is; nil for a plain key. What an agent holds comes in a type of its own.
func certificateOf(key ssh.PublicKey) *ssh.Certificate {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert
	}
	if !strings.Contains(key.Type(), "-cert-v01@") {
		return nil
	}
	parsed, err := ssh.ParsePublicKey(key.Marshal())
	if err != nil {
		return nil
	}
	cert, _ := parsed.(*ssh.Certificate)
	return cert
}

// certificateBeside is where ssh-keygen puts the certificate of a key.
func certificateBeside(key string) string { return strings.TrimSuffix(key, ".pub") + "-cert.pub" }

func readCertificate(name string) (*ssh.Certificate, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	cert, ok := public.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("%s: is a key, not a certificate", name)
	}
	return cert, nil
}

// certify joins a certificate with the key that it is for; nil when that is another.
func certify(cert *ssh.Certificate, signer ssh.Signer) ssh.Signer {
	if !sameKey(cert.Key, signer.PublicKey()) {
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
