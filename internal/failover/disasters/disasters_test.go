package disasters

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/history"
	"firedrill/internal/lab"
)

const (
	proberVariable = "FIREDRILL_DISASTERS_PROBER"
	proberPath     = "/srv/prober"

	sampleEvery  = 50 * time.Millisecond
	sampleMax    = time.Second      // for one name server, and for one request
	goodInARow   = 3                // samples that end an outage
	impactFor    = 20 * time.Second // that an attack lasts; everything is decided long before
	steadyFor    = 3 * time.Second  // of good samples before the next disaster
	steadyMax    = 40 * time.Second // to become so
	lookAfter    = 12 * time.Second // how long is watched after a disaster
	lookShort    = 5 * time.Second  // likewise, when one is repeated
	rounds       = 7                // of the first disaster, whose medians are compared
	blue, green  = "10.88.1.10", "10.88.1.20"
	ours, theirs = "ours", "powerdns" // whose answers a client goes by
)

func TestMain(m *testing.M) {
	lab.Reexec()
	if os.Getenv(proberVariable) != "" {
		probe(os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// sample is one request of a client: a look-up without a cache, a new connection, a page that takes the database.
type sample struct {
	By      string    `json:"by"`
	At      time.Time `json:"at"` // when it was due
	Address string    `json:"address"`
	OK      bool      `json:"ok"`
}

// probe is the client: on schedule, whatever became of the samples before, until its output breaks.
func probe(out io.Writer) {
	servers := map[string][]string{ours: {"10.88.0.53:53", "10.88.0.54:53"}, theirs: {"10.88.0.55:53"}}
	var mu sync.Mutex // guards out
	for range time.Tick(sampleEvery) {
		at := time.Now()
		for by, names := range servers {
			go func() {
				one := sample{By: by, At: at}
				one.Address = resolve(names)
				one.OK = one.Address != "" && get(one.Address)
				text, err := json.Marshal(one)
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if _, err := out.Write(append(text, '\n')); err != nil {
					os.Exit(0) //nolint:revive // whoever listened is gone
				}
			}()
		}
	}
}

func resolve(servers []string) string {
	for _, server := range servers {
		client := dns.Client{Timeout: sampleMax}
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("bookstore.example.test.", dns.TypeA), server)
		if err != nil {
			continue
		}
		for _, record := range reply.Answer {
			if a, is := record.(*dns.A); is {
				return a.A.String()
			}
		}
	}
	return ""
}

func get(address string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), sampleMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, "80")+"/books/", http.NoBody)
	if err != nil {
		return false
	}
	request.Host, request.Close = "bookstore.example.test", true
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}

const serviceFile = `service: bookstore
endpoint: http://bookstore.example.test/books/
environments:
  blue:  {hosts: [{name: blue, address: 10.88.1.10}]}
  green: {hosts: [{name: green, address: 10.88.1.20}]}
watch: {url: "http://10.88.0.10:7070"}
metrics:
  alive: {heartbeat: true, every: 250ms}
  page: {http: "http://{address}/books/", from: watch, every: 250ms, timeout: 240ms}
alarms:
  "{host}-dead": {metric: alive, absent: 1s}
  "{host}-fails": {metric: page, average: "< 0.5", period: 1s, datapoints: 1 of 1}
failover:
  bookstore.example.test: {servers: [10.88.0.53, 10.88.0.54], ttl: 1s, primary: blue, secondary: green, unhealthy_when: ["{host}-dead", "{host}-fails"], failback: auto}
`

const zoneFile = `zone: bookstore.example.test
ttl: 1s
negative_ttl: 1s
servers: [ns1, ns2]
records:
  ns1: {a: [10.88.0.53]}
  ns2: {a: [10.88.0.54]}
failover:
  "@": {ttl: 1s, initial: [10.88.1.10]}
`

// powerDNS is the same name with checks of the server's own, as often as it can make them.
const powerDNS = `$ORIGIN bookstore.example.test.
@ 1 IN SOA ns hostmaster 1 60 10 1209600 1
@ IN NS ns
ns IN A 10.88.0.55
@ 1 IN LUA A "ifurlup('http://bookstore.example.test/books/', {{'10.88.1.10'},{'10.88.1.20'}}, {timeout=1})"
`

type world struct {
	b     *testing.B
	lab   *lab.Lab
	ctx   context.Context
	peers bool // PowerDNS is there

	mu      sync.Mutex // guards samples
	samples []sample
}

