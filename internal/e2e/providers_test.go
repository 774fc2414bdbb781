package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// providersOut is where runs of this lab are kept.
const providersOut = "/tmp/out"

// provider is one way in which a name is moved in the lab of providers.
type provider struct {
	name, endpoint, program string
	run                     []string // what is run: the pipeline, or the drill alone
	says                    []string // that the answer was seen to move
}

var providers = []provider{
	{"rfc2136", "http://bookstore.example.test/books/", "named", []string{"pipeline"}, []string{"answer on every name server: ok", "All 2 name servers moved to "}},
	{"knot", "http://knot.bookstore.example.test/books/", "knotd", []string{"run", "lose-db"}, []string{", says 10.77.0.56", "The name server moved to "}},
	{"powerdns", "http://powerdns.bookstore.example.test/books/", "pdns_server", []string{"run", "lose-db"}, []string{", says 10.77.0.57", "The name server moved to "}},
	{"haproxy", "http://haproxy.bookstore.example.test/books/", "haproxy", []string{"run", "lose-db"}, []string{"http://10.77.0.80/version moved to "}},
	{"nginx", "http://nginx.bookstore.example.test/books/", "nginx", []string{"run", "lose-db"}, []string{"http://10.77.0.81/version moved to "}},
	{"hosts", "http://hosts.bookstore.example.test/books/", "sh", []string{"run", "lose-db"}, []string{"http://hosts.bookstore.example.test/version moved to "}},
}

// resolvers are whom clients ask for names that the name server of their host does not know.
var resolvers = map[string]string{"knot": "10.77.0.56", "powerdns": "10.77.0.57"}

// upProviders starts the lab in which others serve: the watch decides for all names, and each run knows one of them.
func upProviders(t *testing.T, program string) small {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("testdata/providers", name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	directory := t.TempDir()
	s := small{program: program, topology: filepath.Join(directory, "topology.yaml")}
	common := read("common.yaml")
	watch := bytes.Replace(common, []byte("ENDPOINT"), []byte(providers[0].endpoint), 1)
	files := map[string][]byte{}
	for _, name := range []string{"keys", "zone", "named.conf", "named-2.conf", "haproxy.cfg", "nginx.conf", "knot.zone", "knot.conf", "powerdns.zone", "pdns.conf", "pdns.sh"} {
		files[name] = read(name)
	}
	for _, p := range providers {
		failover := read(p.name + ".yaml")
		watch = append(watch, failover...)
		own := bytes.Replace(common, []byte("ENDPOINT"), []byte(p.endpoint), 1)
		if address := resolvers[p.name]; address != "" {
			own = bytes.Replace(own, []byte("timeout: 1s}"), fmt.Appendf(nil, "timeout: 1s, resolver: %q}", address+":53"), 1)
		}
		files["run-"+p.name+".yaml"] = append(own, failover...)
	}
	files["watch.yaml"] = watch
	files["topology.yaml"] = bytes.Replace(read("topology.yaml"), []byte("lab: LAB"), fmt.Appendf(nil, "lab: providers-%d", os.Getpid()), 1)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(directory, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(directory, "app"), os.DirFS("../../drills/bookstore/app")); err != nil {
		t.Fatal(err)
	}
	s.up(t)
	// The secondary serves when it has the zone, which nobody waits for when hosts come up.
	s.must(t, 0, "ci", "sh", "-c", `for server in 10.77.0.53 10.77.0.54; do
 for try in $(seq 300); do dig +short +time=1 +tries=1 @$server bookstore.example.test | grep -q . && continue 2; sleep 0.1; done
 echo "$server does not answer"; exit 1
done`)
	s.must(t, 0, "ci", "firedrill", "deploy", "--first", "--revision", "v6", "--file", "/etc/firedrill/rfc2136.yaml", "--out", "/tmp/first", "blue", "green")
	return s
}

// TestDrillsMoveTheAnswerInServersOfOthers runs a pipeline over BIND with a secondary, and a drill each over Knot, PowerDNS, HAProxy, nginx and a hosts file.
// The watch decides all of them by the same alarms, so each drill finds its name on the side to which the one before it has moved.
func TestDrillsMoveTheAnswerInServersOfOthers(t *testing.T) {
	for _, p := range providers {
		if _, err := exec.LookPath(p.program); errors.Is(err, exec.ErrNotFound) && !strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "bind") {
			t.Skipf("%s is not installed", p.program)
		}
	}
	s := upProviders(t, built(t))
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) {
			file := "/etc/firedrill/" + p.name + ".yaml"
			output := s.firedrill(t, 0, "ci", slices.Concat(p.run, []string{"--file", file, "--out", providersOut})...)
			moved := s.must(t, 0, "ci", "sh", "-c", "grep -oh '[^>]* moved to [^<]*' $(ls -td "+providersOut+"/*/ | head -1)report.html | sort -u")
			says(t, output+moved, p.says...)
			t.Log(moved)
		})
	}
	t.Run("a follower that is gone fails the drill", func(t *testing.T) { followerGone(t, s) })
}

// followerGone is the planted bug: nobody carries the decisions to HAProxy, and the drill must say so.
func followerGone(t *testing.T, s small) {
	s.must(t, 0, "haproxy", "systemctl", "stop", "follow")
	const shorter = "sed -e s/60s/6s/ -e s/12s/5s/ -e s/30s/4s/ /etc/firedrill/haproxy.yaml >/etc/firedrill/gone.yaml"
	s.must(t, 0, "ci", "sh", "-c", shorter)
	output := s.firedrill(t, 1, "ci", "run", "lose-db", "--file", "/etc/firedrill/gone.yaml", "--out", providersOut)
	says(t, output, "FAILED", "never answered ")
}
