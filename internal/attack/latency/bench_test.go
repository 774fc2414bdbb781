package latency

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/netem"
)

const (
	benchDelay  = 100 * time.Millisecond
	benchPort   = 9998
	benchRounds = 9 // of a second
)

// BenchmarkDelay sends 5,000 and 20,000 packets a second through an attack of 100 ms and prints how far from that they come later than
// without an attack: in the mean, and the slowest hundredth. Where the kernel has netem, its way stands beside the queue, and netem set by
// hand beside both.
func BenchmarkDelay(b *testing.B) {
	for _, rate := range []int{5000, 20000} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			for b.Loop() {
				ways := lateness(b, rate, benchRounds)
				for _, way := range ways {
					for what, figure := range way.figures() {
						b.ReportMetric(figure, way.name+"_"+what)
					}
				}
				if len(ways) > 1 {
					mean, p99 := over(ways[1], ways[2])
					b.ReportMetric(mean, "netem_mean_over_by_hand_ms")
					b.ReportMetric(p99, "netem_p99_over_by_hand_ms")
				}
				b.ReportMetric(0, "ns/op") // of no meaning here
			}
		})
	}
}

// late is how late packets were in one way, against without an attack.
type late struct {
	name    string
	world   *at.World
	outward bool              // what the host sends is late, and not what comes back
	rounds  [][]time.Duration // each sorted
	bare    []time.Duration   // sorted
	sent    int
}

