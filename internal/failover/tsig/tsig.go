package tsig

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
)

const (
	fudge     = 300     // seconds by which clocks may differ, RFC 8945
	fileMax   = 1 << 20 // bytes of a key file
	secretMin = 8       // bytes; a shorter secret is a slip of the hand
	worldBits = 0o007   // what others may do with a key file: nothing
)

// algorithms are those that are still safe, by the name in key files. MD5 is not among them.
var algorithms = map[string]string{
	"hmac-sha1": dns.HmacSHA1, "hmac-sha224": dns.HmacSHA224, "hmac-sha256": dns.HmacSHA256, "hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512,
}

// clause is a key in the way of BIND; strings may stand in quotes or without.
var clause = regexp.MustCompile(`(?s)key\s+"?([^"\s{]+)"?\s*\{(.*?)\}\s*;`)

var (
	algorithmField = regexp.MustCompile(`algorithm\s+"?([^"\s;]+)"?\s*;`)
	secretField    = regexp.MustCompile(`secret\s+"?([^"\s;]+)"?\s*;`)
	comment        = regexp.MustCompile(`(?m)(^|\s)(//|#).*$`)
)

// Key is one shared secret. The zero Key signs nothing.
type Key struct {
	Name      string // absolute and in lower case
	Algorithm string // as the wire has it: "hmac-sha256."
	Secret    string // base64
}

// Keys are the keys of a file, by name.
type Keys map[string]Key

// Read reads a key file. A file that everybody may read or write is refused: whoever has the secret can move the answer.
func Read(path string) (Keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &drill.Error{Op: "read keys", Kind: drill.Invalid, Err: err, Hint: "Make one: tsig-keygen -a hmac-sha256 firedrill > FILE"}
	}
	if info.Mode().Perm()&worldBits != 0 {
		return nil, &drill.Error{Op: "read keys", Kind: drill.Invalid, Err: fmt.Errorf("%s: everybody may read or change it", path), Hint: "chmod 600 " + path}
	}
	if info.Size() > fileMax {
		return nil, &drill.Error{Op: "read keys", Kind: drill.Invalid, Err: fmt.Errorf("%s: larger than %d MiB", path, fileMax>>20)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &drill.Error{Op: "read keys", Kind: drill.Invalid, Err: err}
	}
	return Parse(text, path)
}

// Parse reads the text of a key file; file is its name in errors, which never hold a secret. The error is a *drill.Error of kind Invalid.
func Parse(text []byte, file string) (Keys, error) {
	plain := comment.ReplaceAllString(string(text), "")
	keys := Keys{}
	var problems []error
	add := func(name, algorithm, secret string) {
		key, err := newKey(name, algorithm, secret)
		if err == nil && keys[key.Name].Name != "" {
			err = fmt.Errorf("key %s stands here twice", key.Name)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", file, err))
			return
		}
		keys[key.Name] = key
	}
	for _, found := range clause.FindAllStringSubmatch(plain, -1) {
		add(found[1], field(algorithmField, found[2]), field(secretField, found[2]))
	}
	for line := range strings.Lines(clause.ReplaceAllString(plain, "")) {
		line = strings.TrimSpace(line)
		parts := strings.Split(line, ":")
		switch {
		case line == "":
		case len(parts) != 3:
			problems = append(problems, fmt.Errorf("%s: a line that is neither a key clause nor ALGORITHM:NAME:SECRET", file))
		default:
			add(parts[1], parts[0], parts[2])
		}
	}
	if len(keys) == 0 && len(problems) == 0 {
		problems = append(problems, fmt.Errorf("%s: no key", file))
	}
	if len(problems) > 0 {
		return nil, &drill.Error{
			Op: "read keys", Kind: drill.Invalid, Err: errors.Join(problems...), Hint: "Make one: tsig-keygen -a hmac-sha256 firedrill > FILE",
		}
	}
	return keys, nil
}

func field(pattern *regexp.Regexp, body string) string {
	if found := pattern.FindStringSubmatch(body); found != nil {
		return found[1]
	}
	return ""
}

func newKey(name, algorithm, secret string) (Key, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return Key{}, fmt.Errorf("%q is not the name of a key", name)
	}
	wire, known := algorithms[strings.ToLower(strings.TrimSuffix(algorithm, "."))]
	if !known {
		names := make([]string, 0, len(algorithms))
		for one := range algorithms {
			names = append(names, one)
		}
		slices.Sort(names)
		return Key{}, fmt.Errorf("key %s: algorithm %q is not taken; use %s", name, algorithm, strings.Join(names, ", "))
	}
	if raw, err := base64.StdEncoding.DecodeString(secret); err != nil || len(raw) < secretMin {
		return Key{}, fmt.Errorf("key %s: the secret is no base64 of %d bytes or more", name, secretMin)
	}
	return Key{Name: dns.CanonicalName(name), Algorithm: wire, Secret: secret}, nil
}

// Find returns the key with this name, written with or without the final dot. The error says which names there are.
func (k Keys) Find(name string) (Key, error) {
	if key, ok := k[dns.CanonicalName(name)]; ok {
		return key, nil
	}
	names := make([]string, 0, len(k))
	for one := range k {
		names = append(names, one)
	}
	slices.Sort(names)
	return Key{}, &drill.Error{
		Op: "find key " + name, Kind: drill.Invalid, Err: errors.New("it is not in the key file"), Hint: "Keys there: " + strings.Join(names, " ") + ".",
	}
}

// Secrets returns the secrets as the DNS library wants them.
func (k Keys) Secrets() map[string]string {
	secrets := make(map[string]string, len(k))
	for name, key := range k {
		secrets[name] = key.Secret
	}
	return secrets
}

// Secrets is the same for one key; nil for the zero Key.
func (k Key) Secrets() map[string]string {
	if k.Name == "" {
		return nil
	}
	return map[string]string{k.Name: k.Secret}
}

// Sign has a message signed when it is sent. The zero Key leaves it as it is.
func (k Key) Sign(message *dns.Msg, now time.Time) {
	if k.Name != "" {
		message.SetTsig(k.Name, k.Algorithm, fudge, now.Unix())
	}
}
