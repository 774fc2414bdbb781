package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// That an attack is in force is said at once, and once: until then the host counts as idle for whoever looks.
func TestThatAnAttackIsInForceIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	if err := os.MkdirAll(filepath.Join(directory, "journal"), 0o700); err != nil {
		t.Fatal(err)
	}
	journal, err := openJournal(directory, "01a228ec-69b3-75ae-bc7c-2ed61eb9bdd1")
	if err != nil {
		t.Fatal(err)
	}
	soon, inForce := 0, 0
	text := `{"at":"2026-11-29T20:08:34Z","kind":"attack.in_force","source":"web1","data":{"guid":"g","until":"2026-11-29T20:08:39Z"}}
{"at":"2026-11-29T20:08:35Z","kind":"attack.hits","source":"web1","data":{"guid":"g","egress":0,"ingress":0}}
{"at":"2026-11-29T20:08:39Z","kind":"attack.account","source":"web1","data":{"guid":"g","attack":"blackhole","bit":true,"reverted":true}}
`
	account := (&task{journal: journal}).follow(strings.NewReader(text), func() { soon++ }, func() { inForce++ })
	if account == nil || !account.Reverted || soon != 2 || inForce != 1 {
		t.Errorf("account %+v, told soon %d times, in force %d times", account, soon, inForce)
	}
}

// An agent that is put out tries for ever, and says so with the cure, but not each time.
func TestAHostThatIsNotLetInSaysTheCureOnce(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	a := &Agent{options: Options{Directory: "/var/lib/x"}, log: slog.New(slog.NewTextHandler(&said, nil))}
	for range 3 {
		a.complained(nats.ErrAuthorization)
		a.complained(errors.New("slow consumer"))
	}
	if text := said.String(); strings.Count(text, "does not let this host in") != 1 || !strings.Contains(text, "remove /var/lib/x") || strings.Count(text, "slow consumer") != 3 {
		t.Error(text)
	}
}

// Whoever cannot join is told what is wrong with the way, and not only that there is no server.
func TestWhyAServerCannotBeReachedIsSaid(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	token := fleet.Token{Secret: strings.Repeat("s", 32), Pin: strings.Repeat("A", 43)}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for where, want := range map[string]string{address: "connection refused", "host.invalid:7422": "host.invalid"} {
		_, err := Join(t.Context(), t.TempDir(), where, token, Identity{Name: "web1"})
		if drill.KindOf(err) != drill.Unreachable || strings.Contains(err.Error(), "no servers available") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", where, err)
		}
	}
}
