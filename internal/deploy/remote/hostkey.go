package remote

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"firedrill/internal/drill"
)

// certified are the host key algorithms of certificates, best first. The key that an authority signs may be of another type than its own.
var certified = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

// trusted checks the key of one host against known_hosts.
type trusted struct {
	hop   hop
	db    *knownhosts.HostKeyDB
	name  string // host:port as it is looked up
	keys  []knownhosts.PublicKey
	admit ssh.HostKeyCallback
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
	t := trusted{hop: h, db: db, name: h.aliases[0], admit: db.HostKeyCallback()}
	for _, alias := range h.aliases {
		if keys := db.HostKeys(alias); len(keys) > 0 {
			t.name, t.keys = alias, keys
			break
		}
	}
	return t.check, t.algorithms(), nil
}

// algorithms are what the host is asked for: certificates when an authority is known for it, then the plain keys that are known.
func (t *trusted) algorithms() []string {
	var wanted []string
	if slices.ContainsFunc(t.keys, func(key knownhosts.PublicKey) bool { return key.Cert }) {
		wanted = append(wanted, certified...)
	}
	var plain []string
	for _, key := range t.keys {
		if key.Cert {
			continue
		}
		plain = append(plain, typeAlgorithms(key.Type())...)
	}
	if len(plain) == 0 { // nothing to choose by; whatever it shows will be named in the error
		plain = slices.DeleteFunc(ssh.SupportedAlgorithms().HostKeys, func(algorithm string) bool { return slices.Contains(certified, algorithm) })
	}
	for _, algorithm := range plain {
		if !slices.Contains(wanted, algorithm) {
			wanted = append(wanted, algorithm)
		}
	}
	allowed := t.hop.algorithms.hostKeys
	if allowed == nil {
		return wanted
	}
	kept := slices.DeleteFunc(slices.Clone(allowed), func(algorithm string) bool { return !slices.Contains(wanted, algorithm) })
	if len(kept) == 0 { // the host shows one that is allowed, and the error says that it is not the known one
		return allowed
	}
	return kept
}

// typeAlgorithms are the algorithms that a key of a type can be used with.
func typeAlgorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA}
	}
	return []string{keyType}
}

func (t *trusted) check(_ string, remote net.Addr, key ssh.PublicKey) error {
	if err := revokedByFile(t.hop, key); err != nil {
		return err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return t.plain(remote, key)
	}
	err := t.certificate(remote, cert)
	if err == nil || t.isRevoked(remote, cert.Key) || t.isRevoked(remote, cert.SignatureKey) {
		return err
	}
	// A certificate that says nothing to us does not spoil the key in it, as ssh(1) sees it too.
	if t.holds(cert.Key) && t.plain(remote, cert.Key) == nil {
		return nil
	}
	return err
}

// holds reports that known_hosts names the key itself, not as an authority.
func (t *trusted) holds(key ssh.PublicKey) bool {
	return slices.ContainsFunc(t.keys, func(known knownhosts.PublicKey) bool {
		return !known.Cert && bytes.Equal(known.Marshal(), key.Marshal())
	})
}

func (t *trusted) plain(remote net.Addr, key ssh.PublicKey) error {
	err := t.admit(t.name, remote, key)
	if err == nil && t.holds(key) {
		return nil
	}
	host, port, file := t.place()
	shown := fmt.Sprintf("%s %s", key.Type(), ssh.FingerprintSHA256(key))
	refused := &drill.Error{Op: "connect", Host: t.hop.name, Kind: drill.Refused}
	onlyAuthorities := len(t.keys) > 0 && !slices.ContainsFunc(t.keys, func(key knownhosts.PublicKey) bool { return !key.Cert })
	var revoked *xknownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		refused.Err = fmt.Errorf("the host key of %s (%s) is REVOKED in %s", t.hop.dial, shown, revoked.Revoked.Filename)
		refused.Hint = fmt.Sprintf("Whoever wrote line %d of %s wants this key not to be trusted any more: ask for the host's new key.", revoked.Revoked.Line, revoked.Revoked.Filename)
	case onlyAuthorities:
		refused.Err = fmt.Errorf("%s shows a plain key (%s) and no certificate, and %s knows %s by its authority only", t.hop.dial, shown, file, t.looked())
		refused.Hint = fmt.Sprintf("On the host: sign /etc/ssh/ssh_host_ed25519_key.pub (ssh-keygen -s CA -h -I %s -n %s), name it as HostCertificate in sshd_config, and reload sshd.", quote(host), quote(host))
	case knownhosts.IsHostKeyChanged(err) && !t.fallback():
		refused.Err = fmt.Errorf("the host key of %s has CHANGED: it now shows %s, which is not the key in %s; someone may be in between", t.hop.dial, shown, file)
		refused.Hint = fmt.Sprintf("If the host was reinstalled, compare the fingerprint on its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: ssh-keygen -f %s -R %s && %s",
			quote(file), quote(t.looked()), keyscan(host, port, file))
	default:
		host, port, _ = splitName(t.hop.aliases[0])
		refused.Err = fmt.Errorf("the host key of %s is not known: it shows %s, and %s has no entry for %s", t.hop.dial, shown, file, knownhosts.Normalize(t.hop.aliases[0]))
		refused.Hint = fmt.Sprintf("Add it: %s ; then VERIFY that its fingerprint is the one on the host's console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), as the scan itself proves nothing.",
			keyscan(host, port, file))
		if strings.EqualFold(t.hop.strict, "accept-new") {
			refused.Hint += fmt.Sprintf(" StrictHostKeyChecking accept-new lets ssh itself do so at the first log-in: ssh %s true", t.hop.commandLine())
		}
	}
	return refused
}

