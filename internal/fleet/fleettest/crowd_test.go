package fleettest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/control"
	"firedrill/internal/tether"
)

const (
	// presence of an agent as installed; the crowd spreads over it as agents do that were started at different times.
	crowdPresence = 10 * time.Second
	// crowdLook is how long the server's steady state is looked at.
	crowdLook = 30 * time.Second
	// crowdSettle is how long after the last one has joined that begins: looks of a server at what it holds, and what it does about it.
	crowdSettle = 90 * time.Second
	crowdJoin   = 8 // who join at the same time
	crowdTries  = 5
)

// BenchmarkCrowd puts 100, 1,000 and 10,000 light agents on one server in a process of its own: real connections with TLS and a key each, that say
// hello, presence every ten seconds, and answer a halt, but do not look after a host. It prints what the server needs while nothing happens (percent
// of one core; resident MiB), and when the word of a halt was with an agent, and with all of them, counted from the call.
func BenchmarkCrowd(b *testing.B) {
	for _, size := range []int{100, 1_000, 10_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			for range b.N {
				c := newCrowd(b, size)
				b.ReportMetric(c.resident(), "joined_MiB")
				<-time.After(crowdSettle)
				before, began := c.cpu(), time.Now()
				<-time.After(crowdLook)
				share := 100 * (c.cpu() - before).Seconds() / time.Since(began).Seconds()
				b.ReportMetric(share, "percent_of_core")
				b.ReportMetric(c.resident(), "MiB")
				arrived, report := c.halt()
				if len(report.Halted) != size {
					b.Fatalf("%d of %d say that they halted; %d did not answer", len(report.Halted), size, len(report.Left))
				}
				b.ReportMetric(arrived[len(arrived)/2].Seconds()*1000, "halt_p50_ms")
				b.ReportMetric(arrived[len(arrived)*99/100].Seconds()*1000, "halt_p99_ms")
				b.ReportMetric(arrived[len(arrived)-1].Seconds()*1000, "halt_last_ms")
				b.ReportMetric(0, "ns/op")
				c.close()
			}
		})
	}
}

// crowd is many light agents of one server.
type crowd struct {
	b      *testing.B
	server *exec.Cmd
	ended  func() error
	admin  *client.Client
	agents []*light

	mu    sync.Mutex // guards the field below
	heard []time.Time
}

// light is an agent as the server sees it.
type light struct {
	id     agent.Identity
	conn   *nats.Conn
	halted bool // guarded by the crowd's mu
}

func newCrowd(b *testing.B, size int) *crowd {
	b.Helper()
	return newCrowdIn(b, size, b.TempDir())
}

// newCrowdIn starts the server on a directory, with further flags.
func newCrowdIn(b *testing.B, size int, directory string, flags ...string) *crowd {
	b.Helper()
	allow(b, size+1000)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		b.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	program := filepath.Join(b.TempDir(), "firedrill") // under this name the binary of the test is the program
	if err := os.Symlink(self, program); err != nil {
		b.Fatal(err)
	}
	c := &crowd{b: b, server: exec.Command(program, append([]string{"server", "--data", directory, "--listen", "127.0.0.1:0", "--dns-listen", "127.0.0.1:0", "--fleet-listen", address, "--fleet-address", address}, flags...)...)} //nolint:noctx // ended by close
	log, err := os.Create(filepath.Join(b.TempDir(), "server.log"))
	if err != nil {
		b.Fatal(err)
	}
	c.server.Stdout, c.server.Stderr = log, log
	c.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.ended, err = tether.Start(c.server); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.close()
		if b.Failed() {
			text, _ := os.ReadFile(log.Name())
			b.Logf("%.4000s", text)
		}
	})
	if err := awaited(func() error {
		credentials, err := client.Load(filepath.Join(directory, "fleet", control.AdminFile))
		if err != nil {
			return err
		}
		c.admin, err = client.Connect(credentials)
		return err
	}, patience); err != nil {
		b.Fatal(err)
	}
	c.join(size, address)
	return c
}

// allow lets this process, and the server that it starts, open so many files.
func allow(b *testing.B, files int) {
	b.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	if limit.Cur >= uint64(files) {
		return
	}
	limit.Cur, limit.Max = uint64(files), max(limit.Max, uint64(files))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Skipf("%d files are needed, and %v", files, err)
	}
}

func (c *crowd) call(call string, asked, result any) {
	c.b.Helper()
	ctx, cancel := context.WithTimeout(c.b.Context(), 2*time.Minute)
	defer cancel()
	if err := c.admin.Call(ctx, call, asked, result); err != nil {
		c.b.Fatalf("%s: %v", call, err)
	}
}

