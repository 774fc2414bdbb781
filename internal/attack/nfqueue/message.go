package nfqueue

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The kernel's words (linux/netfilter/nfnetlink_queue.h). All numbers in attributes are big-endian; lengths and types are the host's.
const (
	subsystem = unix.NFNL_SUBSYS_QUEUE << 8

	typePacket  = subsystem | 0
	typeVerdict = subsystem | 1
	typeConfig  = subsystem | 2

	configCommand = 1
	configParams  = 2
	configMaxLen  = 3
	configMask    = 4
	configFlags   = 5

	commandBind   = 1
	commandUnbind = 2

	copyMeta   = 1
	copyPacket = 2

	flagFailOpen = 1 << 0 // beyond the longest queue a packet passes, instead of being dropped
	flagGSO      = 1 << 2 // what the kernel has put together into one is handed out as one

	attrHeader  = 1
	attrVerdict = 2
	attrPayload = 10

	verdictAccept = 1

	typeMask = 0x3fff // the rest of an attribute's type are flags
)

const (
	headerSize  = unix.SizeofNlMsghdr
	genericSize = 4 // family, version, queue
	attrSize    = unix.SizeofNlAttr
)

// message begins a netlink message to a queue; end sets its length.
func begin(b []byte, kind uint16, flags uint16, queue uint16) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence and port: the kernel needs neither
	b = append(b, unix.AF_UNSPEC, unix.NFNETLINK_V0)
	return binary.BigEndian.AppendUint16(b, queue)
}

// end completes the message that starts at from.
func end(b []byte, from int) []byte {
	binary.NativeEndian.PutUint32(b[from:], uint32(len(b)-from))
	return pad(b)
}

func pad(b []byte) []byte {
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func attribute(b []byte, kind uint16, value ...byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrSize+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

func attribute32(b []byte, kind uint16, value uint32) []byte {
	return attribute(b, kind, byte(value>>24), byte(value>>16), byte(value>>8), byte(value))
}

// command asks to bind or unbind a queue.
func command(queue uint16, what byte) []byte {
	b := begin(nil, typeConfig, unix.NLM_F_ACK, queue)
	return end(attribute(b, configCommand, what, 0, 0, 0), 0)
}

// settings asks for copies of at most room bytes of a packet (0: none of its bytes), and bounds the queue.
func settings(queue uint16, room uint32, held uint32) []byte {
	mode, flags := byte(copyMeta), uint32(flagFailOpen|flagGSO)
	if room > 0 {
		// Without the flag the kernel hands out packets as they go over the wire: each by itself, and with its checksum.
		mode, flags = copyPacket, flagFailOpen
	}
	b := begin(nil, typeConfig, unix.NLM_F_ACK, queue)
	b = attribute(b, configParams, byte(room>>24), byte(room>>16), byte(room>>8), byte(room), mode)
	b = attribute32(b, configMaxLen, held)
	b = attribute32(b, configMask, flagFailOpen|flagGSO)
	return end(attribute32(b, configFlags, flags), 0)
}

// appendVerdict adds the message that lets a packet go on; a payload that is not nil takes the place of its bytes.
func appendVerdict(b []byte, queue uint16, id uint32, payload []byte) []byte {
	from := len(b)
	b = begin(b, typeVerdict, 0, queue)
	b = attribute(b, attrVerdict, 0, 0, 0, verdictAccept, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	if payload != nil {
		b = attribute(b, attrPayload, payload...)
	}
	return end(b, from)
}

// Packet is what the kernel tells of a packet in the queue.
type Packet struct {
	ID      uint32
	Payload []byte // from the network header on, within the buffer that was read; nil unless it was asked for
}

// parse returns the first packet in what was read, and the error number of the first answer that is one. What is neither is passed over:
// it comes from the kernel, and a newer one may say more.
func parse(b []byte) (p Packet, isPacket bool, failed unix.Errno, answered bool) {
	for len(b) >= headerSize {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerSize || size > len(b) {
			return Packet{}, false, 0, false
		}
		body := b[headerSize:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case typePacket:
			if p, ok := parsePacket(body); ok {
				return p, true, 0, false
			}
		case unix.NLMSG_ERROR:
			if len(body) >= 4 {
				return Packet{}, false, unix.Errno(-int32(binary.NativeEndian.Uint32(body))), true
			}
		}
		b = b[min(len(b), align(size)):]
	}
	return Packet{}, false, 0, false
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

func parsePacket(body []byte) (p Packet, ok bool) {
	if len(body) < genericSize {
		return Packet{}, false
	}
	for b := body[genericSize:]; len(b) >= attrSize; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < attrSize || size > len(b) {
			return Packet{}, false
		}
		value := b[attrSize:size]
		switch binary.NativeEndian.Uint16(b[2:]) & typeMask {
		case attrHeader:
			if len(value) < 4 {
				return Packet{}, false
			}
			p.ID, ok = binary.BigEndian.Uint32(value), true
		case attrPayload:
			p.Payload = value
		}
		b = b[min(len(b), align(size)):]
	}
	return p, ok
}