// fallback reports that the entry is one without a port, for a host on a port of its own: that it has another key there says little.
func (t *trusted) fallback() bool {
	_, port, _ := splitName(t.hop.dial)
	return port != "22" && len(t.hop.aliases) > 1 && strings.HasSuffix(t.name, ":22")
}

// looked is the name that known_hosts was searched for.
func (t *trusted) looked() string { return knownhosts.Normalize(t.name) }

// place tells the host and port as known_hosts has them, and the file to mend.
func (t *trusted) place() (host, port, file string) {
	host, port, _ = splitName(t.name)
	file = "~/.ssh/known_hosts"
	if len(t.hop.knownHosts) > 0 {
		file = t.hop.knownHosts[0]
	}
	return host, port, file
}

func splitName(name string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(name); err != nil {
		return name, "22", err
	}
	return host, port, nil
}

func keyscan(host, port, file string) string {
	if port == "22" {
		return fmt.Sprintf("ssh-keyscan %s >> %s", quote(host), quote(file))
	}
	return fmt.Sprintf("ssh-keyscan -p %s %s >> %s", port, quote(host), quote(file))
}

func (t *trusted) isRevoked(remote net.Addr, key ssh.PublicKey) bool {
	var revoked *xknownhosts.RevokedError
	return errors.As(t.admit(t.name, remote, key), &revoked)
}

// certificate checks a host certificate: kind, authority, revocation, name, time, signature.
func (t *trusted) certificate(remote net.Addr, cert *ssh.Certificate) error {
	host, _, file := t.place()
	shown := fmt.Sprintf("certificate %q of %s %s", cert.KeyId, cert.Key.Type(), ssh.FingerprintSHA256(cert.Key))
	authority := fmt.Sprintf("%s %s", cert.SignatureKey.Type(), ssh.FingerprintSHA256(cert.SignatureKey))
	refuse := func(hint, format string, args ...any) error {
		return &drill.Error{Op: "connect", Host: t.hop.name, Kind: drill.Refused, Hint: hint,
			Err: fmt.Errorf("%s shows the %s, %w", t.hop.dial, shown, fmt.Errorf(format, args...))}
	}
	again := fmt.Sprintf("Have it signed again (ssh-keygen -s CA -h -I %s -n %s ssh_host_ed25519_key.pub), name it as HostCertificate in sshd_config, and reload sshd.", quote(host), quote(host))
	if cert.CertType != ssh.HostCert {
		return refuse(again, "which is no host certificate")
	}
	known := slices.ContainsFunc(t.keys, func(key knownhosts.PublicKey) bool {
		return key.Cert && bytes.Equal(key.Marshal(), cert.SignatureKey.Marshal())
	})
	if !known {
		return refuse(fmt.Sprintf("If %s is your authority (compare: ssh-keygen -lf CA.pub), add a line to %s: @cert-authority %s and its public key.", authority, file, knownhosts.Normalize(t.hop.aliases[0])),
			"signed by %s, which no @cert-authority line of %s names for %s", authority, file, knownhosts.Normalize(t.hop.aliases[0]))
	}
	if t.isRevoked(remote, cert.Key) || t.isRevoked(remote, cert.SignatureKey) {
		return refuse("Whoever wrote the @revoked line wants it not to be trusted any more: ask for the host's new key and certificate.", "which is REVOKED in %s", file)
	}
	allowed := t.hop.algorithms.authorities
	if allowed == nil {
		allowed = ssh.SupportedAlgorithms().PublicKeyAuths
	}
	if !slices.Contains(allowed, cert.Signature.Format) {
		return refuse(again, "signed with %s, which is not accepted", cert.Signature.Format)
	}
	principal := strings.ToLower(host)
	if len(cert.ValidPrincipals) == 0 { // for every host before OpenSSH 10.3, and for none since, say its release notes
		return refuse(again, "which names no host")
	}
	if !slices.Contains(cert.ValidPrincipals, principal) {
		return refuse(fmt.Sprintf("Connect under one of these names (ssh.address, or HostKeyAlias in the SSH configuration). Or: %s", again),
			"which is for %s, not for %s", strings.Join(cert.ValidPrincipals, ", "), host)
	}
	if when := outOfTime(cert, time.Now()); when != "" {
		return refuse("Compare the clocks of both sides. "+again, "which %s", when)
	}
	checker := ssh.CertChecker{}
	if err := checker.CheckCert(principal, cert); err != nil {
		return refuse(again, "which does not hold: %w", err)
	}
	return nil
}

