package remotetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

// keygen runs ssh-keygen, the real thing: what it writes is what users have.
func keygen(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %q: %v\n%s", args, err, out)
	}
}

// authority makes a certificate authority of a type.
func authority(t *testing.T, dir, name, keyType string) (file, public string) {
	t.Helper()
	file = filepath.Join(dir, name)
	keygen(t, "-q", "-t", keyType, "-N", "", "-f", file)
	text, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(text))
}

// byAuthority is an account to which only certificates of a CA lead, made in the directory before the server starts.
func byAuthority(t *testing.T) (a Account, ca string) {
	a = OpenSSH(t, Wish{Config: func(dir string) []string {
		ca, _ = authority(t, dir, "user_ca", "ed25519")
		return []string{"TrustedUserCAKeys " + ca + ".pub", "AuthorizedKeysFile none"}
	}})
	return a, ca
}

func refusedLogin(t *testing.T, a Account, says ...string) {
	t.Helper()
	client, err := remote.Dial(t.Context(), a.Host, a.Options)
	if err == nil {
		t.Error(client.Close())
		t.Fatal("logged in")
	}
	if drill.KindOf(err) != drill.Unreachable {
		t.Errorf("got %s: %v; want unreachable", drill.KindOf(err), err)
	}
	for _, want := range says {
		if !strings.Contains(err.Error()+" "+drill.HintOf(err), want) {
			t.Errorf("%v (%s) does not say %q", err, drill.HintOf(err), want)
		}
	}
}

func TestLoginByCertificateBesideTheKey(t *testing.T) {
	a, ca := byAuthority(t)
	login := a.Host.SSH.User
	refusedLogin(t, a, "accepts no key") // the key alone is nothing to this host
	cert := a.User.File + "-cert.pub"
	sign := func(args ...string) {
		t.Helper()
		keygen(t, append(append([]string{"-q", "-s", ca, "-I", "someone"}, args...), a.User.File+".pub")...)
	}
	sign("-n", login, "-V", "-5m:+1h")
	a.Dial(t)

	// The planted mistakes: each must be refused by the host, and told by us.
	sign("-n", login, "-V", "-2h:-1h")
	refusedLogin(t, a, `certificate "someone"`, "has expired at", "signed again", "clocks")
	sign("-n", "somebody-else", "-V", "-5m:+1h")
	refusedLogin(t, a, "for somebody-else and not for "+login, "-n "+login)
	ca, _ = authority(t, a.Dir, "stranger_ca", "ed25519")
	sign("-n", login, "-V", "-5m:+1h")
	refusedLogin(t, a, "signed by "+fingerprint(t, ca+".pub"))
	write(t, cert, []byte("nonsense\n"), 0o600)
	refusedLogin(t, a, cert)
}

func fingerprint(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(key)
}

func TestLoginByCertificateFileAndByAgent(t *testing.T) {
	a, ca := byAuthority(t)
	keygen(t, "-q", "-s", ca, "-I", "someone", "-n", a.Host.SSH.User, a.User.File+".pub")
	elsewhere := filepath.Join(a.Dir, "elsewhere.pub")
	if err := os.Rename(a.User.File+"-cert.pub", elsewhere); err != nil {
		t.Fatal(err)
	}
	refusedLogin(t, a)
	config := filepath.Join(a.Dir, "config")
	write(t, config, []byte("Host *\n CertificateFile "+elsewhere+"\n"), 0o600)
	followed := a
	followed.Options.ConfigFiles = []string{config}
	followed.Dial(t)
	write(t, config, []byte("Host *\n CertificateFile "+a.User.File+".pub\n"), 0o600)
	if _, err := remote.Dial(t.Context(), followed.Host, followed.Options); drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), "not a certificate") {
		t.Errorf("a CertificateFile that is a key: got %v, want Invalid", err)
	}

	text, err := os.ReadFile(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	held := a
	held.Options.AgentSocket = serveAgent(t, agent.AddedKey{PrivateKey: a.User.Raw, Certificate: public.(*ssh.Certificate)})
	held.Dial(t) // for the key that is named by its file
	held.Host.SSH.Identity = ""
	held.Dial(t) // and for none
	held.Host.SSH.Identity = a.User.File + ".pub"
	held.Options.AgentSocket = serveAgent(t, agent.AddedKey{PrivateKey: a.User.Raw})
	held.Options.ConfigFiles = []string{config}
	write(t, config, []byte("CertificateFile "+elsewhere+"\n"), 0o600)
	held.Dial(t) // the agent has the private half of a public key file, the configuration the certificate
}

