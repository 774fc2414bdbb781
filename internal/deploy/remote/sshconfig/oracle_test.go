package sshconfig

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// requireSSH skips a test without ssh(1), unless FIREDRILL_REQUIRE contains "openssh".
func requireSSH(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "openssh") {
			t.Fatal("ssh is required: apt-get install openssh-client")
		}
		t.Skip("ssh is not installed")
	}
}

// asked are the settings that both sides are asked for.
var asked = []string{
	"addressfamily", "bindaddress", "certificatefile", "connecttimeout", "hostkeyalias", "hostname", "identitiesonly", "identityfile", "port",
	"proxycommand", "proxyjump", "serveraliveinterval", "user", "userknownhostsfile", "globalknownhostsfile",
}

// oracle asks ssh -G. ok is false when it refuses the file.
func oracle(t testing.TB, file, host string) (settings map[string]string, ok bool) {
	t.Helper()
	command := exec.Command("ssh", "-G", "-F", file, host)
	var refused bytes.Buffer
	command.Stderr = &refused
	out, err := command.Output()
	if err != nil {
		return map[string]string{"refused": refused.String()}, false
	}
	settings = make(map[string]string)
	for line := range strings.Lines(string(out)) {
		keyword, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		keyword = strings.ToLower(keyword)
		if slices.Contains(asked, keyword) {
			settings[keyword] = strings.TrimPrefix(settings[keyword]+"\n"+value, "\n")
		}
	}
	return settings, true
}

// ours evaluates the file and fills in the defaults that ssh -G prints.
func ours(t testing.TB, file, host, home string) (map[string]string, error) {
	t.Helper()
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Resolve(t.Context(), Query{Host: host, Files: []File{{Name: file, User: true}}, Home: home, LocalUser: who.Username})
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"addressfamily": "any", "connecttimeout": "none", "identitiesonly": "no", "serveraliveinterval": "0",
		"userknownhostsfile":   filepath.Join(home, ".ssh/known_hosts") + " " + filepath.Join(home, ".ssh/known_hosts2"),
		"globalknownhostsfile": "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",
	}
	for _, keyword := range asked {
		values := s.All(keyword)
		if values == nil {
			continue
		}
		separator := "\n"
		if keywords[keyword] == list {
			separator = " "
		}
		settings[keyword] = strings.Join(values, separator)
	}
	if files := s.All("userknownhostsfile"); files != nil { // it alone is printed with its ~ expanded
		var paths []string
		for _, name := range files {
			path, err := s.query.home(name)
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
		settings["userknownhostsfile"] = strings.Join(paths, " ")
	}
	for _, keyword := range []string{"proxyjump", "proxycommand"} {
		if strings.EqualFold(settings[keyword], "none") {
			delete(settings, keyword)
		}
	}
	settings["hostname"], settings["user"], settings["port"] = s.Host, s.User, s.Port
	return settings, nil
}

// compare asks both sides and reports how they differ; "" when they agree, also in refusing.
func compare(t testing.TB, file, host, home string) string {
	t.Helper()
	want, ok := oracle(t, file, host)
	got, err := ours(t, file, host, home)
	switch {
	case !ok && err != nil:
		return ""
	case !ok:
		return fmt.Sprintf("ssh refuses the file (%s), we do not", strings.TrimSpace(want["refused"]))
	case err != nil:
		return fmt.Sprintf("we refuse the file (%v), ssh does not", err)
	}
	if want["identityfile"] != "" && got["identityfile"] == "" { // the names that are tried when none is stated
		delete(want, "identityfile")
	}
	return cmp.Diff(want, got)
}

