package authority

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// fastMax bounds the remembered replies; what goes beyond it is composed each time.
const fastMax = 1 << 14

// Offsets and bits of a DNS message, RFC 1035.
const (
	headerSize     = 12
	flagRecursion  = 0x01 // in the third byte
	flagsPlain     = 0xFE // in the third byte: all but RD are zero in a plain query
	flagsLastPlain = 0xDF // in the fourth byte: all but AD are zero, which resolvers set as they like
	nameMax        = 255
	labelMax       = 63
	oneQuestion    = 1 << 48             // the four counts of a header as one number
	oneAndOPT      = oneQuestion | 1     // and an OPT record
	optSize        = 11                  // an OPT record without options
	controlSize    = 64                  // for one control message with addresses
	keySize        = nameMax + 2 + 2 + 1 // name, type, class, and what of EDNS matters
)

// fastTypes are what is asked for all the time. Others are composed: nobody can fill the memory with types that no name has.
var fastTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeMX, dns.TypeTXT, dns.TypeSRV, dns.TypeHTTPS}

// fastConn answers plain queries right where they are read, with replies that were composed once and are remembered as bytes; everything
// else is handed on. What it remembers is what was composed for the same question with the same options, so that it cannot say anything
// else; and it holds only until the next decision. Reading belongs to one goroutine.
//
// On a socket for every address of the host it also sees to it that a reply leaves from the address that was asked.
type fastConn struct {
	*net.UDPConn
	server *Server
	slow   bool // never answers itself: for tests, and to be compared with

	buffer  [readMax]byte
	control [controlSize]byte
	decided *Decided // for which the replies hold
	replies map[string]fastReply
	key     [keySize]byte
}

// fastReply is a remembered reply; no packet means that there is none to remember.
type fastReply struct{ packet []byte }

// fastPeer is who asked, and at which of our addresses.
type fastPeer struct {
	*net.UDPAddr
	address netip.AddrPort
	control []byte
}