// certifiedHost is an account whose host shows a certificate signed with args.
func certifiedHost(t *testing.T) (a Account, sign func(ca string, args ...string)) {
	a = OpenSSH(t, Wish{Config: func(dir string) []string {
		return []string{"HostCertificate " + filepath.Join(dir, "host_key-cert.pub")}
	}})
	return a, func(ca string, args ...string) {
		t.Helper()
		keygen(t, append(append([]string{"-q", "-s", ca, "-h", "-I", "a-host"}, args...), filepath.Join(a.Dir, "host_key.pub"))...)
	}
}

func TestHostCertificateIsCheckedInEveryPart(t *testing.T) {
	for _, keyType := range []string{"ed25519", "ecdsa", "rsa"} { // an authority need not be of the type of what it signs
		t.Run(keyType, func(t *testing.T) {
			a, sign := certifiedHost(t)
			ca, public := authority(t, a.Dir, "host_ca", keyType)
			known := func(lines ...string) {
				t.Helper()
				write(t, a.Host.SSH.KnownHosts, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
			}
			_, port, _ := net.SplitHostPort(a.Host.SSH.Address)
			own := "[127.0.0.1]:" + port
			known("@cert-authority " + own + " " + public)
			sign(ca, "-n", "127.0.0.1", "-V", "-5m:+1h")
			a.Dial(t)
			known("@cert-authority *.0.0.1 " + public) // a pattern stands for every port
			a.Dial(t)
			sign(ca, "-n", "127.0.0.*", "-V", "-5m:+1h") // but a certificate names its hosts in full
			refusedKey(t, a, "for 127.0.0.*, not for 127.0.0.1")

			sign(ca, "-n", "127.0.0.1", "-V", "-2h:-1h")
			refusedKey(t, a, "has expired at", "clocks", "ssh-keygen -s")
			sign(ca, "-n", "127.0.0.1", "-V", "+1h:+2h")
			refusedKey(t, a, "is not valid before")
			sign(ca, "-n", "other.example,more.example", "-V", "-5m:+1h")
			refusedKey(t, a, "for other.example, more.example, not for 127.0.0.1", "HostKeyAlias", "-n 127.0.0.1")
			sign(ca, "-n", "127.0.0.1")
			known("@cert-authority other.example " + public)
			refusedKey(t, a, "not known")
			stranger, strange := authority(t, a.Dir, "stranger_ca", keyType)
			known("@cert-authority * " + strange)
			refusedKey(t, a, "which no @cert-authority line", "@cert-authority "+own)
			known("@cert-authority * "+public, "@revoked * "+public)
			refusedKey(t, a, "REVOKED")
			known("@cert-authority * "+public, "@revoked * "+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(a.HostKey))))
			refusedKey(t, a, "REVOKED")
			known("@cert-authority * " + public)
			sign(stranger, "-n", "127.0.0.1")
			refusedKey(t, a, "which no @cert-authority line")
			// A user's certificate is none for a host, whoever signed it.
			keygen(t, "-q", "-s", ca, "-I", "a-host", "-n", "127.0.0.1", filepath.Join(a.Dir, "host_key.pub"))
			if client, err := remote.Dial(t.Context(), a.Host, a.Options); err == nil {
				t.Error("a user's certificate passes for a host's", client.Close())
			}
			// The key itself is known as well: what the certificate lacks does not matter then, as with ssh(1).
			sign(ca, "-n", "other.example")
			known("@cert-authority * "+public, knownhosts.Line([]string{a.Host.SSH.Address}, a.HostKey))
			a.Dial(t)
			if err := os.Remove(filepath.Join(a.Dir, "host_key-cert.pub")); err != nil {
				t.Fatal(err)
			}
			known("@cert-authority * " + public)
			refusedKey(t, a, "shows a plain key", "by its authority only", "HostCertificate")
		})
	}
}

