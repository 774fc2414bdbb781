package remote

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockRounds is how often the host is asked for the time; the intervals are intersected, so more rounds only narrow the bound.
const clockRounds = 9

// clockSlack is by how much clocks may part while they are asked: they are slewed by half of a thousandth at most, and a busy machine may be asked
// for a second.
const clockSlack = time.Millisecond

// wallClock is the time without the monotonic clock: Go reads the two one after the other, and a thread that is interrupted in between would add a
// span to an instant that belong to different moments.
func wallClock() time.Time { return time.Now().Round(0) }

// ClockOffset measures the host's clock minus ours, and how far off that may be. It asks several times over one channel; each answer lies
// between its question and its arrival, and the result is the middle of what all the answers allow.
//
// A host whose date(1) knows no fractions gives a bound of half a second.
func (c *Client) ClockOffset(ctx context.Context) (offset, bound time.Duration, err error) {
	s, err := c.open(ctx, "exec /bin/sh -c "+quote(`while read -r _; do date +%s.%N; done`), false)
	if err != nil {
		return 0, 0, c.fail(ctx, "measure the clock", err)
	}
	defer s.channel.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.channel.Close() })
	defer stop()
	if offset, bound, err = ClockOver(s.channel, s.channel); err != nil {
		return 0, 0, c.fail(ctx, "measure the clock", err)
	}
	return offset, bound, nil
}

// ClockOver is ClockOffset of whoever answers each line with the time, in seconds since 1970 with a fraction.
func ClockOver(ask io.Writer, answers io.Reader) (offset, bound time.Duration, err error) {
	reader := bufio.NewReader(answers)
	low, high := time.Duration(math.MinInt64), time.Duration(math.MaxInt64)
	for range clockRounds {
		asked := wallClock()
		if _, err := io.WriteString(ask, "\n"); err != nil {
			return 0, 0, err
		}
		line, err := reader.ReadString('\n')
		if err != nil {
			return 0, 0, err
		}
		answered := wallClock()
		earliest, latest, err := readClock(line)
		if err != nil {
			return 0, 0, err
		}
		low = max(low, earliest.Sub(answered))
		high = min(high, latest.Sub(asked))
	}
	if low > high+clockSlack { // a clock was stepped between two answers
		return 0, 0, fmt.Errorf("a clock moved by %s meanwhile", (low - high).Round(time.Microsecond))
	}
	low, high = min(low, high), max(low, high)
	return low + (high-low)/2, (high - low + 1) / 2, nil
}

// readClock reads "seconds.nanoseconds" and returns the interval that it stands for; a date(1) without %N leaves out the fraction.
func readClock(line string) (earliest, latest time.Time, err error) {
	whole, fraction, _ := strings.Cut(strings.TrimSpace(line), ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return earliest, latest, fmt.Errorf("date answered %q", strings.TrimSpace(line))
	}
	nanoseconds, err := strconv.ParseInt(fraction, 10, 64)
	if err != nil || len(fraction) != 9 {
		earliest = time.Unix(seconds, 0)
		return earliest, earliest.Add(time.Second), nil
	}
	earliest = time.Unix(seconds, nanoseconds)
	return earliest, earliest, nil
}

// roundTrips is how often the host is asked: one slow answer may come of a busy host, not of a long way.
const roundTrips = 3

// RoundTrip measures how long the way to the host and back is at least. Over TCP the kernels know: their acknowledgements wait for nobody, while
// an answer of sshd on a busy host says more of the host than of the way.
func (c *Client) RoundTrip(ctx context.Context) (time.Duration, error) {
	if took, ok := kernelRoundTrip(c.socket); ok {
		return took, nil
	}
	least := time.Duration(math.MaxInt64)
	for range roundTrips {
		took, err := c.answerTime(ctx)
		if err != nil {
			return 0, err
		}
		least = min(least, took)
	}
	return least, nil
}

func kernelRoundTrip(conn net.Conn) (time.Duration, bool) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, false
	}
	var info *unix.TCPInfo
	if controlErr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); controlErr != nil || err != nil {
		return 0, false
	}
	took := time.Duration(info.Min_rtt) * time.Microsecond
	return took, took > 0 && info.Min_rtt != math.MaxUint32 // the kernel's words for not knowing
}

// answerTime measures how long the host takes to answer at all.
func (c *Client) answerTime(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	answered := make(chan error, 1)
	c.work.Go(func() { // a request takes no context; Close waits for it
		_, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	})
	select {
	case err := <-answered:
		return time.Since(began), c.fail(ctx, "measure the round trip", err)
	case <-ctx.Done():
		return 0, c.fail(ctx, "measure the round trip", context.Cause(ctx))
	}
}
