// Command gate is the one check that people and the CI run: it installs what the tests need, runs them all, and prints a count.
//
//	go run ./tools/gate [-quick]
//
// A skipped test is a failure here: on a machine on which something cannot be tested, the gate must not look green.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// needed maps a program that tests start to the Debian package that brings it.
var needed = [][2]string{
	{"git", "git"}, {"nft", "nftables"}, {"ip", "iproute2"}, {"ssh", "openssh-client"}, {"/usr/sbin/sshd", "openssh-server"},
	{"dig", "dnsutils"}, {"named", "bind9"}, {"nginx", "nginx-light"}, {"/usr/lib/postgresql/15/bin/postgres", "postgresql-15"},
	{"chromium", "chromium"}, {"fc-list", "fontconfig"}, {"/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "fonts-dejavu-core"},
	{"prometheus", "prometheus"}, {"prometheus-alertmanager", "prometheus-alertmanager"},
	{"unbound", "unbound"}, {"knotd", "knot"}, {"pdns_server", "pdns-server"}, {"/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql", "pdns-backend-sqlite3"},
	{"sqlite3", "sqlite3"}, {"haproxy", "haproxy"}, {"systemd-analyze", "systemd"}, {"unshare", "util-linux"}, {"dbus-daemon", "dbus-daemon"}, {"sudo", "sudo"}, {"minisign", "minisign"}, {"faketime", "faketime"}, {"gcc", "gcc"}, {"/usr/bin/aws", "awscli"}, {"/usr/lib/python3/dist-packages/boto3/__init__.py", "python3-boto3"}, {"/usr/include/stdlib.h", "libc6-dev"},
	{"dockerd", "docker.io"}, {"containerd", "containerd"}, {"runc", "runc"}, {"podman", "podman"}, {"busybox", "busybox-static"},
	{"/usr/bin/patroni", "patroni"}, {"/usr/bin/etcd", "etcd-server"}, {"/usr/lib/python3/dist-packages/etcd/__init__.py", "python3-etcd"}, {"curl", "curl"},
}

// require is told to the tests: what is named there may not be skipped.
const require = "kernel,openssh,postgresql,bind,nginx,chromium,git,user,systemd,awscli,minisign,prometheus,containers,patroni,curl"

func main() {
	quick := flag.Bool("quick", false, "only what needs neither root nor packages, in under a minute")
	flag.Parse()
	if err := run(*quick); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

// raced are the packages whose goroutines share state; they run once more with the race detector.
var raced = []string{"./internal/conductor", "./internal/watch", "./internal/probe", "./internal/fleet/agent", "./internal/fleet/control", "./internal/deploy/remote/remotetest", "./internal/failover/authority", "./internal/failover/keep"}

// slow are the packages whose tests start servers, hosts or kernels; make quick leaves them out.
var slow = []string{"attack", "awsapi", "bookstore", "deploy", "deploy/remote", "deploy/remote/remotetest", "failover/database/patroni", "failover/database/postgresql", "failover/database/rds", "failover/failovertest", "failover/haproxy", "failover/nginx", "failover/rfc2136", "fleet/fleettest", "guard", "lab", "source"}

// isSlow holds for every kind of attack too: they are tried in the kernel.
func isSlow(name string) bool {
	return slices.Contains(slow, name) || strings.HasPrefix(name, "attack/")
}

// alone is run after all others, with nothing beside it: it measures a service on this machine as its clients see it.
const alone = "firedrill/internal/e2e"

func run(quick bool) error {
	began := time.Now()
	if err := formatted(); err != nil {
		return err
	}
	if err := command("go", "vet", "./...").Run(); err != nil {
		return fmt.Errorf("go vet: %w", err)
	}
	t := tally{output: map[string][]string{}}
	list, err := exec.Command("go", "list", "./...").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	packages := slices.DeleteFunc(strings.Fields(string(list)), func(name string) bool { return name == alone })
	if quick {
		packages = slices.DeleteFunc(packages, func(name string) bool { return isSlow(strings.TrimPrefix(name, "firedrill/internal/")) })
		return t.sum(t.tests(nil, append([]string{"-short"}, packages...)...), quick, began)
	}
	if err := install(); err != nil {
		return err
	}
	environment := append(os.Environ(), "FIREDRILL_REQUIRE="+require, "GORACE=atexit_sleep_ms=0", "FIREDRILL_SIMULATION_SECONDS=60")
	err = errors.Join(
		// Most tests wait for deadlines, for the kernel or for other programs, and take no processor meanwhile.
		t.tests(environment, append([]string{"-count=1", "-p=2", "-parallel=4"}, packages...)...),
		t.tests(environment, append([]string{"-race", "-count=1", "-p=1"}, raced...)...),
		t.tests(environment, "-count=1", "-v", alone),
	)
	return t.sum(err, quick, began)
}

func command(name string, arguments ...string) *exec.Cmd {
	cmd := exec.Command(name, arguments...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func formatted() error {
	list, err := exec.Command("gofmt", "-l", ".").Output()
	if err != nil {
		return fmt.Errorf("gofmt: %w", err)
	}
	if len(bytes.TrimSpace(list)) > 0 {
		return fmt.Errorf("not formatted; run gofmt -w on:\n%s", list)
	}
	return nil
}

// install brings the packages whose programs are missing. It needs root or sudo, and Debian's apt-get.
func install() error {
	var missing []string
	for _, pair := range needed {
		if !present(pair[0]) {
			missing = append(missing, pair[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	fmt.Printf("Installing what the tests start: %s\n", strings.Join(missing, " "))
	prefix := []string{}
	if os.Getuid() != 0 {
		prefix = []string{"sudo"}
	}
	steps := [][]string{
		{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "update"},
		append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq", "-y", "--no-install-recommends", "install"}, missing...),
	}
	for _, step := range steps {
		step = append(slices.Clone(prefix), step...)
		cmd := command(step[0], step[1:]...)
		cmd.Stdout = io.Discard
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w; install by hand: apt-get install %s", strings.Join(step, " "), err, strings.Join(missing, " "))
		}
	}
	return nil
}

func present(program string) bool {
	if strings.HasPrefix(program, "/") {
		_, err := os.Stat(program)
		return err == nil
	}
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	_, err := os.Stat("/usr/sbin/" + program)
	return err == nil
}

type testEvent struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// failure is a test that failed, or a package by itself, and the end of what it said.
type failure struct {
	name, end string
}

// endOf is what a test says of itself, and its last lines, each cut: whoever reads only the end of a log must see why. Behind what it says there may be the long logs of
// what it started.
func endOf(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	last := max(0, len(lines)-8)
	var kept []string
	for i, line := range lines {
		if i >= last || saysWhere.MatchString(line) && len(kept) < 8 {
			kept = append(kept, fmt.Sprintf("    %.300s", line))
		}
	}
	return strings.Join(kept, "\n")
}

// saysWhere finds a line of a test that names its place.
var saysWhere = regexp.MustCompile(`^\s+\w+_test\.go:\d+: `)

// causes leaves out what failed only because something in it did: go test tells of the inner one first.
func causes(bad []failure) []failure {
	var left []failure
	for i, outer := range bad {
		prefix := outer.name
		if !strings.HasSuffix(prefix, ".") { // that is a package
			prefix += "/"
		}
		if !slices.ContainsFunc(bad[:i], func(inner failure) bool { return strings.HasPrefix(inner.name, prefix) }) {
			left = append(left, outer)
		}
	}
	return left
}

type tally struct {
	passed, failed, skipped int
	output                  map[string][]string // of each test that still runs
	bad                     []failure
	skips                   []string
}

// tests runs go test, and prints each package as it ends and the output of what failed.
func (t *tally) tests(environment []string, arguments ...string) error {
	cmd := command("go", append([]string{"test", "-json", "-timeout=50m"}, arguments...)...)
	cmd.Env = environment
	cmd.Stdout = nil
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var event testEvent
		if err := json.Unmarshal(scanner.Bytes(), &event); err != nil {
			fmt.Println(scanner.Text())
			continue
		}
		t.take(event)
	}
	return errors.Join(scanner.Err(), cmd.Wait())
}

// sum prints the count and says whether the gate is green.
func (t *tally) sum(err error, quick bool, began time.Time) error {
	fmt.Printf("\nTook %s\n", time.Since(began).Round(time.Second))
	for _, name := range t.skips {
		fmt.Printf("skipped: %s\n", name)
	}
	for _, failed := range causes(t.bad) {
		fmt.Printf("FAILED: %s\n%s\n", failed.name, failed.end)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	switch {
	case err != nil || t.failed > 0 || len(t.bad) > 0:
		return errors.New("tests failed")
	case t.passed == 0:
		return errors.New("no test ran")
	case !quick && t.skipped > 0:
		return errors.New("a skipped test proves nothing; install what it needs")
	}
	return nil
}

func (t *tally) take(event testEvent) {
	key := event.Package + "." + event.Test
	switch event.Action {
	case "output", "build-output":
		t.output[key] = append(t.output[key], event.Output)
		return
	case "pass", "fail", "skip", "build-fail":
	default:
		return
	}
	lines := strings.Join(t.output[key], "")
	delete(t.output, key)
	if event.Action == "fail" || event.Action == "build-fail" {
		fmt.Printf("--- %s\n%s", key, lines)
		t.bad = append(t.bad, failure{key, endOf(lines)})
	}
	if event.Test == "" {
		if event.Action != "skip" && event.Action != "build-fail" { // a package without tests is no skipped test
			fmt.Printf("%-5s %-45s %7.1fs\n", event.Action, event.Package, event.Elapsed)
		}
		return
	}
	switch event.Action {
	case "pass":
		t.passed++
	case "fail":
		t.failed++
	case "skip":
		t.skipped++
		t.skips = append(t.skips, key+": "+strings.Join(strings.Fields(lines), " "))
	}
}
