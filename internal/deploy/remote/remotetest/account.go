package remotetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

// Wish is what a test asks of a host.
type Wish struct {
	NoSFTP  bool   // without the SFTP subsystem
	Runtime string // $XDG_RUNTIME_DIR of commands, where a push goes first; default the user's

	// On OpenSSH only:
	Home   string                    // home directory of commands; default the user's, with all that its login shell does
	Skewed bool                      // its programs read a clock that is off, as Account.Skew says
	Config func(dir string) []string // further lines of sshd_config; dir is Account.Dir
	Sudo   *Sudo                     // log in as a user of its own who has to go through sudo
	Apart  bool                      // commands have a network of their own, so that an attack there hits nobody; root only

	// On our own server only:
	Path   string // PATH of commands; default ours
	Nobody bool   // commands run as nobody, when we may choose
}

// Account is a host that is ready to be dialled, with the keys of both sides.
type Account struct {
	Host    drill.Host
	Options remote.Options
	Dir     string // for files of the test
	HostKey ssh.PublicKey
	User    Key
}

// Make starts an SSH server that ends with the test.
type Make func(t testing.TB, wish Wish) Account

// Key is a private key in memory and in a file.
type Key struct {
	Signer ssh.Signer
	Raw    ed25519.PrivateKey
	File   string
}

// NewKey makes a key pair; the private half is written to the file.
func NewKey(t testing.TB, file string) Key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, pem.EncodeToMemory(block), 0o600)
	write(t, file+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644)
	return Key{Signer: signer, Raw: private, File: file}
}

// newAccount makes an account whose known_hosts names the right key.
func newAccount(t testing.TB, dir string, address string, hostKey ssh.PublicKey, user Key, login string) Account {
	t.Helper()
	known := filepath.Join(dir, "known_hosts")
	write(t, known, []byte(knownhosts.Line([]string{address}, hostKey)+"\n"), 0o600)
	return Account{
		Host: drill.Host{Name: "test-host", Address: netip.MustParseAddr("127.0.0.1"),
			SSH: drill.SSH{Address: address, User: login, Identity: user.File, KnownHosts: known}},
		Options: remote.Options{Home: dir, ConfigFiles: []string{}, AgentSocket: "none"},
		Dir:     dir, HostKey: hostKey, User: user,
	}
}

// Dial connects and closes with the test.
func (a Account) Dial(t testing.TB) *remote.Client {
	t.Helper()
	client, err := remote.Dial(t.Context(), a.Host, a.Options)
	if err != nil {
		t.Fatalf("dial: %v\n%s", err, drill.HintOf(err))
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return client
}

func write(t testing.TB, name string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, text, mode); err != nil {
		t.Fatal(err)
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// Lives reports whether a process of this machine, by its decimal id, is there and is no zombie.
func Lives(pid string) bool {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}
