package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

const (
	// countersTries bounds how often the counters are asked for again when somebody changed nftables in between.
	countersTries = 3
	// countersRoom holds the largest part of a list that the kernel sends to one who has not shown it a larger buffer.
	countersRoom = 8 << 10
)

var errTorn = errors.New("nf_tables changed while its counters were read")

// Counters returns how many packets each named counter of the table has counted.
func (c *conn) Counters(t *nftables.Table) (map[string]uint64, error) {
	for try := 1; ; try++ {
		packets, err := c.readCounters(t)
		if !errors.Is(err, errTorn) || try == countersTries {
			return packets, err
		}
	}
}

// readCounters asks once. The first part of the list is there when the send returns, and each later one when the one before was read.
func (c *conn) readCounters(t *nftables.Table) (map[string]uint64, error) {
	c.header(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETOBJ, unix.NLM_F_DUMP, unix.NFPROTO_INET, 0)
	c.text(unix.NFTA_OBJ_TABLE, t.Name)
	c.number(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
	c.end()
	question := c.batch
	c.batch = c.batch[:0]
	if err := c.send(question); err != nil {
		return nil, fmt.Errorf("send to nf_tables: %w", err)
	}
	list := counterList{sequence: c.sequence, packets: map[string]uint64{}}
	if c.answer == nil {
		c.answer = make([]byte, countersRoom)
	}
	for !list.complete {
		n, _, err := unix.Recvfrom(c.fd, c.answer, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("read the answer of nf_tables: %w", err)
		}
		if err := list.take(c.answer[:n]); err != nil {
			return nil, err
		}
	}
	if list.torn {
		return nil, errTorn
	}
	return list.packets, nil
}

// counterList is what the kernel sends, message by message.
type counterList struct {
	sequence uint32 // of the question
	packets  map[string]uint64
	torn     bool // the kernel says that it is not of one instant
	complete bool
}

// take reads one datagram of netlink.
func (l *counterList) take(text []byte) error {
	for len(text) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(text))
		kind, flags := binary.NativeEndian.Uint16(text[4:]), binary.NativeEndian.Uint16(text[6:])
		if size < unix.SizeofNlMsghdr || size > len(text) {
			return errors.New("nf_tables sent a message that ends before its end")
		}
		if binary.NativeEndian.Uint32(text[8:]) == l.sequence { // else it is the rest of a list that was given up
			l.torn = l.torn || flags&unix.NLM_F_DUMP_INTR != 0
			body := text[unix.SizeofNlMsghdr:size]
			switch kind {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				l.complete = true
				if len(body) >= 4 {
					if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
						return unix.Errno(-code)
					}
				}
				return nil
			case unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWOBJ:
				l.counter(body[min(sizeofNfgenmsg, len(body)):])
			}
		}
		text = text[min(aligned(size), len(text)):]
	}
	return nil
}

// sizeofNfgenmsg is that of the header of a message of netfilter: family, version, resource.
const sizeofNfgenmsg = 4

// counter reads one object.
func (l *counterList) counter(object []byte) {
	var name string
	var packets uint64
	attributes(object, func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_OBJ_NAME:
			name = unix.ByteSliceToString(value)
		case unix.NFTA_OBJ_DATA:
			attributes(value, func(kind uint16, value []byte) {
				if kind == unix.NFTA_COUNTER_PACKETS && len(value) == 8 {
					packets = binary.BigEndian.Uint64(value)
				}
			})
		}
	})
	l.packets[name] = packets
}

// attributes goes through attributes of netlink until one is not whole.
func attributes(text []byte, each func(kind uint16, value []byte)) {
	for len(text) >= unix.NLA_HDRLEN {
		size := int(binary.NativeEndian.Uint16(text))
		if size < unix.NLA_HDRLEN || size > len(text) {
			return
		}
		each(binary.NativeEndian.Uint16(text[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), text[unix.NLA_HDRLEN:size])
		text = text[min(aligned(size), len(text)):]
	}
}