func TestSettingsAreThoseOfSSH(t *testing.T) {
	requireSSH(t)
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	include := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	included := include("one.conf", "Port 101\nHost b\n User of-one\n")
	include("two.conf", "Match host b\n Port 202\nMatch all\n HostKeyAlias two\n")
	include(".hidden.conf", "Port 999\n")
	private := include("loose.conf", "Port 7\n")
	if err := os.Chmod(private, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"first value wins":           "Host a\n Port 1\n Port 2\nHost *\n Port 3\n User u\n",
		"negated patterns":           "Host * !b\n Port 5\nHost !b\n Port 6\nHost b !*\n Port 7\n",
		"wildcards":                  "Host ?.example a?c *b*\n Port 8\nHost *.*.*\n Port 9\n",
		"equals signs":               "Host=a b\nPort=1\nHost *\n  HostName = x.example\n User =\tv\n",
		"quotes":                     "Host \"a\" 'b'\n User \"with space\"\n IdentityFile '/a b/c'\n IdentityFile /a\\ b/d\n IdentityFile \"q\\\"q\"\n",
		"comments":                   "Host a # b\n Port 1 # two\n User u#v\n #Port 2\n\t# Host b\n",
		"an open quote":              "Host a\n User \"open\n",
		"no argument":                "Host a\n User\n",
		"two arguments":              "Host a\n Port 1 2\n",
		"a port that is none":        "Host a\n Port 70000\n",
		"upper case":                 "HOST a\n PORT 1\n UseR U\nMATCH HOST B\n pOrT 2\n",
		"upper case names":           "Host ABC\n Port 1\nMatch host abc\n User m\nMatch originalhost ABC\n Port 9\n",
		"host name with token":       "Host a b\n HostName %h.example\nMatch host a.example\n Port 1\nMatch originalhost b\n Port 2\n",
		"host name percent":          "Host a\n HostName %%%h\n",
		"unknown token":              "Host a\n HostName %q\n",
		"match all":                  "Match all\n Port 1\n",
		"match not all":              "Match !all\n Port 1\n",
		"match all after another":    "Match host a all\n Port 1\n",
		"match all after two":        "Match host a user b all\n Port 1\n",
		"match nothing":              "Match\n Port 1\n",
		"match without argument":     "Match host\n Port 1\n",
		"match unknown":              "Match weather rain\n Port 1\n",
		"match user":                 "Match user other\n Port 1\nHost a\n User other\nMatch user other\n Port 2\nMatch user " + who.Username + "\n Port 3\n",
		"match local user":           "Match localuser " + who.Username + "\n Port 1\nMatch !localuser " + who.Username + "\n User none\n",
		"match list":                 "Match host a,b,!c\n Port 1\nMatch host !a\n Port 2\nMatch host *,!b\n User u\n",
		"match exec":                 "Match exec \"test %h = a\"\n Port 1\nMatch !exec \"test %n = a\"\n Port 2\n",
		"match exec false":           "Match exec false\n Port 1\nMatch exec true user nobody\n Port 2\n",
		"match exec tokens":          "Host b\n Port 5\n User u\nMatch exec \"test %p%r%u%d = 5u" + who.Username + home + "\"\n HostKeyAlias tokens\n",
		"match exec bad token":       "Match exec \"true %Q\"\n Port 1\n",
		"match equals":               "Match host=a\n Port 1\nMatch host = b user = x\n Port 2\n",
		"match quoted":               "Match host \"a,b\" exec \"test 'x y' = 'x y'\"\n Port 1\n",
		"match comment":              "Match host a # user nobody\n Port 1\n",
		"final":                      "Host a\n HostName real.example\nMatch final host real.example\n Port 1\n User f\nHost real.example\n Port 2\n IdentityFile /of/real\n",
		"not final":                  "Match !final\n Port 1\nMatch final\n Port 2\n User f\n",
		"canonical alone":            "Match canonical\n Port 1\n",
		"final all":                  "Match final all\n Port 1\n",
		"canonical yes":              "CanonicalizeHostname yes\nMatch canonical\n Port 1\n",
		"canonical loopback":         "CanonicalizeHostname always\nCanonicalDomains invalid\nHost a\n HostName 127.0.0.1\nMatch canonical host 127.0.0.1\n Port 4\n",
		"canonical no fallback":      "CanonicalizeHostname yes\nCanonicalDomains invalid\nCanonicalizeFallbackLocal no\n",
		"include":                    "Include " + included + "\nHost b\n Port 2\n",
		"include several":            "Include " + filepath.Join(dir, "*.con?") + " /absent/*\nPort 3\n",
		"include in a block":         "Host a\n Include " + included + "\n User of-a\nHost *\n Port 4\n",
		"include does not change it": "Host c\n Include " + filepath.Join(dir, "two.conf") + "\n User u\n",
		"include open to others":     "Include " + private + "\n",
		"identities":                 "IdentityFile ~/.ssh/x\nHost a\n IdentityFile /y/%h\n IdentityFile ~/.ssh/x\nHost *\n IdentityFile none\n CertificateFile /c1\n CertificateFile /c2\n",
		"known hosts":                "Host a\n UserKnownHostsFile ~/x /y\nHost *\n UserKnownHostsFile /z\n GlobalKnownHostsFile /g /h\n",
		"jump first":                 "Host a\n ProxyJump j\nHost *\n ProxyCommand nc %h %p\n",
		"command first":              "Host a\n ProxyCommand nc %h %p # \"kept\"\nHost *\n ProxyJump j\n",
		"jump none":                  "Host a\n ProxyJump none\nHost *\n ProxyJump u@j:22,k\n",
		"families":                   "AddressFamily inet6\nBindAddress ::1\nConnectTimeout 7\nServerAliveInterval 9\nIdentitiesOnly yes\n",
		"windows line ends":          "Host a\r\n Port 1\r\n User u\r\n",
		"no line end":                "Host a\n Port 1",
		"leading blanks":             "   \t Host   a\t b  \n\t\tPort\t\t12\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, host := range []string{"a", "b", "ABC", "xbx", "1.2.3.4", "h.example"} {
				if diff := compare(t, file, host, home); diff != "" {
					t.Errorf("host %s with\n%s\nssh -, ours +\n%s", host, text, diff)
				}
			}
		})
	}
}

// randomsDefault are few enough for every run; -count 12 takes half a minute and tries 1,000.
const randomsDefault = 80

