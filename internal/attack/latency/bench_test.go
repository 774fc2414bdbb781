package latency

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/netem"
)

const (
	benchDelay   = 100 * time.Millisecond
	benchPort    = 9998
	benchPackets = 20000
)

// BenchmarkDelay sends 5,000 and 20,000 packets a second through an attack of 100 ms and prints how far from that they come later than
// without an attack: in the mean, and the slowest hundredth. Where the kernel has netem, its way stands beside the queue, and netem set by
// hand beside both.
func BenchmarkDelay(b *testing.B) {
	for _, rate := range []int{5000, 20000} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			for b.Loop() {
				for name, late := range lateness(b, rate, benchPackets) {
					for what, ms := range late.figures() {
						b.ReportMetric(ms, name+"_"+what)
					}
				}
				b.ReportMetric(0, "ns/op") // of no meaning here
			}
		})
	}
}

// late is how late packets were, against without an attack.
type late struct {
	delays, bare []time.Duration // sorted
	sent         int
}

func (l late) figures() map[string]float64 {
	if len(l.delays) == 0 || len(l.bare) == 0 {
		return map[string]float64{"arrived_%": 0}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return map[string]float64{
		"mean_error_ms": ms(mean(l.delays) - mean(l.bare) - benchDelay),
		"p50_over_ms":   ms(l.delays[len(l.delays)/2] - benchDelay),
		"p99_over_ms":   ms(l.delays[len(l.delays)*99/100] - benchDelay),
		"bare_p99_ms":   ms(l.bare[len(l.bare)*99/100]),
		"arrived_%":     100 * float64(len(l.delays)) / float64(l.sent),
	}
}

// lateness measures each way that this kernel has: the queue on what comes in, netem on what goes out.
func lateness(tb testing.TB, rate, packets int) map[string]late {
	tb.Helper()
	byWay := map[string]late{"queue": attacked(tb, "queue", false, rate, packets)}
	w := at.NewWorld(tb)
	hasNetem := false
	if err := w.Host.Do(func() error {
		facts, err := netem.Survey()
		hasNetem = facts.Netem
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	if !hasNetem {
		return byWay
	}
	byWay["netem"] = attacked(tb, "netem", true, rate, packets)
	byHand := late{bare: flight(tb, w, true, rate, packets), sent: packets}
	if err := w.Host.Do(func() error {
		out, err := exec.Command("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "100ms", "limit", "100000").CombinedOutput()
		if err != nil {
			return fmt.Errorf("tc: %w: %s", err, out)
		}
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	byHand.delays = flight(tb, w, true, rate, packets)
	byWay["by_hand"] = byHand
	return byWay
}

func attacked(tb testing.TB, way string, outward bool, rate, packets int) late {
	tb.Helper()
	w := at.NewWorld(tb)
	l := late{bare: flight(tb, w, outward, rate, packets), sent: packets}
	a, err := w.Start(at.Spec{Args: []string{"--length=120", targets, "--ms=100", "--way=" + way}})
	if err != nil {
		tb.Fatal(err)
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		tb.Fatal(err)
	}
	l.delays = flight(tb, w, outward, rate, packets)
	return l
}

func mean(all []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return sum / time.Duration(len(all))
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
	arrived := make(chan []time.Duration)
	go func() { arrived <- receive(in, packets) }()
	sent := make(chan error)
	go func() { sent <- send(out, &unix.SockaddrInet4{Addr: toAddr.As4(), Port: benchPort}, rate, packets) }()
	err := <-sent
	all := <-arrived
	if err != nil {
		tb.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func datagrams(ns *at.Namespace, addr [4]byte) (fd int, err error) {
	err = ns.Do(func() error {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		timeout := unix.NsecToTimeval(time.Second.Nanoseconds())
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

// receive ends when all have come, or none for a second.
func receive(fd, packets int) []time.Duration {
	punctual()
	packet := make([]byte, 200)
	all := make([]time.Duration, 0, packets)
	for len(all) < packets {
		n, _, err := unix.Recvfrom(fd, packet, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return all
		case n >= 8:
			all = append(all, time.Duration(monotonic()-int64(binary.NativeEndian.Uint64(packet))))
		}
	}
	return all
}
