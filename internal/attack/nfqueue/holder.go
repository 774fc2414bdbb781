package nfqueue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Treatment is what happens to each packet of a queue.
type Treatment struct {
	Delay   time.Duration // how long it is held
	Jitter  time.Duration // so much more or less, evenly spread; packets may overtake each other then, as netem's do
	Corrupt bool          // one bit of what follows its network header is flipped
}

// String prints the delay, as "100ms" or "100ms ± 20ms".
func (t Treatment) String() string {
	if t.Jitter == 0 {
		return t.Delay.String()
	}
	return t.Delay.String() + " ± " + t.Jitter.String()
}

// HeldMax bounds how many packets are held at once: 100 ms of 300,000 packets a second, and at 2 KiB for each 64 MiB of the kernel's memory.
const HeldMax = 32768

// first is the highest priority of an ordinary thread.
const first = -20

// readMax bounds how many packets are read before those that are due are looked at again.
const readMax = 64

// Hooks let tests plant bugs. The zero value changes nothing.
type Hooks struct {
	Keep    bool // planted bug: what is held when the attack ends is not released
	Instant bool // planted bug: packets are not held
	Whole   bool // planted bug: packets are not corrupted
}

// Holder treats the packets of one queue until Close.
type Holder struct {
	queue *Queue
	how   Treatment
	hooks Hooks
	wake  int           // an eventfd
	ended chan struct{} // closed when the thread has ended

	held waiting // belongs to the thread

	mu       sync.Mutex // guards the fields below
	draining bool
	closing  bool
	drained  chan struct{} // closed when draining and nothing is held
	figures  Figures
	failed   error
}

// Hold opens a queue and treats its packets. Errors are those of Open.
func Hold(near uint32, how Treatment, hooks Hooks) (*Holder, error) {
	queue, err := Open(near, how.Corrupt, HeldMax)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nfqueue: eventfd: %w", err), queue.Close())
	}
	h := &Holder{queue: queue, how: how, hooks: hooks, wake: wake, drained: make(chan struct{}), ended: make(chan struct{}), figures: newFigures()}
	go h.run() // Close waits for it
	return h, nil
}

// Number is the number of the queue, for the rule that sends packets here.
func (h *Holder) Number() uint16 { return h.queue.Number() }

// Figures returns what was held so far. It may be called after Close.
func (h *Holder) Figures() Figures {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.figures.clone()
}

// Ended is closed when the holder has ended, by Close or by an error: see Failed.
func (h *Holder) Ended() <-chan struct{} { return h.ended }

// Failed returns the error that has ended the holder, nil when there was none.
func (h *Holder) Failed() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// Drain releases all that is held, and from now on each packet at once. It returns when nothing is held, or after limit.
func (h *Holder) Drain(limit time.Duration) {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	h.poke()
	select {
	case <-h.drained:
	case <-time.After(limit):
	}
}

// Close ends the holder and gives the queue back. It may be called twice.
func (h *Holder) Close() error {
	h.mu.Lock()
	was := h.closing
	h.closing = true
	h.mu.Unlock()
	if was {
		<-h.ended
		return nil
	}
	h.poke()
	<-h.ended
	return unix.Close(h.wake)
}

func (h *Holder) poke() { _, _ = unix.Write(h.wake, []byte{0, 0, 0, 0, 0, 0, 0, 1}) }

// run is the thread that reads and releases.
func (h *Holder) run() {
	// A thread of its own, with the shortest slack that the kernel gives: a wait of 100 ms must not end 0.05 ms late by default. It goes
	// before others, or a busy host would add to the delay; without the right to, it goes with them.
	runtime.LockOSThread()
	defer close(h.ended)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, first)
	err := h.loop()
	// At once: with nobody left to read it, packets must pass.
	err = errors.Join(err, h.queue.Close())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = err
	h.finishDrain()
	// The goroutine ends while locked, and its thread with it: slack and priority are nobody else's.
}

