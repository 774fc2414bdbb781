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
)

const (
	benchDelay   = 100 * time.Millisecond
	benchPort    = 9998
	benchPackets = 20000
)

// BenchmarkDelay sends 5,000 and 20,000 packets a second to the attacked host and prints how far from 100 ms they come later than without
// an attack: in the mean, and the slowest hundredth. netem, set by hand, stands beside it where the kernel has it.
func BenchmarkDelay(b *testing.B) {
	for _, rate := range []int{5000, 20000} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			for b.Loop() {
				w := at.NewWorld(b)
				bare := flight(b, w, rate)
				a, err := w.Start(at.Spec{Args: []string{"--length=120", targets, "--ms=100", way}})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(a.Stop)
				if _, err := a.AwaitInForce(); err != nil {
					b.Fatal(err)
				}
				print(b, "queue", flight(b, w, rate), bare)
				a.Stop()
				byHand(b, rate)
				b.ReportMetric(0, "ns/op") // of no meaning here
			}
		})
	}
}

func byHand(b *testing.B, rate int) {
	b.Helper()
	w := at.NewWorld(b)
	bare := flight(b, w, rate)
	err := w.Peer.Do(func() error {
		return exec.Command("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "100ms", "limit", "100000").Run()
	})
	if err != nil {
		b.Logf("no netem here to compare with: %v", err)
		return
	}
	print(b, "netem", flight(b, w, rate), bare)
}

// print prints how much later than asked packets come, and how many do not.
func print(b *testing.B, name string, delays, bare []time.Duration) {
	b.Helper()
	if len(delays) == 0 || len(bare) == 0 {
		b.Fatalf("%s: nothing arrived", name)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(mean(delays)-mean(bare)-benchDelay), name+"_mean_error_ms")
	b.ReportMetric(ms(delays[len(delays)/2]-benchDelay), name+"_p50_over_ms")
	b.ReportMetric(ms(delays[len(delays)*99/100]-benchDelay), name+"_p99_over_ms")
	b.ReportMetric(100*float64(len(delays))/benchPackets, name+"_arrived_%")
	b.ReportMetric(ms(bare[len(bare)*99/100]), "bare_p99_ms")
}

func mean(all []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return sum / time.Duration(len(all))
}

// flight sends packets from the peer to the host, evenly spread, and returns how long each was on its way, sorted.
func flight(b *testing.B, w *at.World, rate int) []time.Duration {
	b.Helper()
	in, err1 := datagrams(w.Host, at.Host4.As4(), benchPort)
	out, err2 := datagrams(w.Peer, at.Target4.As4(), benchPort)
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	defer unix.Close(in)
	defer unix.Close(out)
	arrived := make(chan []time.Duration)
	go func() { arrived <- receive(in) }()
	sent := make(chan error)
	go func() { sent <- send(out, rate) }()
	err := <-sent
	all := <-arrived
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func datagrams(ns *at.Namespace, addr [4]byte, port int) (fd int, err error) {
	err = ns.Do(func() error {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		timeout := unix.NsecToTimeval(time.Second.Nanoseconds())
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: addr, Port: port}))
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

func send(fd, rate int) error {
	punctual()
	packet := make([]byte, 100)
	to := &unix.SockaddrInet4{Addr: at.Host4.As4(), Port: benchPort}
	next := monotonic()
	for range benchPackets {
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
func receive(fd int) []time.Duration {
	punctual()
	packet := make([]byte, 200)
	all := make([]time.Duration, 0, benchPackets)
	for len(all) < benchPackets {
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