func newWorld(b *testing.B) *world {
	b.Helper()
	directory, err := os.MkdirTemp("", "firedrill-disasters-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(directory) })
	program := filepath.Join(directory, "firedrill")
	if out, err := exec.Command("go", "run", "firedrill/tools/build", "-o", program).CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	app, err := filepath.Abs("../../../drills/bookstore/app")
	if err != nil {
		b.Fatal(err)
	}
	file := func(path, text string) lab.File { return lab.File{Path: path, Text: text} }
	host := func(name, address string, service string, files ...lab.File) lab.Host {
		h := lab.Host{Name: name, Address: netip.MustParseAddr(address), Files: files}
		if service != "" {
			h.Services = []lab.Service{{Name: name, Run: service, Restart: lab.RestartAlways}}
		}
		return h
	}
	serve := "DATABASE_URL='postgres://bookstore:paperback@10.88.2.10:5432/bookstore?sslmode=disable' exec firedrill bookstore serve --app /srv/app"
	topology := lab.Topology{
		Name: "disasters", Network: netip.MustParsePrefix("10.88.0.0/16"),
		Hosts: []lab.Host{
			host("control", "10.88.0.10", "exec firedrill watch --file /etc/firedrill.yaml", file("/etc/firedrill.yaml", serviceFile)),
			host("ns1", "10.88.0.53", "exec firedrill authority --zone /etc/zone.yaml --watch http://10.88.0.10:7070", file("/etc/zone.yaml", zoneFile)),
			host("ns2", "10.88.0.54", "exec firedrill authority --zone /etc/zone.yaml --watch http://10.88.0.10:7070", file("/etc/zone.yaml", zoneFile)),
			host("client", "10.88.0.30", ""),
			host("blue", blue, serve, lab.File{Path: "/srv/app", Source: app}),
			host("green", green, serve, lab.File{Path: "/srv/app", Source: app}),
			host("db", "10.88.2.10", "DATABASE_PASSWORD=paperback exec firedrill bookstore db --data /var/lib/db"),
		},
	}
	for i := range topology.Hosts {
		if name := topology.Hosts[i].Name; name == "blue" || name == "green" {
			topology.Hosts[i].SSH, topology.Hosts[i].Trust = lab.SSHBuiltIn, []string{"control"}
		}
	}
	// The client is this program too, under a name that its host can see.
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	prober := filepath.Join(directory, "prober")
	if out, err := exec.Command("cp", self, prober).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	topology.Hosts[3].Mounts = []lab.Mount{{Source: prober, Target: proberPath, ReadOnly: true}}
	w := &world{b: b}
	if server, err := exec.LookPath("pdns_server"); err == nil {
		w.peers = true
		path := preparePowerDNS(b, directory)
		peer := host("pdns", "10.88.0.55", "exec "+server+" --config-dir=/etc/pdns-lab --daemon=no --guardian=no --disable-syslog")
		peer.Mounts = []lab.Mount{{Source: path, Target: "/etc/pdns-lab"}}
		topology.Hosts = append(topology.Hosts, peer)
	}
	var stop context.CancelFunc
	w.ctx, stop = context.WithCancel(context.Background())
	up, err := lab.Up(w.ctx, topology, lab.Options{Binary: program})
	if err != nil {
		stop()
		b.Fatal(err)
	}
	w.lab = up
	w.follow(stop)
	return w
}

func preparePowerDNS(b *testing.B, directory string) string {
	b.Helper()
	path := filepath.Join(directory, "pdns")
	database := filepath.Join(path, "zones.sqlite3")
	settings := "launch=gsqlite3\ngsqlite3-database=%s/zones.sqlite3\nlocal-address=10.88.0.55\nsocket-dir=%s\nsecurity-poll-suffix=\nenable-lua-records=yes\nlua-health-checks-interval=1\ncache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\n"
	err := os.Mkdir(path, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(path, "pdns.conf"), []byte(fmt.Sprintf(settings, path, path)), 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(path, "zone"), []byte(powerDNS), 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	for _, args := range [][]string{
		{"sqlite3", database, ".read /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"},
		{"pdnsutil", "--config-dir=" + path, "load-zone", "bookstore.example.test", filepath.Join(path, "zone")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(path, "pdns.conf"), []byte(fmt.Sprintf(settings, "/etc/pdns-lab", "/run")), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// follow runs the client until the end.
func (w *world) follow(stop context.CancelFunc) {
	reader, writer := io.Pipe()
	var running sync.WaitGroup
	running.Go(func() {
		var said bytes.Buffer
		_, err := w.lab.Exec(w.ctx, "client", lab.Cmd{Args: []string{proberPath}, Env: []string{proberVariable + "=1"}, Stdout: writer, Stderr: &said})
		if w.ctx.Err() == nil {
			w.b.Errorf("the client ended: %v %s", err, said.String())
		}
		_ = writer.Close()
	})
	running.Go(func() {
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			var one sample
			if json.Unmarshal(lines.Bytes(), &one) == nil {
				w.mu.Lock()
				w.samples = append(w.samples, one)
				w.mu.Unlock()
			}
		}
	})
	w.b.Cleanup(func() {
		stop()
		_ = reader.Close()
		running.Wait()
		_ = w.lab.Down(context.Background())
	})
}

// since returns the samples by one kind of answer that were due after a time, in order.
func (w *world) since(by string, at time.Time) []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []sample
	for _, one := range w.samples {
		if one.By == by && !one.At.Before(at) {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b sample) int { return a.At.Compare(b.At) })
	return all
}

// steady waits until clients were served by blue for a while, by whoever answers.
func (w *world) steady() {
	w.b.Helper()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for end := time.Now().Add(steadyMax); time.Now().Before(end); <-tick.C {
		well := true
		for _, by := range []string{ours, theirs} {
			if by == theirs && !w.peers {
				continue
			}
			recent := w.since(by, time.Now().Add(-steadyFor))
			bad := func(s sample) bool { return !s.OK || s.Address != blue }
			well = well && len(recent) > int(steadyFor/sampleEvery)/2 && !slices.ContainsFunc(recent, bad)
		}
		if well {
			return
		}
	}
	var out bytes.Buffer
	for _, host := range []string{"control", "ns1", "pdns", "blue"} {
		_, _ = w.lab.Exec(w.ctx, host, lab.Cmd{Args: []string{"sh", "-c", "tail -n 5 /var/log/*.log"}, Stdout: &out})
	}
	recent := w.since(ours, time.Now().Add(-time.Second))
	w.b.Fatalf("clients are not served well: %+v\n%s", recent[max(0, len(recent)-3):], out.String())
}

func (w *world) do(what string, err error) {
	w.b.Helper()
	if err != nil {
		w.b.Fatalf("%s: %v", what, err)
	}
}

// attack runs one of our attacks on a host and returns when it was in force; undo takes it back.
func (w *world) attack(host string, args ...string) (at time.Time, undo func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	reader, writer := io.Pipe()
	var running sync.WaitGroup
	var said bytes.Buffer
	running.Go(func() {
		_, _ = w.lab.Exec(ctx, host, lab.Cmd{Args: append([]string{"firedrill", "attack"}, append(args, "--json", "--yes", "--length", strconv.Itoa(int(impactFor/time.Second)))...), Stdout: writer, Stderr: &said}) // ended by us
		_ = writer.Close()
	})
	lines := bufio.NewScanner(reader)
	for at.IsZero() && lines.Scan() {
		var event history.Event
		if json.Unmarshal(lines.Bytes(), &event) == nil && event.Fact.Kind() == history.KindAttackInForce {
			at = event.At
		}
	}
	running.Go(func() { _, _ = io.Copy(io.Discard, reader) })
	undo = func() { cancel(); running.Wait() }
	if at.IsZero() {
		undo()
		w.b.Fatalf("%v was never in force: %s", args, said.String())
	}
	return at, undo
}

// signal sends a signal to what serves on a host.
func (w *world) signal(host, signal string) {
	w.b.Helper()
	_, err := w.lab.Exec(w.ctx, host, lab.Cmd{Args: []string{"sh", "-c", "for p in /proc/[0-9]*; do grep -qz '^serve$' $p/cmdline && kill -" + signal + " ${p#/proc/}; done; true"}})
	w.do(signal, err)
}

// moved returns when an alarm was first raised, and when another answer was decided, after a time.
func (w *world) moved(after time.Time) (detected, decided time.Time) {
	var out bytes.Buffer
	code, err := w.lab.Exec(w.ctx, "control", lab.Cmd{Args: []string{"firedrill", "watch", "history", "--file", "/etc/firedrill.yaml", "--json"}, Stdout: &out})
	if err == nil && code != 0 {
		err = errors.New("exit code " + strconv.Itoa(code))
	}
	w.do("watch history", err)
	for line := range strings.Lines(out.String()) {
		var event history.Event
		if json.Unmarshal([]byte(line), &event) != nil || event.At.Before(after) {
			continue
		}
		switch fact := event.Fact.(type) {
		case *history.Alarm:
			if detected.IsZero() && fact.To == "ALARM" {
				detected = event.At
			}
		case *history.Answer:
			if decided.IsZero() && fact.Environment != "blue" {
				decided = event.At
			}
		}
	}
	return detected, decided
}

// outage returns when clients were first answered with green, and when they were served again for good; zero when they never were.
func outage(samples []sample) (answered, served time.Time, suffered bool) {
	run := 0
	for i, one := range samples {
		if answered.IsZero() && one.Address == green {
			answered = one.At
		}
		if !one.OK {
			suffered, run, served = true, 0, time.Time{}
			continue
		}
		if run++; run == goodInARow {
			served = samples[i-goodInARow+1].At
		}
	}
	return answered, served, suffered
}

// disaster is one that can be taken back.
type disaster struct {
	name string
	do   func(w *world) (at time.Time, undo func())
	note string
}

func powerOff(hosts ...string) func(w *world) (time.Time, func()) {
	return func(w *world) (time.Time, func()) {
		at := time.Now()
		for _, host := range hosts {
			w.do("power off", w.lab.PowerOff(w.ctx, host))
		}
		return at, func() {
			for _, host := range hosts {
				w.do("boot", w.lab.Boot(w.ctx, host))
			}
		}
	}
}

// shortly takes a disaster back by itself after a while: nothing can fail over, so what is measured is that clients are served at once when it ends.
func shortly(do func(w *world) (time.Time, func())) func(w *world) (time.Time, func()) {
	return func(w *world) (time.Time, func()) {
		at, undo := do(w)
		<-time.After(4 * time.Second)
		undo()
		return at, func() {}
	}
}

var disasters = []disaster{
	{"host dead", powerOff("blue"), ""},
	{"dependency cut", func(w *world) (time.Time, func()) { return w.attack("blue", "blackhole", "--ipaddress", "10.88.2.10") }, ""},
	{"process hung (SIGSTOP)", func(w *world) (time.Time, func()) {
		at := time.Now()
		w.signal("blue", "STOP")
		return at, func() { w.signal("blue", "CONT") }
	}, ""},
	{"half of the packets lost", func(w *world) (time.Time, func()) { return w.attack("blue", "packet_loss", "--percent", "50") }, ""},
	{"slow: 2 s a request", func(w *world) (time.Time, func()) { return w.attack("blue", "latency", "--ms", "2000") }, ""},
	{"database primary gone", shortly(powerOff("db")), "for 4 s; both sides need it, so the name fails open and stays"},
	{"DNS server gone", powerOff("ns1"), "clients ask the second one after 1 s; nothing has to be decided"},
	{"everything gone", shortly(powerOff("blue", "green")), "for 4 s; the name fails open"},
}

// strike waits until all is well, and a part of a second more, so that no check is at the same point of its round each time.
func (w *world) strike(d disaster) (at time.Time, undo func()) {
	w.b.Helper()
	w.steady()
	<-time.After(rand.N(time.Second)) //nolint:gosec // any moment will do
	return d.do(w)
}

// keep adds how long clients of each went without service.
func (w *world) keep(took map[string][]time.Duration, at time.Time) {
	for _, by := range []string{ours, theirs} {
		if _, served, _ := outage(w.since(by, at)); !served.IsZero() {
			took[by] = append(took[by], served.Sub(at).Round(time.Millisecond))
		}
	}
}

// BenchmarkDisasters prints the table, from one run of each in one lab:
//
//	go test -run '^$' -bench Disasters -benchtime 1x ./internal/failover/disasters
func BenchmarkDisasters(b *testing.B) {
	if testing.Short() || os.Getuid() != 0 {
		b.Skip("it takes minutes, and root")
	}
	for b.Loop() {
		w := newWorld(b)
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "\ndisaster\tdetect\tdecide\tanswer\trecover\tPowerDNS ifurlup: answer\trecover\t")
		took := map[string][]time.Duration{}
		for range rounds - 1 {
			at, undo := w.strike(disasters[0])
			<-time.After(time.Until(at.Add(lookShort)))
			w.keep(took, at)
			undo()
		}
		for i, d := range disasters {
			at, undo := w.strike(d)
			<-time.After(time.Until(at.Add(lookAfter)))
			if i == 0 {
				w.keep(took, at)
			}
			text := func(moment time.Time, otherwise string) string {
				if moment.IsZero() {
					return otherwise
				}
				return fmt.Sprintf("%.2f s", moment.Sub(at).Seconds())
			}
			detected, decided := w.moved(at)
			row := []string{d.name, text(detected, "-"), text(decided, "stays"), "", "", "", ""}
			for column, by := range map[int]string{3: ours, 5: theirs} {
				answered, served, suffered := outage(w.since(by, at))
				row[column], row[column+1] = text(answered, "stays"), text(served, "never")
				if !suffered {
					row[column+1] = "0 s"
				}
			}
			if !w.peers {
				row[5], row[6] = "not installed", ""
			}
			fmt.Fprintln(table, strings.Join(append(row, d.note), "\t"))
			undo()
		}
		_ = table.Flush() // it is for reading
		for by, all := range took {
			slices.Sort(all)
			fmt.Printf("host dead, fault to first good answer, %s, %d times: %v\n", by, len(all), all)
			b.ReportMetric(all[len(all)/2].Seconds(), by+"-host-dead-s")
		}
	}
	b.ReportMetric(0, "ns/op")
}
