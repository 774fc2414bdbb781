package nfqueue

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// told is a message of the kernel about a packet.
func told(id uint32, payload []byte) []byte {
	b := begin(nil, typePacket, 0, 7)
	b = attribute(b, 5, 0, 0, 0, 1) // the device it came in by, which we do not look at
	b = attribute(b, attrHeader, byte(id>>24), byte(id>>16), byte(id>>8), byte(id), 8, 0, 1)
	if payload != nil {
		b = attribute(b, attrPayload, payload...)
	}
	return end(b, 0)
}

func answer(number unix.Errno) []byte {
	b := begin(nil, unix.NLMSG_ERROR, 0, 0)[:headerSize]
	return end(binary.NativeEndian.AppendUint32(b, uint32(-int32(number))), 0)
}

func TestWhatTheKernelTellsIsRead(t *testing.T) {
	for _, payload := range [][]byte{nil, {0x45}, bytes.Repeat([]byte{1}, 1501)} {
		p, ok, _, _ := parse(told(70000, payload))
		if !ok || p.ID != 70000 || !bytes.Equal(p.Payload, payload) {
			t.Errorf("payload of %d bytes is %+v, %v", len(payload), p, ok)
		}
	}
	if _, ok, failed, answered := parse(answer(unix.EPERM)); ok || !answered || failed != unix.EPERM {
		t.Errorf("an answer is %v, %v, %v", ok, answered, failed)
	}
	if _, _, failed, answered := parse(answer(0)); !answered || failed != 0 {
		t.Errorf("a good answer is %v, %v", answered, failed)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(told(1, []byte{0x45, 0, 0}))
	f.Add(answer(unix.EPERM))
	f.Add(appendVerdict(nil, 40000, 3, []byte("abc")))
	f.Add([]byte{255, 255, 255, 255, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, _, _, _ := parse(b)
		if len(p.Payload) > len(b) {
			t.Errorf("a payload of %d bytes out of %d", len(p.Payload), len(b))
		}
		corrupt(bytes.Clone(p.Payload))
	})
}

func TestPacketsGoOnInTheOrderOfTheirTime(t *testing.T) {
	var w waiting
	begin := time.Now()
	random := rand.New(rand.NewPCG(1, 2))
	for id := range uint32(1000) {
		w.push(packet{id: id, due: begin.Add(time.Duration(random.IntN(50)) * time.Millisecond)})
	}
	last := packet{due: begin.Add(-1)}
	for range 1000 {
		due, ok := w.next()
		p := w.pop()
		if !ok || !p.due.Equal(due) || p.due.Before(last.due) || p.due.Equal(last.due) && p.id < last.id {
			t.Fatalf("after %d at %s comes %d at %s", last.id, last.due, p.id, p.due)
		}
		last = p
	}
	if _, ok := w.next(); ok {
		t.Error("something is left")
	}
}

func TestOneBitIsFlippedBehindTheNetworkHeader(t *testing.T) {
	for header, version := range map[int]byte{20: 0x45, 24: 0x46, 40: 0x60} {
		whole := make([]byte, header+30)
		whole[0] = version
		for range 1000 {
			broken := corrupt(bytes.Clone(whole))
			flipped := 0
			for i := range broken {
				flipped += bits.OnesCount8(broken[i] ^ whole[i])
			}
			if flipped != 1 || !bytes.Equal(broken[:header], whole[:header]) {
				t.Fatalf("of %x became %x", whole, broken)
			}
		}
	}
	if alone := []byte{0x45, 0, 0}; !bytes.Equal(corrupt(bytes.Clone(alone)), alone) {
		t.Error("a packet that is no more than its header was changed")
	}
}

func TestPercentilesAreExactToAThousandth(t *testing.T) {
	f := newFigures()
	for i := range 10000 {
		f.add(time.Duration(i+1)*10*time.Microsecond, false)
	}
	near := func(got, want time.Duration) bool {
		return got >= want-want/500-time.Microsecond && got <= want+want/500+10*time.Microsecond
	}
	for share, want := range map[float64]time.Duration{0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond, 0.001: 100 * time.Microsecond} {
		if got := f.Percentile(share); !near(got, want) {
			t.Errorf("percentile %g is %s, want %s", share, got, want)
		}
	}
	if !near(f.Mean(), 50*time.Millisecond) || f.Max != 100*time.Millisecond || f.Percentile(1) != f.Max {
		t.Errorf("mean %s, longest %s", f.Mean(), f.Max)
	}
	if empty := newFigures(); empty.Mean() != 0 || empty.Percentile(0.99) != 0 {
		t.Errorf("nothing held is %+v", empty)
	}
	for _, d := range []time.Duration{0, -1, time.Hour, 100 * time.Hour, 1 << 62} {
		if at := class(d); at < 0 || at >= classMax {
			t.Errorf("%s is of class %d", d, at)
		}
	}
}

func TestJitterSpreadsBothWays(t *testing.T) {
	how := Treatment{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond}
	least, most := time.Hour, time.Duration(0)
	for range 10000 {
		d := how.delay()
		least, most = min(least, d), max(most, d)
	}
	if least < 0 || least > time.Millisecond || most > 20*time.Millisecond || most < 19*time.Millisecond {
		t.Errorf("between %s and %s", least, most)
	}
}
