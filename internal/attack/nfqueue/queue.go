package nfqueue

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// numberFirst and numberCount bound the numbers that we take: far from 0 and the small ones that people choose for their own queues.
	numberFirst = 40000
	numberCount = 20000
	numberTries = 32 // taken by others so many times in a row, something else is wrong

	// receiveRoom is what the kernel may have told and we have not read yet: a tenth of a second of 20,000 packets a second.
	receiveRoom = 8 << 20
	// packetMax is the largest that the kernel hands out, with room for what is told beside it.
	packetMax   = 1<<16 + 1024
	payloadMax  = 0xffff
	sendTimeout = time.Second
)

// Queue is one queue of this network namespace, bound to us until Close or our death. It is used from one goroutine at a time.
type Queue struct {
	fd     int
	number uint16
	in     []byte
	out    []byte
}

// Open binds a queue that nobody has; near chooses where the search for its number begins. payload asks for the bytes of each packet. The
// kernel keeps at most held packets for us and lets pass what is beyond. Errors wrap those of the kernel: EPERM without CAP_NET_ADMIN,
// EPROTONOSUPPORT or EINVAL where it has no queues.
func Open(near uint32, payload bool, held uint32) (*Queue, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("nfqueue: socket: %w", err)
	}
	q := &Queue{fd: fd, in: make([]byte, packetMax)}
	if err := q.bind(near, payload, held); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return q, nil
}

func (q *Queue) bind(near uint32, payload bool, held uint32) error {
	if err := unix.Bind(q.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("nfqueue: bind: %w", err)
	}
	timeout := unix.NsecToTimeval(sendTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(q.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fmt.Errorf("nfqueue: %w", err)
	}
	// Forcing needs a right over the whole machine; without it the kernel's own limit holds, and what does not fit passes undelayed.
	if unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveRoom) != nil {
		_ = unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveRoom)
	}
	// What the kernel could not tell us of it lets pass; there is nothing to do about it.
	_ = unix.SetsockoptInt(q.fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1)
	for try := range uint32(numberTries) {
		q.number = uint16(numberFirst + (near+try)%numberCount)
		err := q.ask(command(q.number, commandBind))
		if err == nil {
			break
		}
		// A queue of somebody else is answered like a missing right.
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EBUSY) || try == numberTries-1 {
			return fmt.Errorf("nfqueue: bind queue %d: %w", q.number, err)
		}
	}
	room := uint32(0)
	if payload {
		room = payloadMax
	}
	if err := q.ask(settings(q.number, room, held)); err != nil {
		return fmt.Errorf("nfqueue: set up queue %d: %w", q.number, err)
	}
	return nil
}

// ask sends a message and waits for the kernel's answer. No packet can come meanwhile: no rule leads to this queue yet.
func (q *Queue) ask(message []byte) error {
	if err := unix.Sendto(q.fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(q.fd, q.in, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if _, _, failed, answered := parse(q.in[:n]); answered {
			if failed != 0 {
				return failed
			}
			return nil
		}
	}
}

// Number is the number that a rule has to name.
func (q *Queue) Number() uint16 { return q.number }

// Read returns the next packet, false when there is none now. Its payload is valid until the next Read.
func (q *Queue) Read() (Packet, bool, error) {
	for {
		n, _, err := unix.Recvfrom(q.fd, q.in, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return Packet{}, false, nil
		case err == unix.ENOBUFS:
			continue // what was lost passed
		case err != nil:
			return Packet{}, false, fmt.Errorf("nfqueue: read: %w", err)
		}
		if p, isPacket, _, _ := parse(q.in[:n]); isPacket {
			return p, true, nil
		}
		// An answer: the verdict came too late, because the kernel has let the packet go.
	}
}

// Release adds the verdict that a packet goes on, with payload in the place of its bytes unless that is nil. Flush sends it.
func (q *Queue) Release(id uint32, payload []byte) {
	q.out = appendVerdict(q.out, q.number, id, payload)
}

// outMax is when what was added should be sent.
const outMax = 32 << 10

// Full reports whether Flush is due.
func (q *Queue) Full() bool { return len(q.out) >= outMax }

// Flush sends all verdicts that were added.
func (q *Queue) Flush() error {
	if len(q.out) == 0 {
		return nil
	}
	var err error
	for {
		if err = unix.Sendto(q.fd, q.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != unix.EINTR {
			break
		}
	}
	q.out = q.out[:0]
	if err != nil {
		return fmt.Errorf("nfqueue: verdict: %w", err)
	}
	return nil
}

// Close gives the queue back. What the kernel still keeps for it is dropped.
func (q *Queue) Close() error { return unix.Close(q.fd) }
