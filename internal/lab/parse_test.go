package lab

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"firedrill/internal/drill"
)

const bookstore = `lab: bookstore
network: 10.77.0.0/16
hosts:
  blue:
    hostname: bookstore-api-blue
    address: 10.77.1.10
    aliases: [api.example.test]
    resolver: [10.77.0.53]
    ssh: true
    trust: [ci]
    boot_delay: 2s
    files:
      /etc/app.yaml: {text: "a: 1", mode: "0600"}
      /srv/x: {source: some/dir}
    mounts: [{source: ., target: /mnt, read_only: true}]
    services:
      bookstore: {run: firedrill bookstore serve, env: {A: b}, directory: /srv}
      worker: {run: work, restart: never, enabled: false, user: nobody}
    needs: [nginx]
  ci: {address: 10.77.0.20}
`

func TestParseReadsEveryField(t *testing.T) {
	got, err := Parse([]byte(bookstore), "dir/lab.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Topology{Name: "bookstore", Network: netip.MustParsePrefix("10.77.0.0/16"), Directory: "dir", Hosts: []Host{
		{
			Name: "blue", Hostname: "bookstore-api-blue", Address: netip.MustParseAddr("10.77.1.10"), Aliases: []string{"api.example.test"},
			Resolver: []netip.Addr{netip.MustParseAddr("10.77.0.53")}, SSH: SSHBuiltIn, Trust: []string{"ci"}, BootDelay: 2 * time.Second,
			Files:  []File{{Path: "/etc/app.yaml", Text: "a: 1", Mode: 0o600}, {Path: "/srv/x", Source: "some/dir", Mode: 0o644}},
			Mounts: []Mount{{Source: ".", Target: "/mnt", ReadOnly: true}},
			Services: []Service{
				{Name: "bookstore", Run: "firedrill bookstore serve", Env: map[string]string{"A": "b"}, Directory: "/srv", Restart: RestartAlways},
				{Name: "worker", Run: "work", User: "nobody", Restart: RestartNever, Disabled: true},
			},
			Needs: []string{"nginx"},
		},
		{Name: "ci", Hostname: "ci", Address: netip.MustParseAddr("10.77.0.20")},
	}}
	compare := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()}
	if d := cmp.Diff(want, got, compare); d != "" {
		t.Error(d)
	}
	text, err := json.Marshal(got) // how it travels to the world
	if err != nil {
		t.Fatal(err)
	}
	var back Topology
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, back, compare); d != "" {
		t.Error(d)
	}
}

func TestParseNamesThePlaceAndTheCure(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"unknown field":      {"resolver:", "resolvr:", `lab.yaml:8:5: hosts.blue.resolvr: unknown field; did you mean "resolver"?`},
		"unknown top field":  {"network:", "netwrok:", `lab.yaml:2:1: netwrok: unknown field; did you mean "network"?`},
		"bad address":        {"10.77.1.10", "10.77.1.1o", `lab.yaml:6:14: hosts.blue.address: "10.77.1.1o" is not an IP address`},
		"other network":      {"10.77.1.10", "10.78.1.10", `lab.yaml:6:14: hosts.blue.address: 10.78.1.10 is not in the network 10.77.0.0/16`},
		"first address":      {"10.77.1.10", "10.77.0.0", `is the first or last address of 10.77.0.0/16`},
		"last address":       {"10.77.1.10", "10.77.255.255", `is the first or last address of 10.77.0.0/16`},
		"address twice":      {"10.77.0.20", "10.77.1.10", `lab.yaml:20:17: hosts.ci.address: 10.77.1.10 is the address of host blue already`},
		"IPv6 address":       {"10.77.1.10", "fd00::1", `is not in the network`},
		"no address":         {"    address: 10.77.1.10\n", "", `lab.yaml:5:5: hosts.blue: address is missing`},
		"bad network":        {"10.77.0.0/16", "10.77.0.1/16", `lab.yaml:2:10: network: "10.77.0.1/16" is not an IPv4 network`},
		"tiny network":       {"10.77.0.0/16", "10.77.0.0/31", `has no room for two hosts`},
		"bad ssh":            {"ssh: true", "ssh: dropbear", `lab.yaml:9:10: hosts.blue.ssh: "dropbear" is no SSH server; write true, false or openssh`},
		"trust of nobody":    {"trust: [ci]", "trust: [cu]", `lab.yaml:10:13: hosts.blue.trust[0]: no host "cu"; did you mean "ci"?`},
		"trust without ssh":  {"ssh: true", "ssh: false", `nobody can log in without an SSH server`},
		"bad delay":          {"boot_delay: 2s", "boot_delay: soon", `lab.yaml:11:17: hosts.blue.boot_delay: "soon" is not a duration`},
		"bad mode":           {`"0600"`, `"0999"`, `lab.yaml:13:43: hosts.blue.files./etc/app.yaml.mode: "0999" is not a file mode`},
		"relative file":      {"/srv/x:", "srv/x:", `lab.yaml:14:7: hosts.blue.files.srv/x: "srv/x" is not an absolute path`},
		"text and source":    {"{source: some/dir}", "{source: some/dir, text: x}", `text and source are both given`},
		"mount over own":     {"target: /mnt", "target: /proc", `lab.yaml:15:34: hosts.blue.mounts[0].target: /proc is the host's own`},
		"service of nothing": {"run: work", `run: ""`, `nothing to run`},
		"bad restart":        {"restart: never", "restart: often", `"often" is not known; write always or never`},
		"bad variable":       {"env: {A: b}", "env: {A-B: b}", `"A-B" cannot name an environment variable`},
		"alias taken":        {"aliases: [api.example.test]", "aliases: [ci]", `is a name of host blue already`},
		"path as need":       {"needs: [nginx]", "needs: [/usr/sbin/nginx]", `is not the name of a program`},
		"bad lab":            {"lab: bookstore", "lab: Book Store", `lab.yaml:1:6: lab: "Book Store" cannot name a lab`},
		"bad host":           {"  ci:", "  c_i:", `cannot name a host`},
		"not yaml":           {"lab: bookstore", "lab: [", `lab.yaml:`},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(bookstore, c.from, c.to, 1)
			if text == bookstore {
				t.Fatalf("%q is not in the file", c.from)
			}
			_, err := Parse([]byte(text), "lab.yaml")
			if drill.KindOf(err) != drill.Invalid || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant: %s", err, c.want)
			}
		})
	}
	if _, err := Parse(nil, "lab.yaml"); drill.KindOf(err) != drill.Invalid {
		t.Errorf("an empty file: %v", err)
	}
}