// outOfTime says how a certificate is not valid at a time; "" when it is.
func outOfTime(cert *ssh.Certificate, now time.Time) string {
	at := func(seconds uint64) string { return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339) }
	second := uint64(max(0, now.Unix()))
	switch {
	case second < cert.ValidAfter:
		return "is not valid before " + at(cert.ValidAfter)
	case cert.ValidBefore != ssh.CertTimeInfinity && second >= cert.ValidBefore:
		return "has expired at " + at(cert.ValidBefore)
	default:
		return ""
	}
}

// revokedByFile asks the file of RevokedHostKeys, which is a list of keys or a key revocation list. One that cannot be read refuses every host.
func revokedByFile(h hop, key ssh.PublicKey) error {
	if h.revoked == "" {
		return nil
	}
	refused := func(kind drill.ErrorKind, hint string, err error) error {
		return &drill.Error{Op: "connect", Host: h.name, Kind: kind, Err: err, Hint: hint}
	}
	content, err := os.ReadFile(h.revoked)
	if err != nil {
		return refused(drill.Refused, "Put the file there that RevokedHostKeys names, or take the setting out.", fmt.Errorf("RevokedHostKeys: %w", err))
	}
	keys := []ssh.PublicKey{key}
	if cert, ok := key.(*ssh.Certificate); ok {
		keys = append(keys, cert.Key, cert.SignatureKey)
	}
	for _, one := range keys {
		revoked, err := revokes(h.revoked, content, one)
		if err != nil {
			return refused(drill.Unsupported, "Install openssh-client here: ssh-keygen reads key revocation lists.", fmt.Errorf("RevokedHostKeys %s: %w", h.revoked, err))
		}
		if revoked {
			return refused(drill.Refused, "Whoever keeps that list wants this key not to be trusted any more: ask for the host's new key.",
				fmt.Errorf("the host key of %s (%s %s) is REVOKED in %s", h.dial, one.Type(), ssh.FingerprintSHA256(one), h.revoked))
		}
	}
	return nil
}

// krlMagic begins a key revocation list.
var krlMagic = []byte("SSHKRL\n\x00")

func revokes(name string, content []byte, key ssh.PublicKey) (bool, error) {
	if bytes.HasPrefix(content, krlMagic) {
		return listRevokes(name, key)
	}
	for len(bytes.TrimSpace(content)) > 0 {
		listed, _, _, rest, err := ssh.ParseAuthorizedKey(content)
		if err != nil {
			return false, err
		}
		if bytes.Equal(listed.Marshal(), key.Marshal()) {
			return true, nil
		}
		content = rest
	}
	return false, nil
}

// listRevokes asks ssh-keygen: x/crypto knows no key revocation lists, and this is not the place for a second reader of them.
func listRevokes(name string, key ssh.PublicKey) (bool, error) {
	file, err := os.CreateTemp("", "firedrill-key-*.pub")
	if err != nil {
		return false, err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(ssh.MarshalAuthorizedKey(key))
	if err = errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	out, err := exec.Command("ssh-keygen", "-Q", "-f", name, file.Name()).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, nil
	case errors.As(err, &exit) && bytes.Contains(out, []byte("REVOKED")):
		return true, nil
	default:
		return false, fmt.Errorf("ssh-keygen -Q: %w: %s", err, bytes.TrimSpace(out))
	}
}
