package authority

import (
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/miekg/dns"
)

// The flag bits of a DNS header that decide whether a message is read at all.
const (
	headerResponse   = 1 << 15
	headerOpcodeMask = 0xF << 11
)

// accept sorts out messages by their header. Replies are ignored: answering them would let two servers talk for ever.
func accept(h dns.Header) dns.MsgAcceptAction {
	switch {
	case h.Bits&headerResponse != 0:
		return dns.MsgIgnore
	case h.Bits&headerOpcodeMask != dns.OpcodeQuery<<11:
		return dns.MsgRejectNotImplemented
	case h.Qdcount != 1 || h.Ancount != 0 || h.Nscount > 1 || h.Arcount > 2:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// handle answers one query. Whatever goes wrong in it, the client gets a reply.
func (s *Server) handle(w dns.ResponseWriter, query *dns.Msg) {
	now := time.Now()
	source := w.RemoteAddr()
	_, overTCP := source.(*net.TCPAddr)
	if !overTCP && !s.limit.admit(addressOf(source), now) {
		s.write(w, comeByTCP(query))
		return
	}
	if (query.IsTsig() != nil || isTransfer(query)) && s.handleSigned(w, query, now, overTCP) {
		return
	}
	s.write(w, s.compose(query, now, overTCP))
}

// compose returns the packed reply. A panic on the way costs what made it fail, not the answer: it is composed again by the plain way.
func (s *Server) compose(query *dns.Msg, now time.Time, overTCP bool) (packet []byte) {
	defer func() {
		if broken := recover(); broken != nil {
			s.log.Error("panic while answering", "question", questionText(query), "panic", fmt.Sprint(broken), "stack", string(debug.Stack()))
			packet = s.plain(query, overTCP)
		}
	}()
	if s.beforeAnswer != nil {
		s.beforeAnswer(query)
	}
	packet, err := s.zone.Answer(query, *s.decided.Load(), now, overTCP).Pack()
	if err != nil {
		s.log.Error("answer cannot be packed", "question", questionText(query), "error", err)
		return s.plain(query, overTCP)
	}
	return packet
}

// plain answers without anything that varies: no rotation, only the question in the additional sections' place. When even that fails it
// refuses, upon which a resolver asks the next server and remembers nothing.
func (s *Server) plain(query *dns.Msg, overTCP bool) (packet []byte) {
	defer func() {
		if recover() != nil {
			packet = refuse(query)
		}
	}()
	bare := new(dns.Msg)
	bare.MsgHdr = query.MsgHdr
	bare.Question = query.Question
	packet, err := s.zone.Answer(bare, *s.decided.Load(), time.Unix(0, 0), overTCP).Pack()
	if err != nil {
		return refuse(query)
	}
	return packet
}

func refuse(query *dns.Msg) []byte {
	reply := new(dns.Msg)
	reply.Id, reply.Response, reply.Rcode = query.Id, true, dns.RcodeRefused
	packet, err := reply.Pack()
	if err != nil {
		return nil // twelve bytes of header always pack
	}
	return packet
}

// comeByTCP is the reply to a source over its rate: truncated and no longer than the question, so that nobody is flooded through us, and
// a real client comes again by TCP, where its address is proven.
func comeByTCP(query *dns.Msg) []byte {
	reply := new(dns.Msg).SetReply(query)
	reply.Authoritative, reply.Truncated = true, true
	if query.IsEdns0() != nil {
		reply.SetEdns0(udpMax, false)
	}
	packet, err := reply.Pack()
	if err != nil {
		return refuse(query)
	}
	return packet
}

func (s *Server) write(w dns.ResponseWriter, packet []byte) {
	if _, err := w.Write(packet); err != nil {
		s.log.Debug("answer not sent", "to", w.RemoteAddr().String(), "error", err)
	}
}

func (s *Server) writeMessage(w dns.ResponseWriter, reply *dns.Msg) {
	if err := w.WriteMsg(reply); err != nil {
		s.log.Debug("answer not sent", "to", w.RemoteAddr().String(), "error", err)
	}
}

func questionText(query *dns.Msg) string {
	if len(query.Question) == 0 {
		return ""
	}
	return query.Question[0].String()
}