func TestRandomConfigurationsAreReadAsSSHReadsThem(t *testing.T) {
	requireSSH(t)
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	agreed := 0
	for n := range randomsDefault {
		file := filepath.Join(dir, fmt.Sprint(n))
		other := file + ".included"
		for _, name := range []string{file, other} {
			if err := os.WriteFile(name, []byte(randomConfiguration(random, other)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		host := pick(random, "a", "b", "web1.example", "WEB2", "10.0.0.1")
		if diff := compare(t, file, host, home); diff != "" {
			text, _ := os.ReadFile(file)
			included, _ := os.ReadFile(other)
			t.Fatalf("SEED=%d host %s with\n%s\nwhich includes\n%s\nssh -, ours +\n%s", seed, host, text, included, diff)
		}
		if _, ok := oracle(t, file, host); ok {
			agreed++
		}
	}
	if agreed < randomsDefault/4 {
		t.Errorf("ssh accepted only %d of %d files: nothing was compared", agreed, randomsDefault)
	}
}

func TestOracleCatchesBlocksTakenWrongly(t *testing.T) {
	requireSSH(t)
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	// Each planted reader gets a text that says what it would make of the first one; ssh must disagree.
	for name, one := range map[string]struct{ text, read string }{
		"last value wins":       {"Host *\n Port 1\nHost a\n Port 2\n", "Host a\n Port 2\nHost *\n Port 1\n"},
		"Match is passed over":  {"Match host a\n Port 1\n", "Host x\n Port 1\n"},
		"Match exec is true":    {"Match exec false\n Port 1\n", "Match all\n Port 1\n"},
		"one pass is enough":    {"Host a\n HostName b\nMatch final host b\n Port 1\n", "Host a\n HostName b\n"},
		"negation is an option": {"Host !a *\n Port 1\n", "Host *\n Port 1\n"},
		"quotes are kept":       {"User \"u\"\n", "User \\\"u\\\"\n"},
	} {
		dir := t.TempDir()
		real, planted := filepath.Join(dir, "real"), filepath.Join(dir, "planted")
		for file, text := range map[string]string{real: one.text, planted: one.read} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, ok := oracle(t, real, "a")
		got, err := ours(t, planted, "a", home)
		if !ok || err != nil {
			t.Fatalf("%s: %v, %v", name, want, err)
		}
		if cmp.Equal(want, got) || want["port"] == got["port"] && want["user"] == got["user"] {
			t.Errorf("planted: %q is not noticed", name)
		}
	}
}

func pick(random *rand.Rand, from ...string) string { return from[random.IntN(len(from))] }

func randomConfiguration(random *rand.Rand, other string) string {
	var text strings.Builder
	names := []string{"a", "b", "*", "web*", "web?.example", "10.*", "!a", "!web*", "WEB2", "*.example", "h1"}
	for range 3 + random.IntN(12) {
		switch random.IntN(12) {
		case 0, 1:
			fmt.Fprintf(&text, "Host %s %s\n", pick(random, names...), pick(random, names...))
		case 2, 3:
			fmt.Fprintf(&text, "Match %s%s %s,%s\n", pick(random, "", "!"), pick(random, "host", "originalhost", "user", "localuser"), pick(random, names...), pick(random, names...))
		case 4:
			fmt.Fprintf(&text, "Match %s\n", pick(random, "all", "final", "!final", "canonical", "final all", "final host h1", "user u1 !host b", `exec "test %h = a"`, `!exec "test %r = u1"`))
		case 5:
			if random.IntN(3) == 0 && !strings.Contains(text.String(), "Include") {
				fmt.Fprintf(&text, " Include %s\n", pick(random, other, "/absent", other+"*"))
			}
		default:
			fmt.Fprintf(&text, "%s%s%s%s\n", pick(random, "", " ", "\t"), pick(random, "Port", "port"), pick(random, " ", "=", " = "), pick(random, "1", "22", "2222"))
			fmt.Fprintf(&text, "%s\n", pick(random, "User u1", "User u2", "HostName h1", "HostName %h.example", "IdentityFile ~/k1", "IdentityFile k2",
				"ProxyJump j1", "ProxyJump none", "ProxyCommand nc %h %p", "HostKeyAlias k", "CertificateFile c", "UserKnownHostsFile /a /b", "# note", ""))
		}
	}
	return text.String()
}

func FuzzResolve(f *testing.F) {
	f.Add("Host a\n Port 1\nMatch host b exec \"x\" final\n HostName %h\n", "a")
	f.Add("Include \"~/x\nMatch !all\nHost = \n ProxyCommand = x %", "b")
	f.Fuzz(func(t *testing.T, text, host string) {
		if strings.Contains(strings.ToLower(text), "include") {
			return // it would read files of this machine
		}
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		nothing := func(context.Context, string) ([]string, error) { return nil, nil }
		s, err := Resolve(t.Context(), Query{
			Host: host, Files: []File{{Name: file, User: true}}, Home: "/nowhere", LocalUser: "u",
			Exec:        func(context.Context, string) (bool, error) { return true, nil },
			LookupHost:  nothing,
			LookupCNAME: func(context.Context, string) (string, error) { return "", nil },
		})
		if err == nil && (s.Port == "" || s.User == "") {
			t.Errorf("port %q, user %q: settled without them", s.Port, s.User)
		}
	})
}
