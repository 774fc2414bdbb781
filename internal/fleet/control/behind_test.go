package control

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// freeAddress is an address with a port that nobody listened on a moment ago, on a loopback network of its own.
func freeAddress(t *testing.T, host string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// opensBehind starts one of three servers, of which another one has replaced the certificate twice meanwhile, and says what becomes of it within a time.
func opensBehind(t *testing.T, most time.Duration, hopeful bool) error {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "fleet")
	first := openWith(t, directory, func(*Options) {}) // makes the identity
	shut(t, first)
	old, err := loadIdentity(directory)
	if err != nil {
		t.Fatal(err)
	}
	other := &Control{options: first.options, keys: &keyring{path: filepath.Join(t.TempDir(), identityFile)}}
	if err := other.keys.hold(old); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		next, err := nextCertificate(other.keys.now(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.keys.hold(next); err != nil {
			t.Fatal(err)
		}
	}
	peer, err := tls.Listen("tcp", "127.0.0.1:0", fleet.MutualTLS(other.keys.certificate, other.keys.serverPins, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	letIn := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := peer.Accept()
			if err != nil {
				return
			}
			if conn.(*tls.Conn).Handshake() == nil { //nolint:forcetypeassert,noctx // of tls.Listen
				letIn <- struct{}{}
			}
			_ = conn.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	cluster := freeAddress(t, "127.0.0.1")
	away := filepath.Join(filepath.Dir(directory), "away")
	text, err := os.ReadFile(filepath.Join(directory, identityFile))
	if err == nil {
		err = errors.Join(os.MkdirAll(away, 0o700), os.WriteFile(filepath.Join(away, identityFile), text, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(ctx, Options{Directory: away, Listen: "127.0.0.1:0", Name: "away", Patience: 100 * time.Millisecond, Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Hopeful: hopeful,
		Cluster: Cluster{Listen: cluster, Peers: []string{cluster, peer.Addr().String(), freeAddress(t, "127.0.0.1")}}})
	if len(letIn) > 0 {
		t.Error("the others let it in")
	}
	return err
}

func TestAServerThatIsLetInNoMoreSaysWhatHelps(t *testing.T) {
	t.Parallel()
	err := opensBehind(t, 2*time.Minute, false)
	if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "let this one in no more") || !strings.Contains(drill.HintOf(err), "scp ") || !strings.Contains(drill.HintOf(err), identityFile) {
		t.Errorf("%v; %s", err, drill.HintOf(err))
	}
}

func TestAServerThatWaitsForeverIsCaught(t *testing.T) {
	t.Parallel()
	if err := opensBehind(t, 8*time.Second, true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the planted bug is not noticed: %v", err)
	}
}

// With an engine that others run a server is let in by that, and follows whatever was replaced meanwhile.
func TestAServerThatWasAwayFollowsAllChangesInAnEngineOfOthers(t *testing.T) {
	t.Parallel()
	both := pair(t, nil)
	leads(t, both[0], 0)
	shut(t, both[1])
	ann := fleet.Member{Name: "ann", Role: fleet.RoleAdmin}
	for range 3 {
		if err := errors.Join(both[0].turnCertificate(t.Context(), ann, 0), both[0].turnOrders(t.Context(), ann, 0)); err != nil {
			t.Fatal(err)
		}
	}
	again := reopened(t, both[1], nil)
	if again.Pin() != both[0].Pin() || again.keys.now().OrderSerial != 3 || again.keys.now().Turn != both[0].keys.now().Turn {
		t.Errorf("change %d of %d", again.keys.now().Turn, both[0].keys.now().Turn)
	}
}