func TestUpRefusesWhatTheMachineLacks(t *testing.T) {
	topology := threeHosts()
	topology.Hosts[0].Needs = []string{"sh", "no-such-program-here"}
	if _, err := Up(testContext(t), topology, Options{}); drill.KindOf(err) != drill.Unsupported || !strings.Contains(drill.HintOf(err), "apt-get install no-such-program-here") {
		t.Errorf("a program that is not there: %v, hint %q", err, drill.HintOf(err))
	}
	topology = threeHosts()
	topology.Hosts[0].Mounts = []Mount{{Source: "no/such/dir", Target: "/mnt"}}
	if _, err := Up(testContext(t), topology, Options{}); drill.KindOf(err) != drill.Invalid {
		t.Errorf("a directory that is not there: %v", err)
	}
	topology = threeHosts()
	topology.Hosts[1].Address = topology.Hosts[0].Address
	if _, err := Up(testContext(t), topology, Options{}); drill.KindOf(err) != drill.Invalid {
		t.Errorf("a wrong topology made by hand: %v", err)
	}
}

func TestCureNamesTheSwitch(t *testing.T) {
	for _, c := range []struct {
		path, value, want string
		uid               int
	}{
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0", 1000},
		{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000", 1000},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1", 1000},
		{"", "", "sudo firedrill", 1000},
		{"", "", "--privileged", 0},
	} {
		got := cureFor(c.uid, func(path string) string {
			if path == c.path {
				return c.value
			}
			return ""
		})
		if !strings.Contains(got, c.want) {
			t.Errorf("%s=%s: %q", c.path, c.value, got)
		}
	}
}

func TestFilesAndMountsOfTheTopologyAreThere(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{"tree/run.sh": 0o755, "tree/sub/data": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte("#!/bin/sh\necho ran\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	text := `lab: files
hosts:
  ci:
    address: 10.77.0.20
    files:
      /etc/ssl/app.yaml: {text: "a: 1", mode: "0600"}
      /srv/tree: {source: tree}
      /run/each-boot: {text: x}
    mounts: [{source: tree, target: /mnt/ro, read_only: true}, {source: tree, target: /mnt/rw}, {source: tree/run.sh, target: /mnt/run.sh, read_only: true}]
`
	topology, err := Parse([]byte(text), filepath.Join(dir, "lab.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l := mustUp(t, topology, Options{})
	check := func() {
		for line, want := range map[string]string{
			"stat -c %a /etc/ssl/app.yaml /srv/tree/sub/data /srv/tree/run.sh": "600\n600\n755",
			"/srv/tree/run.sh; /mnt/ro/run.sh; /mnt/run.sh":                    "ran\nran\nran",
			"cat /run/each-boot": "x",
		} {
			if got := mustRun(t, l, "ci", line); got != want {
				t.Errorf("%s: %q, want %q", line, got, want)
			}
		}
	}
	check()
	if _, code := run(t, l, "ci", "touch /mnt/ro/new"); code == 0 {
		t.Error("a read-only mount was written to")
	}
	mustRun(t, l, "ci", "touch /mnt/rw/new; echo changed > /etc/ssl/app.yaml; rm /run/each-boot")
	if _, err := os.Stat(filepath.Join(dir, "tree/new")); err != nil {
		t.Error(err)
	}
	for _, step := range []error{l.PowerOff(testContext(t), "ci"), l.Boot(testContext(t), "ci")} {
		if step != nil {
			t.Fatal(step)
		}
	}
	check()
	if got := mustRun(t, l, "ci", "cat /etc/ssl/app.yaml"); got != "changed" {
		t.Errorf("the disk lost a change over a boot: %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(bookstore)
	f.Add("lab: a\nhosts: {b: {address: 10.77.0.1}}")
	f.Add("hosts: &a {b: *a}")
	f.Fuzz(func(t *testing.T, text string) {
		topology, err := Parse([]byte(text), "lab.yaml")
		if err == nil && topology.check() != nil {
			t.Errorf("Parse took what check refuses: %v", topology.check())
		}
		if err != nil && drill.KindOf(err) != drill.Invalid {
			t.Errorf("an error of another kind: %v", err)
		}
	})
}