func milli(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func mean(all []time.Duration) (sum time.Duration) {
	for _, d := range all {
		sum += d
	}
	return sum / time.Duration(max(1, len(all)))
}

// within is the time within which this part of all came.
func within(part float64, all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return all[int(part*float64(len(all)-1))]
}

func (l *late) figures() map[string]float64 {
	all := slices.Concat(l.rounds...)
	slices.Sort(all)
	return map[string]float64{
		"mean_error_ms": milli(mean(all) - mean(l.bare) - benchDelay),
		"p50_over_ms":   milli(within(0.5, all) - benchDelay),
		"p99_over_ms":   milli(within(0.99, all) - benchDelay),
		"bare_p99_ms":   milli(within(0.99, l.bare)),
		"arrived_%":     100 * float64(len(all)) / float64(l.sent),
	}
}

// over is by how much the packets of ours come later than those of theirs: the median, over the rounds, of the difference of their means, and
// of their slowest hundredths. What else the machine did in a round, it did to both.
func over(ours, theirs *late) (meanOver, p99Over float64) {
	var means, p99s []float64
	for i := range ours.rounds {
		means = append(means, milli(mean(ours.rounds[i])-mean(theirs.rounds[i])))
		p99s = append(p99s, milli(within(0.99, ours.rounds[i])-within(0.99, theirs.rounds[i])))
	}
	slices.Sort(means)
	slices.Sort(p99s)
	return means[len(means)/2], p99s[len(p99s)/2]
}

// lateness measures each way that this kernel has, a second of each in turn: the queue on what comes in, netem on what goes out, and netem set
// by hand.
func lateness(tb testing.TB, rate, rounds int) []*late {
	tb.Helper()
	ways := []*late{{name: "queue"}}
	w := at.NewWorld(tb)
	if err := w.Host.Do(func() error {
		facts, err := netem.Survey()
		if facts.Netem {
			ways = append(ways, &late{name: "netem", outward: true}, &late{name: "by_hand", outward: true, world: w})
		}
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	for _, l := range ways {
		defer l.begin(tb, rate)()
	}
	for range rounds {
		for _, l := range ways {
			came := flight(tb, l.world, l.outward, rate, rate)
			l.rounds, l.sent = append(l.rounds, came), l.sent+rate
		}
	}
	return ways
}

// begin measures the way without an attack, and sets it up. end says what the attack says of it.
func (l *late) begin(tb testing.TB, rate int) (end func()) {
	tb.Helper()
	byHand := l.world != nil
	if !byHand {
		l.world = at.NewWorld(tb)
	}
	l.bare = flight(tb, l.world, l.outward, rate, rate)
	if byHand {
		if err := l.world.Host.Do(func() error {
			out, err := exec.Command("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "100ms", "limit", "100000").CombinedOutput()
			if err != nil {
				return fmt.Errorf("tc: %w: %s", err, out)
			}
			return nil
		}); err != nil {
			tb.Fatal(err)
		}
		return func() {}
	}
	a, err := l.world.Start(at.Spec{Args: []string{"--length=1800", targets, "--ms=100", "--way=" + l.name}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(a.Stop)
	if _, err := a.AwaitInForce(); err != nil {
		tb.Fatal(err)
	}
	return func() {
		if err := a.Signal(unix.SIGTERM); err != nil {
			tb.Fatal(err)
		}
		if _, account := a.Wait(); account != nil {
			tb.Logf("%s: %s", l.name, strings.Join(account.Evidence, "; "))
		}
	}
}

// flight sends packets between the attacked host and its target, evenly spread, and returns how long each was on its way, sorted.
func flight(tb testing.TB, w *at.World, outward bool, rate, packets int) []time.Duration {
	tb.Helper()
	from, to, fromAddr, toAddr := w.Peer, w.Host, at.Target4, at.Host4
	if outward {
		from, to, fromAddr, toAddr = to, from, toAddr, fromAddr
	}
	in, err1 := datagrams(to, toAddr.As4())
	out, err2 := datagrams(from, fromAddr.As4())
	if err := errors.Join(err1, err2); err != nil {
		tb.Fatal(err)
	}
	defer unix.Close(in)
	defer unix.Close(out)
	var sentAll atomic.Bool
	arrived := make(chan []time.Duration)
	go func() { arrived <- receive(in, packets, &sentAll) }()
	sent := make(chan error)
	go func() {
		err := send(out, &unix.SockaddrInet4{Addr: toAddr.As4(), Port: benchPort}, rate, packets)
		sentAll.Store(true)
		sent <- err
	}()
	err := <-sent
	all := <-arrived
	if err != nil {
		tb.Fatal(err)
	}
	if len(all) < packets {
		tb.Logf("%d of %d arrived%s", len(all), packets, losses(to))
	}
	slices.Sort(all)
	return all
}

// losses is what the kernel of the receiver says of packets that it lost itself.
func losses(at *at.Namespace) string {
	var text strings.Builder
	_ = at.Do(func() error {
		for _, file := range []string{"/proc/thread-self/net/snmp", "/proc/net/softnet_stat"} {
			content, err := os.ReadFile(file)
			for line := range strings.Lines(string(content)) {
				if strings.HasPrefix(line, "Udp:") || strings.HasSuffix(file, "stat") {
					text.WriteString("; " + strings.TrimSpace(line))
				}
			}
			if err != nil {
				text.WriteString("; " + err.Error())
			}
		}
		return nil
	})
	return text.String()
}

func datagrams(ns *at.Namespace, addr [4]byte) (fd int, err error) {
	err = ns.Do(func() error {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		timeout := unix.NsecToTimeval(receiveLook.Nanoseconds())
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20), // what netem holds still counts as the sender's
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: addr, Port: benchPort}))
	})
	return fd, err
}

func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano()
}

// punctual keeps other work of the machine out of what is measured, as far as it can be. The thread ends with the goroutine.
func punctual() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
}

func send(fd int, to unix.Sockaddr, rate, packets int) error {
	punctual()
	packet := make([]byte, 100)
	next := monotonic()
	for range packets {
		next += int64(time.Second) / int64(rate)
		due := unix.NsecToTimespec(next)
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &due, nil)
		binary.NativeEndian.PutUint64(packet, uint64(monotonic()))
		if err := unix.Sendto(fd, packet, 0, to); err != nil {
			return err
		}
	}
	return nil
}

const (
	receiveLook  = 100 * time.Millisecond
	receiveLooks = 30 // in a row without a packet, when all are sent: then those that are missing were lost
)

// receive ends when all have come, or none for long after the last was sent. A silence before may be that of the sender, which had no processor.
func receive(fd, packets int, sentAll *atomic.Bool) []time.Duration {
	punctual()
	packet := make([]byte, 200)
	all := make([]time.Duration, 0, packets)
	for silent := 0; len(all) < packets && silent < receiveLooks; {
		n, _, err := unix.Recvfrom(fd, packet, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN && sentAll.Load():
			silent++
		case err == unix.EAGAIN:
		case err != nil:
			return all
		case n >= 8:
			silent = 0
			all = append(all, time.Duration(monotonic()-int64(binary.NativeEndian.Uint64(packet))))
		}
	}
	return all
}