// finishDrain tells Drain that it need not wait. h.mu is held.
func (h *Holder) finishDrain() {
	select {
	case <-h.drained:
	default:
		close(h.drained)
	}
}

func (h *Holder) loop() error {
	fds := []unix.PollFd{{Fd: int32(h.queue.fd), Events: unix.POLLIN}, {Fd: int32(h.wake), Events: unix.POLLIN}}
	for {
		draining, closing := h.orders()
		if closing {
			return nil
		}
		more, err := h.read(draining)
		if err != nil {
			return err
		}
		if err := h.release(time.Now(), draining); err != nil {
			return err
		}
		if more {
			continue
		}
		var timeout *unix.Timespec
		if next, ok := h.held.next(); ok {
			left := unix.NsecToTimespec(max(0, time.Until(next).Nanoseconds()))
			timeout = &left
		}
		if _, err := unix.Ppoll(fds, timeout, nil); err != nil && err != unix.EINTR {
			return fmt.Errorf("nfqueue: poll: %w", err)
		}
		if fds[1].Revents != 0 {
			_, _ = unix.Read(h.wake, make([]byte, 8))
		}
	}
}

func (h *Holder) orders() (draining, closing bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining, h.closing
}

// read takes what has come. more says that there may be more.
func (h *Holder) read(draining bool) (more bool, err error) {
	for range readMax {
		p, any, err := h.queue.Read()
		if err != nil || !any {
			return false, err
		}
		now := time.Now()
		entry := packet{id: p.ID, came: now, due: now}
		if !h.hooks.Instant && !draining {
			entry.due = now.Add(h.how.delay())
		}
		if h.how.Corrupt && !h.hooks.Whole && !draining {
			entry.payload = corrupt(p.Payload)
			if entry.due == now {
				// Nothing to wait for: no copy is needed.
				if err := h.giveBack(entry, now); err != nil {
					return false, err
				}
				continue
			}
			entry.payload = append([]byte(nil), entry.payload...)
		}
		h.held.push(entry)
	}
	return true, nil
}

// delay is how long the next packet is held.
func (t Treatment) delay() time.Duration {
	if t.Jitter == 0 {
		return t.Delay
	}
	return max(0, t.Delay+time.Duration(rand.Int64N(int64(2*t.Jitter)+1))-t.Jitter)
}

// release gives back what is due, in the order of time.
func (h *Holder) release(now time.Time, draining bool) error {
	if draining && h.hooks.Keep {
		return nil
	}
	for {
		next, ok := h.held.next()
		if !ok || !draining && next.After(now) {
			break
		}
		if err := h.giveBack(h.held.pop(), now); err != nil {
			return err
		}
	}
	if err := h.queue.Flush(); err != nil {
		return err
	}
	if draining {
		h.mu.Lock()
		h.finishDrain()
		h.mu.Unlock()
	}
	return nil
}

func (h *Holder) giveBack(p packet, now time.Time) error {
	h.queue.Release(p.id, p.payload)
	h.mu.Lock()
	h.figures.add(now.Sub(p.came), p.payload != nil)
	h.mu.Unlock()
	if h.queue.Full() {
		return h.queue.Flush()
	}
	return nil
}

// corrupt flips one bit of what follows the network header, in place. Addresses and lengths stay, so that the packet goes where it was
// going; its checksum is wrong from now on, as after a bad cable. A packet without anything to flip is returned as it is.
func corrupt(payload []byte) []byte {
	from := networkHeader(payload)
	if from >= len(payload) {
		return payload
	}
	payload[from+rand.IntN(len(payload)-from)] ^= 1 << rand.IntN(8)
	return payload
}

// networkHeader returns how long the IP header is.
func networkHeader(payload []byte) int {
	switch {
	case len(payload) == 0:
		return 0
	case payload[0]>>4 == 4:
		return int(payload[0]&0xf) * 4
	case payload[0]>>4 == 6:
		return 40
	}
	return 0
}