func TestHostCertificateUnderAnAlias(t *testing.T) {
	a, sign := certifiedHost(t)
	ca, public := authority(t, a.Dir, "host_ca", "ed25519")
	write(t, a.Host.SSH.KnownHosts, []byte("@cert-authority *.example "+public+"\n"), 0o600)
	sign(ca, "-n", "web.example")
	config := filepath.Join(a.Dir, "config")
	write(t, config, []byte("Host 127.0.0.1\n HostKeyAlias web.example\n"), 0o600)
	refusedKey(t, a)
	a.Options.ConfigFiles = []string{config}
	a.Dial(t)
}

func TestAKeyAuthorityIsNoHostKey(t *testing.T) {
	// The planted host has the private key of the authority itself, and shows it as its own: only certificates may come of it.
	a := OpenSSH(t, Wish{})
	line := "@cert-authority * " + string(ssh.MarshalAuthorizedKey(a.HostKey))
	write(t, a.Host.SSH.KnownHosts, []byte(line), 0o600)
	refusedKey(t, a, "by its authority only")
}

func TestRevokedHostKeysAreRefused(t *testing.T) {
	a := OpenSSH(t, Wish{})
	list, config := filepath.Join(a.Dir, "revoked"), filepath.Join(a.Dir, "config")
	write(t, config, []byte("RevokedHostKeys "+list+"\n"), 0o600)
	a.Options.ConfigFiles = []string{config}
	if _, err := remote.Dial(t.Context(), a.Host, a.Options); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "RevokedHostKeys") {
		t.Errorf("a list that is not there: got %v, want Refused", err)
	}
	write(t, list, ssh.MarshalAuthorizedKey(a.HostKey), 0o600)
	refusedKey(t, a, "REVOKED in "+list)
	write(t, list, ssh.MarshalAuthorizedKey(a.User.Signer.PublicKey()), 0o600)
	a.Dial(t)
	keygen(t, "-q", "-k", "-f", list, a.User.File+".pub")
	a.Dial(t)
	keygen(t, "-q", "-k", "-f", list, filepath.Join(a.Dir, "host_key.pub"))
	refusedKey(t, a, "REVOKED in "+list)
}

// TestSSHAgreesOnHostCertificates asks ssh(1) the same questions, so that neither of us is stricter or laxer by accident.
func TestSSHAgreesOnHostCertificates(t *testing.T) {
	a, sign := certifiedHost(t)
	ca, public := authority(t, a.Dir, "host_ca", "ed25519")
	_, port, _ := net.SplitHostPort(a.Host.SSH.Address)
	for _, one := range []struct{ principals, pattern string }{
		{"127.0.0.1", "*"}, {"127.0.0.1", "127.0.0.1"}, {"127.0.0.1", "[127.0.0.1]:" + port}, {"127.0.0.1", "[127.0.0.1]:1"},
		{"127.0.0.*", "*"}, {"*", "*"}, {"127.0.0.2", "*"}, {"", "*"}, {"a,127.0.0.1", "!other,*"}, {"127.?.0.1", "127.*"},
	} {
		args := []string{"-V", "-5m:+1h"}
		if one.principals != "" {
			args = append(args, "-n", one.principals)
		}
		sign(ca, args...)
		write(t, a.Host.SSH.KnownHosts, fmt.Appendf(nil, "@cert-authority %s %s\n", one.pattern, public), 0o600)
		if one.principals == "" { // here we are as strict as OpenSSH from 10.3 on, whichever is installed
			refusedKey(t, a, "names no host", "-n")
			continue
		}
		out, err := exec.Command("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile="+a.Host.SSH.KnownHosts,
			"-o", "GlobalKnownHostsFile=none", "-o", "IdentityAgent=none", "-i", a.User.File, "-p", port, a.Host.SSH.User+"@127.0.0.1", "true").CombinedOutput()
		client, ourErr := remote.Dial(t.Context(), a.Host, a.Options)
		if ourErr == nil {
			_ = client.Close()
		}
		if (err == nil) != (ourErr == nil) {
			t.Errorf("%+v: ssh says %v (%s), we say %v", one, err, strings.TrimSpace(string(out)), ourErr)
		}
	}
}