// join lets all in with one token, and returns when the server has them all.
func (c *crowd) join(size int, address string) {
	c.b.Helper()
	var text string
	c.call("token", fleet.TokenRequest{Uses: size}, &text)
	token, err := fleet.ParseToken(text)
	if err != nil {
		c.b.Fatal(err)
	}
	c.agents = make([]*light, size)
	numbers, problems := make(chan int), make(chan error, crowdJoin)
	var joining sync.WaitGroup
	directory := c.b.TempDir()
	for range crowdJoin {
		joining.Go(func() {
			for number := range numbers {
				name := fmt.Sprintf("host%05d", number)
				id, err := agent.Join(c.b.Context(), filepath.Join(directory, name), address, token, agent.Identity{Name: name, Zone: fmt.Sprintf("zone%d", number%3), Tags: map[string]string{"service": fmt.Sprintf("s%03d", number%200), "environment": []string{"blue", "green"}[number%2]}})
				if err == nil {
					c.agents[number], err = c.connect(id, number, size)
				}
				if err != nil {
					select {
					case problems <- fmt.Errorf("%s: %w", name, err):
					default:
					}
					return
				}
			}
		})
	}
	go func() {
		defer close(numbers)
		for number := range size {
			select {
			case numbers <- number:
			case <-c.b.Context().Done():
				return
			}
		}
	}()
	joining.Wait()
	select {
	case err := <-problems:
		c.b.Fatal(err)
	default:
	}
	if err := awaited(func() error {
		var hosts []fleet.HostView
		c.call("hosts", nil, &hosts)
		if there := len(slices.DeleteFunc(hosts, func(h fleet.HostView) bool { return !h.Online || h.Facts == nil })); there != size {
			return fmt.Errorf("%d of %d are there", there, size)
		}
		return nil
	}, 2*patience); err != nil {
		c.b.Fatal(err)
	}
}

// connect is the part of an agent that the server sees.
func (c *crowd) connect(id agent.Identity, number, size int) (*light, error) {
	pair, err := nkeys.FromSeed([]byte(id.Seed))
	if err != nil {
		return nil, err
	}
	l := &light{id: id}
	// A client that takes longer to connect than the engine's ping interval, as on a busy machine, takes the ping for a mistake.
	for tries := 0; l.conn == nil; tries++ {
		l.conn, err = nats.Connect("tls://"+id.Address, nats.Secure(fleet.PinnedTLS(id.Pin)), nats.TLSHandshakeFirst(), nats.Nkey(id.Key, pair.Sign), nats.Timeout(patience),
			nats.Name(id.Name), nats.CustomInboxPrefix(fleet.Inbox(id.Key)), nats.PingInterval(agent.PingEvery), nats.MaxReconnects(0))
		if err != nil && tries == crowdTries {
			return nil, err
		}
	}
	say := func(word string, message any) {
		text, _ := json.Marshal(message) // our own types always encode
		_ = l.conn.Publish(fleet.FromAgent(id.Key, word), text)
	}
	for subject, handle := range map[string]nats.MsgHandler{
		fleet.SubjectPulse:    func(*nats.Msg) {},
		fleet.SubjectRollCall: func(*nats.Msg) { say(fleet.WordPresence, fleet.Presence{At: time.Now()}) },
		fleet.SubjectHalt: func(message *nats.Msg) {
			now := time.Now()
			if halt, err := fleet.Decode[fleet.Halt](message.Data); err == nil {
				c.mu.Lock()
				if !l.halted { // it is said again to those that have not answered
					l.halted, c.heard = true, append(c.heard, now)
				}
				c.mu.Unlock()
				say(fleet.WordHalted, fleet.Halted{ID: halt.ID})
			}
		},
		fleet.ToAgent(id.Key, fleet.WordOrder): func(*nats.Msg) {}, fleet.ToAgent(id.Key, fleet.WordGo): func(*nats.Msg) {}, fleet.ToAgent(id.Key, fleet.WordCancel): func(*nats.Msg) {},
	} {
		if _, err := l.conn.Subscribe(subject, handle); err != nil {
			return nil, err
		}
	}
	hello, _ := json.Marshal(fleet.Presence{At: time.Now(), Facts: &fleet.Facts{Hostname: id.Name, Kernel: "6.1.0-44-amd64", Version: "crowd", Kinds: []string{"blackhole", "cpu", "latency", "memory", "shutdown"}, Leash: 15}})
	if _, err := l.conn.Request(fleet.FromAgent(id.Key, fleet.WordHello), hello, patience); err != nil {
		return nil, err
	}
	go func() {
		<-time.After(crowdPresence * time.Duration(number) / time.Duration(size))
		for tick := time.NewTicker(crowdPresence); ; <-tick.C {
			if l.conn.IsClosed() {
				tick.Stop()
				return
			}
			say(fleet.WordPresence, fleet.Presence{At: time.Now()})
		}
	}()
	return l, nil
}

// halt calls for it, and returns after how long each agent had heard, the first first.
func (c *crowd) halt() ([]time.Duration, fleet.HaltReport) {
	c.b.Helper()
	var report fleet.HaltReport
	called := time.Now()
	c.call("halt", fleet.HaltRequest{Reason: "how fast is it?"}, &report)
	c.mu.Lock()
	defer c.mu.Unlock()
	arrived := make([]time.Duration, 0, len(c.heard))
	for _, at := range c.heard {
		arrived = append(arrived, at.Sub(called))
	}
	slices.Sort(arrived)
	if len(arrived) == 0 {
		c.b.Fatal("nobody heard of the halt")
	}
	return arrived, report
}

// cpu is the processor time that the server has used.
func (c *crowd) cpu() time.Duration {
	c.b.Helper()
	return cpuOf(c.b, c.server.Process.Pid)
}

// resident is the memory of the server, in MiB.
func (c *crowd) resident() float64 {
	c.b.Helper()
	return residentOf(c.b, c.server.Process.Pid)
}

func (c *crowd) close() {
	for _, l := range c.agents {
		if l != nil {
			l.conn.Close()
		}
	}
	c.agents = nil
	if c.admin != nil {
		c.admin.Close()
	}
	_ = c.server.Process.Kill()
	_ = c.ended()
}
