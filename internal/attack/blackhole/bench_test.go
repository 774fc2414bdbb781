package blackhole

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
)

// list writes n addresses of which the first and the last can be tried, and returns them as lines and as elements of an nft set.
func list(tb testing.TB, n int) (file, elements string) {
	tb.Helper()
	addrs := make([]string, 0, n)
	for i := range n - 1 {
		addrs = append(addrs, fmt.Sprintf("172.%d.%d.%d", 16+i/65536, i/256%256, i%256))
	}
	if n > 1 {
		addrs[0] = at.Other4.String()
	}
	addrs = append(addrs, at.Target4.String())
	file = filepath.Join(tb.TempDir(), "list")
	if err := os.WriteFile(file, []byte(strings.Join(addrs, "\n")), 0o644); err != nil {
		tb.Fatal(err)
	}
	return file, strings.Join(addrs, ",")
}

// pingPong sends a datagram, waits for it to come back, and again, until one does not: it returns when that one was sent.
func pingPong(conn net.Conn, stop <-chan struct{}) (time.Time, error) {
	buffer := make([]byte, 64)
	for {
		sent := time.Now()
		_ = conn.SetReadDeadline(sent.Add(silentFor))
		if _, err := conn.Write([]byte("x")); err != nil {
			return sent, nil // nft's own drop in output makes the sender fail: that is a drop too
		}
		if _, err := conn.Read(buffer); err != nil {
			return sent, nil
		}
		select {
		case <-stop:
			return time.Time{}, errors.New("it ended, and nothing was dropped")
		case <-time.After(pingEvery): // or the probe itself takes the processor that is measured
		}
	}
}

// pingEvery is how exact the figures are.
const pingEvery = 100 * time.Microsecond

// silentFor is long against a round trip of 30 us, also when the process is held up.
const silentFor = 100 * time.Millisecond

func dialUDP(tb testing.TB, w *at.World, to netip.Addr) net.Conn {
	tb.Helper()
	var conn net.Conn
	if err := w.Host.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(to, at.Port).String())
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// settle lets the kernel finish in the background what the other side's table left it to do, or each would wait for the one before it.
const settle = 50 * time.Millisecond

// pairsMin is how often each side is measured at least: the machine may be busy, and medians of few say little.
const pairsMin = 31

// flowPairsMin is the same for a flow, which takes longer.
const flowPairsMin = 11

