package tsig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
)

const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="

func TestKeyFilesOfBINDAndOneLinersAreRead(t *testing.T) {
	for name, text := range map[string]string{
		"tsig-keygen": "key \"Firedrill\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + secret + "\";\n};\n",
		"unquoted":    "# made by hand\nkey firedrill. { secret " + secret + "; algorithm HMAC-SHA256; }; // end",
		"one line":    "hmac-sha256:firedrill:" + secret + "\n",
	} {
		keys, err := Parse([]byte(text), "keys")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		key, err := keys.Find("FIREDRILL")
		if want := (Key{Name: "firedrill.", Algorithm: dns.HmacSHA256, Secret: secret}); err != nil || key != want {
			t.Errorf("%s: %+v, %v", name, key, err)
		}
	}
}

func TestMistakesInKeyFilesAreNamedAndNoSecretIs(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "no key",
		"hmac-md5:firedrill:" + secret:      "algorithm",
		"hmac-sha256:firedrill:!!" + secret: "base64",
		"hmac-sha256:firedrill:QUJD":        "base64",
		"nonsense " + secret:                "neither",
		"key a { algorithm hmac-sha256; };": "base64",
		"hmac-sha256:a:" + secret + "\nhmac-sha256:A.:" + secret: "twice",
	} {
		_, err := Parse([]byte(text), "keys")
		if drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
	if _, err := (Keys{}).Find("absent"); err == nil {
		t.Error("a key that is not there was found")
	}
}

func TestKeyFileForEverybodyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("hmac-sha256:a:"+secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("a key that everybody can read was taken")
	}
}

func TestSignedMessageIsVerified(t *testing.T) {
	key := Key{Name: "a.", Algorithm: dns.HmacSHA256, Secret: secret}
	query := new(dns.Msg).SetQuestion("example.test.", dns.TypeSOA)
	key.Sign(query, time.Now())
	packet, _, err := dns.TsigGenerate(query, key.Secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := dns.TsigVerify(packet, key.Secret, "", false); err != nil {
		t.Error(err)
	}
	plain := new(dns.Msg).SetQuestion("example.test.", dns.TypeSOA)
	Key{}.Sign(plain, time.Now())
	if plain.IsTsig() != nil || (Key{}).Secrets() != nil {
		t.Error("no key signed something")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("key \"a\" { algorithm hmac-sha256; secret \"" + secret + "\"; };")
	f.Add("hmac-sha256:a:" + secret)
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := Parse([]byte(text), "keys")
		if err == nil && len(keys) == 0 {
			t.Error("neither keys nor a mistake")
		}
		for name, key := range keys {
			if name != key.Name || !strings.HasSuffix(name, ".") {
				t.Errorf("key %q under %q", key.Name, name)
			}
		}
	})
}