// newFastConn takes over an open socket.
func newFastConn(conn *net.UDPConn, server *Server) (*fastConn, error) {
	f := &fastConn{UDPConn: conn, server: server, slow: server.beforeAnswer != nil, replies: map[string]fastReply{}}
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok || !local.IP.IsUnspecified() {
		return f, nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var set error
	err = raw.Control(func(descriptor uintptr) {
		if domain, domainErr := unix.GetsockoptInt(int(descriptor), unix.SOL_SOCKET, unix.SO_DOMAIN); domainErr == nil && domain == unix.AF_INET6 {
			set = unix.SetsockoptInt(int(descriptor), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			return
		}
		set = unix.SetsockoptInt(int(descriptor), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
	if err == nil {
		err = set
	}
	return f, err
}

// ReadFrom returns the next packet that is not answered here. It implements net.PacketConn.
func (f *fastConn) ReadFrom(into []byte) (int, net.Addr, error) {
	for {
		count, controls, _, peer, err := f.ReadMsgUDPAddrPort(f.buffer[:], f.control[:])
		if err != nil {
			return 0, nil, err
		}
		control := sourceControl(f.control[:controls])
		if reply := f.answer(f.buffer[:count], peer.Addr()); reply != nil {
			if _, _, err := f.WriteMsgUDPAddrPort(reply, control, peer); err != nil {
				f.server.log.Debug("answer not sent", "to", peer.String(), "error", err)
			}
			continue
		}
		return copy(into, f.buffer[:count]), &fastPeer{UDPAddr: net.UDPAddrFromAddrPort(peer), address: peer, control: slices.Clone(control)}, nil
	}
}

// WriteTo sends a reply to a peer that ReadFrom returned. It implements net.PacketConn, and may be called from any goroutine.
func (f *fastConn) WriteTo(packet []byte, to net.Addr) (int, error) {
	peer, ok := to.(*fastPeer)
	if !ok {
		return f.UDPConn.WriteTo(packet, to)
	}
	count, _, err := f.WriteMsgUDPAddrPort(packet, peer.control, peer.address)
	return count, err
}

// sourceControl turns the control message that says at which address and interface a packet came into one that lets the reply leave from that
// address, by whatever interface the routes say. Without such a message there is none.
func sourceControl(control []byte) []byte {
	if len(control) < unix.SizeofCmsghdr {
		return nil
	}
	header := control[:unix.SizeofCmsghdr]
	level := binary.NativeEndian.Uint32(header[unix.SizeofCmsghdr-8:])
	kind := binary.NativeEndian.Uint32(header[unix.SizeofCmsghdr-4:])
	body := control[unix.SizeofCmsghdr:]
	switch {
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
		clear(body[:4]) // the interface
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(body) >= unix.SizeofInet6Pktinfo:
		if address := netip.AddrFrom16([16]byte(body[:16])); !address.IsLinkLocalUnicast() {
			clear(body[16:20])
		}
	default:
		return nil
	}
	return control
}

// answer returns the reply to a packet, nil when it has to be composed by the long way. The reply holds until the next call.
func (f *fastConn) answer(packet []byte, source netip.Addr) (reply []byte) {
	if f.slow {
		return nil
	}
	defer func() {
		if broken := recover(); broken != nil {
			f.server.log.Error("panic while answering at once", "packet", fmt.Sprintf("%x", packet), "panic", fmt.Sprint(broken), "stack", string(debug.Stack()))
			reply = nil
		}
	}()
	key, name := f.plain(packet)
	if key == nil {
		return nil
	}
	if now := f.server.decided.Load(); now != f.decided {
		f.decided = now
		clear(f.replies)
	}
	remembered, known := f.replies[string(key)]
	if !known && len(f.replies) < fastMax {
		remembered = f.server.memorable(packet, *f.decided)
		if remembered.packet != nil {
			f.replies[string(key)] = remembered
		}
	}
	if remembered.packet == nil || !f.server.limit.admit(source, time.Now()) {
		return nil // over its rate: the long way has no token for it either, and says how to come again
	}
	reply = remembered.packet
	copy(reply[:2], packet[:2])
	reply[2] = reply[2]&^flagRecursion | packet[2]&flagRecursion
	copy(reply[headerSize:headerSize+name], packet[headerSize:]) // the question's own writing; records point there
	return reply
}

// plain returns what tells a query from those with another answer, and the length of its name with the last zero; nil when it is not plain:
// one question of class IN and of a common type, at most an OPT record of the usual size without options, and nothing behind.
func (f *fastConn) plain(packet []byte) (key []byte, name int) {
	if len(packet) < headerSize+1+4 || packet[2]&flagsPlain != 0 || packet[3]&flagsLastPlain != 0 {
		return nil, 0
	}
	end := headerSize
	for packet[end] != 0 {
		length := int(packet[end])
		if length > labelMax { // a pointer, or nonsense
			return nil, 0
		}
		end += 1 + length
		if end-headerSize >= nameMax || end+4 >= len(packet) {
			return nil, 0
		}
	}
	end++
	name = end - headerSize
	if len(packet) < end+4 || binary.BigEndian.Uint16(packet[end+2:]) != dns.ClassINET || !slices.Contains(fastTypes, binary.BigEndian.Uint16(packet[end:])) {
		return nil, 0
	}
	for i, c := range packet[headerSize:end] {
		if c >= 'A' && c <= 'Z' { // the length of a label is below them
			c += 'a' - 'A'
		}
		f.key[i] = c
	}
	at := name + copy(f.key[name:], packet[end:end+4])
	options, plain := plainOptions(packet[end+4:], binary.BigEndian.Uint64(packet[4:headerSize]))
	if !plain {
		return nil, 0
	}
	f.key[at] = options
	return f.key[:at+1], name
}

// plainOptions reads what follows the question, given the four counts of the header: nothing, or an OPT record with a root name, version 0, no
// flag but DO, no option, and room for our largest answer. It returns a byte that tells their replies apart.
func plainOptions(rest []byte, counts uint64) (key byte, plain bool) {
	switch {
	case counts == oneQuestion:
		return 0, len(rest) == 0
	case counts != oneAndOPT || len(rest) != optSize:
		return 0, false
	}
	plain = rest[0] == 0 && binary.BigEndian.Uint16(rest[1:]) == dns.TypeOPT && binary.BigEndian.Uint16(rest[3:]) >= udpMax &&
		rest[5] == 0 && rest[6] == 0 && rest[7]&0x7F == 0 && rest[8] == 0 && rest[9] == 0 && rest[10] == 0
	return 1 | rest[7], plain
}

// memorable composes the reply to a plain query if it is one to remember: the name exists, and its answer changes by decisions alone.
func (s *Server) memorable(packet []byte, decided Decided) fastReply {
	query := new(dns.Msg)
	if query.Unpack(packet) != nil || len(query.Question) != 1 {
		return fastReply{}
	}
	reply, varies := s.zone.answer(query, decided, time.Time{}, false)
	if varies || reply.Rcode != dns.RcodeSuccess {
		return fastReply{}
	}
	packed, err := reply.Pack()
	if err != nil || len(packed) < headerSize {
		return fastReply{}
	}
	return fastReply{packet: packed}
}
