package fleet

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"
)

func newOrderKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicOf(key ed25519.PrivateKey) []byte { return key[ed25519.SeedSize:] }

func handover(t *testing.T, serial uint64, from, to ed25519.PrivateKey, at time.Time, overlap time.Duration) []byte {
	t.Helper()
	text, err := SignHandover(Handover{Fleet: "f", Serial: serial, Key: publicOf(to), At: at, Ends: at.Add(overlap)}, from)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAHostFollowsOrderKeysByTheirHandoversAlone(t *testing.T) {
	first, second, third, thief := newOrderKey(t), newOrderKey(t), newOrderKey(t), newOrderKey(t)
	at := time.Now()
	one, two := handover(t, 1, first, second, at, time.Minute), handover(t, 2, second, third, at, time.Minute)
	start := Trust{OrderKey: publicOf(first)}

	now, moved := start.Follow("f", [][]byte{one, two})
	if !moved || now.OrderSerial != 2 || string(now.OrderKey) != string(publicOf(third)) {
		t.Fatalf("two handovers lead to %+v", now)
	}
	if keys := now.Keys(at); len(keys) != 2 || string(keys[1]) != string(publicOf(second)) {
		t.Errorf("within the overlap %d keys count", len(keys))
	}
	if keys := now.Keys(at.Add(time.Minute)); len(keys) != 1 {
		t.Errorf("after its end the key before still counts")
	}
	over, dropped := now.Over(at.Add(time.Minute))
	if !dropped || len(over.Keys(at)) != 1 {
		t.Error("a key that has ended comes back when the clock is set back")
	}
	for name, handovers := range map[string][][]byte{
		"of another fleet": {func() []byte {
			text, _ := SignHandover(Handover{Fleet: "g", Serial: 1, Key: publicOf(thief), At: at, Ends: at}, first)
			return text
		}()},
		"signed by another":         {handover(t, 1, thief, thief, at, 0)},
		"that skips a number":       {handover(t, 2, first, thief, at, 0)},
		"that lasts for ever":       {handover(t, 1, first, thief, at, OverlapMax+time.Second)},
		"that is no handover":       {[]byte("{}"), nil, []byte("null"), []byte(`{"handover":"","signature":""}`)},
		"whose order is the second": {two},
	} {
		if _, moved := start.Follow("f", handovers); moved {
			t.Errorf("a handover %s is followed", name)
		}
	}
	// Who has the key before can lead nobody away that has followed.
	if _, moved := now.Follow("f", [][]byte{handover(t, 3, second, thief, at, time.Minute), handover(t, 2, second, thief, at, time.Minute), one}); moved {
		t.Error("a key that was left hands over once more")
	}
	// An order is no handover, and the other way round.
	if _, err := Open(one, publicOf(first)); err == nil {
		t.Error("a handover is taken for an order")
	}
}

func FuzzFollow(f *testing.F) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	text, err := SignHandover(Handover{Fleet: "f", Serial: 1, Key: publicOf(key), At: time.Now(), Ends: time.Now()}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		stranger := make([]byte, ed25519.PublicKeySize)
		if now, moved := (Trust{OrderKey: stranger}).Follow("f", [][]byte{text}); moved {
			t.Errorf("it leads to %+v", now)
		}
	})
}

// shown is a certificate with its key, signed by the one before.
func shown(t *testing.T, before *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	parent, signer, chain := template, any(key), [][]byte(nil)
	if before != nil {
		parent, signer, chain = before.Leaf, before.PrivateKey, before.Certificate
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: append([][]byte{raw}, chain...), PrivateKey: key, Leaf: leaf}
}

// meets is what comes of a connection to who shows a certificate.
func meets(t *testing.T, pin string, server *tls.Certificate) (moved string, err error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return server, nil }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := listener.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake() //nolint:forcetypeassert,noctx // of tls.Listen; the other side says what came of it
			_ = conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", listener.Addr().String(), FollowingTLS(func() []string { return []string{pin} }, func(pin string) { moved = pin })) //nolint:noctx // a test
	if err == nil {
		_ = conn.Close()
	}
	_ = listener.Close()
	<-done
	return moved, err
}

func TestWhoKnowsAnOlderCertificateFollowsAndWhoKnowsTheNewOneDoesNotGoBack(t *testing.T) {
	first := shown(t, nil)
	second := shown(t, first)
	third := shown(t, second)
	thief := shown(t, nil)
	forged := &tls.Certificate{Certificate: [][]byte{thief.Certificate[0], first.Certificate[0]}, PrivateKey: thief.PrivateKey, Leaf: thief.Leaf}
	for name, c := range map[string]struct {
		knows, shows *tls.Certificate
		moves, meets bool
	}{
		"the same":                            {first, first, false, true},
		"the next":                            {first, second, true, true},
		"the one after":                       {first, third, true, true},
		"the one before":                      {second, first, false, false},
		"a stranger":                          {first, thief, false, false},
		"a stranger who shows the known, too": {first, forged, false, false},
	} {
		moved, err := meets(t, Pin(c.knows.Leaf), c.shows)
		if (err == nil) != c.meets || err != nil && !errors.Is(err, ErrPin) {
			t.Errorf("%s: %v", name, err)
		}
		want := ""
		if c.moves {
			want = Pin(c.shows.Leaf)
		}
		if moved != want {
			t.Errorf("%s: it goes on to %q, not %q", name, moved, want)
		}
	}
	// What is not signed by a key may not be let pass for it: the planted bug is a chain in which nothing is signed.
	chain := []*x509.Certificate{thief.Leaf, first.Leaf}
	if _, err := FollowPin(Pin(first.Leaf), chain); !errors.Is(err, ErrPin) {
		t.Error("a chain in which nothing is signed is followed")
	}
}
