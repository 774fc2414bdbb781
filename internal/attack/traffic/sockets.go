package traffic

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// socket is one TCP or UDP socket of this network namespace.
type socket struct {
	protocol      byte // unix.IPPROTO_TCP or UDP
	local, remote netip.AddrPort
	uid           uint32
	inode         uint32 // 0 when no process holds it any more
}

// States of sockets, as bits. A UDP socket without a peer is "closed", as the kernel has it.
const (
	stateClosed = 1 << 7
	stateListen = 1 << 10
	stateAny    = 1<<12 - 1
)

// diagQuestion asks for all sockets of a family and protocol: struct inet_diag_req_v2.
type diagQuestion struct {
	family, protocol byte
	states           uint32
}

// The sizes of struct inet_diag_req_v2 and inet_diag_msg.
const (
	diagQuestionSize = 56
	diagAnswerSize   = 72
)

// Len implements nl.NetlinkRequestData.
func (diagQuestion) Len() int { return diagQuestionSize }

// Serialize implements nl.NetlinkRequestData.
func (q diagQuestion) Serialize() []byte {
	raw := make([]byte, diagQuestionSize)
	raw[0], raw[1] = q.family, q.protocol
	binary.NativeEndian.PutUint32(raw[4:], q.states)
	return raw
}

// waiting lists the sockets that are bound to a port and have no peer: those that listen, and those of UDP without one.
func waiting() ([]socket, error) {
	listening, err := sockets(unix.IPPROTO_TCP, stateListen)
	if err != nil {
		return nil, err
	}
	bound, err := sockets(unix.IPPROTO_UDP, stateClosed)
	return append(listening, bound...), err
}

// sockets asks the kernel for the sockets of the calling thread's network namespace.
func sockets(protocol byte, states uint32) ([]socket, error) {
	var all []socket
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		request.AddData(diagQuestion{family: family, protocol: protocol, states: states})
		answers, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil {
			return nil, fmt.Errorf("traffic: list sockets: %w", err)
		}
		for _, raw := range answers {
			if s, ok := parseSocket(raw); ok {
				s.protocol = protocol
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// parseSocket reads struct inet_diag_msg.
func parseSocket(raw []byte) (socket, bool) {
	if len(raw) < diagAnswerSize {
		return socket{}, false
	}
	size := 4
	if raw[0] == unix.AF_INET6 {
		size = 16
	}
	local, _ := netip.AddrFromSlice(raw[8 : 8+size])
	remote, _ := netip.AddrFromSlice(raw[24 : 24+size])
	return socket{
		local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(raw[4:])),
		remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(raw[6:])),
		uid:    binary.NativeEndian.Uint32(raw[64:]),
		inode:  binary.NativeEndian.Uint32(raw[68:]),
	}, true
}