// BenchmarkExecToDrop compares, in one run and by turns, the time from exec of the program as it is shipped to the first dropped packet, and
// to the last address dropped, with that of "nft -f" and the same addresses in a hash set.
func BenchmarkExecToDrop(b *testing.B) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		b.Skip("there is no nft to compare with")
	}
	program := at.Ship(b)
	for _, n := range []int{1, 1000, 100000} {
		b.Run(fmt.Sprintf("addresses=%d", n), func(b *testing.B) {
			w := at.NewWorld(b)
			file, elements := list(b, n)
			script := filepath.Join(b.TempDir(), "script")
			rules := "table inet peer {\n set s { type ipv4_addr; elements = { " + elements + " } }\n" +
				" chain out { type filter hook output priority -150; ip daddr @s drop; }\n chain in { type filter hook prerouting priority -300; ip saddr @s drop; }\n}\n"
			if err := os.WriteFile(script, []byte(rules), 0o644); err != nil {
				b.Fatal(err)
			}
			var first, last, peer []time.Duration
			for pairs := 0; pairs < pairsMin || b.Loop(); pairs++ {
				<-time.After(settle)
				f, l := oursToDrop(b, w, program, file, n)
				first, last = append(first, f), append(last, l)
				<-time.After(settle)
				peer = append(peer, nftToDrop(b, w, nft, script))
			}
			b.ReportMetric(milliseconds(median(first)), "first-ms")
			b.ReportMetric(milliseconds(median(last)), "all-ms")
			b.ReportMetric(milliseconds(median(peer)), "nft-ms")
			b.ReportMetric(float64(median(first))/float64(median(peer)), "first/nft")
			b.ReportMetric(float64(median(last))/float64(median(peer)), "all/nft")
			// Of the fastest fifth of each, which the rest of a busy machine disturbed least.
			b.ReportMetric(float64(first[len(first)/5])/float64(peer[len(peer)/5]), "fifth/nft")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func oursToDrop(b *testing.B, w *at.World, program, file string, n int) (first, last time.Duration) {
	b.Helper()
	probes := []netip.Addr{at.Target4}
	if n > 1 {
		probes = append(probes, at.Other4)
	}
	times := make(chan time.Time, 2)
	stop := make(chan struct{})
	for _, to := range probes {
		conn := dialUDP(b, w, to)
		go func() {
			when, err := pingPong(conn, stop)
			if err != nil {
				b.Error(err)
			}
			times <- when
		}()
	}
	attack := exec.Command(program, "attack", "blackhole", "-l", "60", "-i", "@"+file)
	began := time.Now()
	if err := w.Host.Do(attack.Start); err != nil {
		b.Fatal(err)
	}
	for i := range probes {
		took := (<-times).Sub(began)
		if i == 0 {
			first = took
		}
		last = max(last, took)
	}
	_ = attack.Process.Kill()
	_ = attack.Wait() // killed
	close(stop)
	return first, last
}

func nftToDrop(b *testing.B, w *at.World, nft, script string) time.Duration {
	b.Helper()
	conn := dialUDP(b, w, at.Target4)
	times := make(chan time.Time, 1)
	stop := make(chan struct{})
	go func() {
		when, err := pingPong(conn, stop)
		if err != nil {
			b.Error(err)
		}
		times <- when
	}()
	began := time.Now()
	run := func(args ...string) {
		if err := w.Host.Do(exec.Command(nft, args...).Run); err != nil {
			b.Fatalf("nft %v: %v", args, err)
		}
	}
	run("-f", script)
	took := (<-times).Sub(began)
	close(stop)
	run("delete", "table", "inet", "peer")
	return took
}

// BenchmarkKillToAnswer measures the time from SIGKILL to the first answered packet.
func BenchmarkKillToAnswer(b *testing.B) {
	for _, n := range []int{1, 1000, 10000, 100000} {
		b.Run(fmt.Sprintf("addresses=%d", n), func(b *testing.B) {
			w := at.NewWorld(b)
			file, _ := list(b, n)
			conn := dialUDP(b, w, at.Target4)
			var took []time.Duration
			for b.Loop() {
				a, err := w.Start(at.Spec{Args: []string{"--length=60", "--ipaddress=@" + file}})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := a.AwaitInForce(); err != nil {
					b.Fatal(err)
				}
				killed := time.Now()
				if err := a.Signal(unix.SIGKILL); err != nil {
					b.Fatal(err)
				}
				took = append(took, firstAnswer(b, conn).Sub(killed))
				a.Stop()
			}
			b.ReportMetric(milliseconds(median(took)), "ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// firstAnswer sends every 100 us until something comes back.
func firstAnswer(b *testing.B, conn net.Conn) time.Time {
	b.Helper()
	buffer := make([]byte, 64)
	for range 200000 {
		if _, err := conn.Write([]byte("x")); err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
		if _, err := conn.Read(buffer); err == nil {
			return time.Now()
		}
	}
	b.Fatal("no answer after the kill")
	return time.Time{}
}

// BenchmarkIdle prints what it costs to keep a target cut off that nobody talks to.
func BenchmarkIdle(b *testing.B) {
	at.Idle(b, at.NewWorld(b), "--ipaddress="+at.Target4.String())
}

// BenchmarkUntouchedFlow compares the rate of a TCP flow that is no target, with and without 100,000 targets in force.
func BenchmarkUntouchedFlow(b *testing.B) {
	w := at.NewWorld(b)
	file, _ := list(b, 100000)
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	// The flow goes to an address that is not in the list.
	list := strings.Replace(string(text), at.Other4.String()+"\n", "", 1)
	if err := os.WriteFile(file, []byte(list), 0o644); err != nil {
		b.Fatal(err)
	}
	flow := newStream(b, w)
	var with, without []time.Duration
	// One pair alone says nothing on a busy machine: ten of them lay between 0.75 and 1.56.
	for pairs := 0; pairs < flowPairsMin || b.Loop(); pairs++ {
		without = append(without, flow.send(b))
		a, err := w.Start(at.Spec{Args: []string{"--length=60", "--ipaddress=@" + file}})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.AwaitInForce(); err != nil {
			b.Fatal(err)
		}
		with = append(with, flow.send(b))
		a.Stop()
	}
	b.ReportMetric(float64(streamBytes)*8/median(with).Seconds()/1e9, "with-Gbit/s")
	b.ReportMetric(float64(streamBytes)*8/median(without).Seconds()/1e9, "without-Gbit/s")
	b.ReportMetric(float64(median(without))/float64(median(with)), "with/without")
	b.ReportMetric(0, "ns/op")
}

const streamBytes = 512 << 20

type stream struct{ conn net.Conn }

func newStream(b *testing.B, w *at.World) stream {
	b.Helper()
	var listener net.Listener
	if err := w.Peer.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(at.Other4, 5001).String())
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for { // takes what comes, and says so once for each round
			if _, err := io.CopyN(io.Discard, conn, streamBytes); err != nil {
				return
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				return
			}
		}
	}()
	conn, err := w.Host.Open(at.Other4, 5001, 5*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return stream{conn: conn}
}

func (s stream) send(b *testing.B) time.Duration {
	b.Helper()
	block := make([]byte, 256<<10)
	began := time.Now()
	for range streamBytes / len(block) {
		if _, err := s.conn.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := s.conn.Read(make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}
