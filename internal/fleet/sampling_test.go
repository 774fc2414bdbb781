package fleet

import (
	"crypto/ed25519"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

func sampling() Sampling {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	return Sampling{
		ID: "01a2276c-826e-7360-a626-210357f84a73", Drill: "01a2276c-826e-7360-a626-210357f84a74", Service: "shop", Fleet: "fleet", Host: "U" + strings.Repeat("A", 55), By: "ann", Client: "far",
		URL: "http://shop.example.test/", Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(time.Second), Within: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")},
		Issued: now, Expires: now.Add(10 * time.Second), Deadline: now.Add(time.Hour),
	}
}

func TestWhatNoHostDoesAsAClientIsRefusedInAnyOrder(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := SignSampling(sampling(), key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenSampling(text, public); err != nil || got.ID != sampling().ID || got.Within[0] != sampling().Within[0] {
		t.Errorf("%+v, %v", got, err)
	}
	// An order to sample is none to attack, nor the other way round, though both are signed by the same key.
	if _, err := Open(text, public); !errors.Is(err, ErrForged) {
		t.Errorf("taken for an attack: %v", err)
	}
	attack, err := seal(orderContext, sampling(), samplingMax, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSampling(attack, public); !errors.Is(err, ErrForged) {
		t.Errorf("an attack is taken for it: %v", err)
	}
	for name, change := range map[string]func(*Sampling){
		"a file":                  func(s *Sampling) { s.URL = "file:///etc/shadow" },
		"a password":              func(s *Sampling) { s.URL = "http://user:password@shop.example.test/" },
		"no host":                 func(s *Sampling) { s.URL = "http:///" },
		"too often":               func(s *Sampling) { s.Every = drill.Seconds(5 * time.Millisecond) },
		"never":                   func(s *Sampling) { s.Every = 0 },
		"for ever":                func(s *Sampling) { s.Deadline = s.Issued.Add(25 * time.Hour) },
		"valid for long":          func(s *Sampling) { s.Expires = s.Issued.Add(time.Hour) },
		"anywhere":                func(s *Sampling) { s.Within = nil },
		"a network":               func(s *Sampling) { s.Within = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
		"a resolver's name":       func(s *Sampling) { s.Resolver = "resolver.example.test" },
		"a client without a name": func(s *Sampling) { s.Client = "" },
		"a try that hangs":        func(s *Sampling) { s.Timeout = drill.Seconds(time.Hour) },
		"nobody's":                func(s *Sampling) { s.By = "" },
		"for nobody":              func(s *Sampling) { s.Host = "everybody" },
		"over before it came":     func(s *Sampling) { s.Deadline = s.Issued },
	} {
		s := sampling()
		change(&s)
		if _, err := SignSampling(s, key); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%s is signed: %v", name, err)
		}
		// Whoever holds the key may sign anything: the host looks all the same.
		text, err := seal(samplingContext, s, samplingMax, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSampling(text, public); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%s is taken: %v", name, err)
		}
	}
}
