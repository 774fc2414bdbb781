package traffic

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/nfqueue"
)

// Effect is what happens to the packets that are targets. The zero value drops all of them, both ways, so that the path looks dead.
type Effect struct {
	Share float64 // percent of them that are hit, above 0 and up to 100; 0 means all
	// Connections says that the share is of connections, each of which is hit with all its packets or not at all.
	Connections bool
	Ramp        time.Duration // in which the share grows from nothing; 0 for at once
	Rate        uint64        // bytes a second that pass in each direction, the rest is hit; 0 means none
	Refuse      Refusal       // answered instead of dropped
	EgressOnly  bool          // what comes in is left alone
	// Treat is not the zero value when packets are delayed or corrupted instead of being lost. Plan decides in which way.
	Treat nfqueue.Treatment
	Way   Way
	// Wording is how a line begins that tells what is done to a target: "Dropping all".
	Wording string
}

// Refusal says how a packet is refused. The empty one is silence.
type Refusal string

// The ways to refuse.
const (
	RefuseICMP  Refusal = "icmp"  // ICMP administratively prohibited
	RefuseReset Refusal = "reset" // a TCP reset; what is not TCP gets ICMP port unreachable
)

const (
	// shareSteps is how finely a share is told apart: a ten-thousandth of a percent.
	shareSteps = 1_000_000
	// The allowance that may be saved up, on top of the second's worth that the kernel itself lets one save. A segment as TCP hands it to
	// the device is up to 64 KiB, and would never pass a smaller one.
	burstMin  = 128 << 10
	burstPart = 10 // of the rate, for rates where that is more
)

// answers says what a canary can expect.
func (e Effect) answers() attack.Answers {
	switch {
	case e.partial() || e.Rate > 0 || e.Treat.Delay > 0:
		return attack.AnswersSome
	case e.Refuse != "":
		return attack.AnswersRefusal
	}
	return attack.AnswersNone
}

func (e Effect) verb() string {
	what := "drop"
	switch e.Refuse {
	case RefuseICMP:
		what = "refuse (ICMP administratively prohibited)"
	case RefuseReset:
		what = "refuse (TCP reset, else ICMP port unreachable)"
	}
	if e.treats() {
		what = e.treatment()
	}
	what += e.portion()
	if e.Rate > 0 {
		what += " above " + RateString(e.Rate) + " each way the"
	}
	return what
}

// RateString prints bytes a second as bits a second.
func RateString(bytes uint64) string {
	bits := float64(bytes) * 8
	for _, unit := range []struct {
		name string
		size float64
	}{{"Gbit/s", 1e9}, {"Mbit/s", 1e6}, {"kbit/s", 1e3}} {
		if bits >= unit.size {
			return fmt.Sprintf("%g %s", bits/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%g bit/s", bits)
}

// admit lets pass what the share or the rate leaves alone. It comes after the spares, so that these use up nothing.
func (l *layout) admit(chain string) {
	e := l.cut.effect
	if l.cut.hooks.AllOfThem {
		return
	}
	if e.partial() {
		l.admitShare(chain)
	}
	if e.Rate > 0 {
		burst := uint32(min(max(e.Rate/burstPart, burstMin), 1<<31))
		l.add(chain, []expr.Any{&expr.Limit{Type: expr.LimitTypePktBytes, Rate: e.Rate, Unit: expr.LimitTimeSecond, Burst: burst}}, accept())
	}
}

// end is what happens to a packet that is hit, where it need not look as if it had left.
func (l *layout) end(chain string) {
	switch {
	case l.cut.hooks.NoneOfThem:
		l.add(chain, accept())
	case l.cut.effect.treats():
		l.treat(chain)
	case l.cut.effect.Refuse == RefuseReset:
		l.add(chain, protocolIs(unix.IPPROTO_TCP), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		l.add(chain, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}})
	case l.cut.effect.Refuse == RefuseICMP:
		l.add(chain, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}})
	default:
		l.add(chain, drop())
	}
}

// tcpReset is the bit in the 14th byte of a TCP header.
const tcpReset = 0x04

// refusals lets the refusals pass that the kernel sends to the target in our name.
func (l *layout) refusals(chain string) {
	if l.cut.effect.Refuse == "" || l.cut.hooks.OwnRefusals {
		return
	}
	reset := append(protocolIs(unix.IPPROTO_TCP), loadTransport(13, 1)...)
	l.add(chain, reset, []expr.Any{&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{tcpReset}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}}}, accept())
	for _, unreachable := range [][2]byte{{unix.IPPROTO_ICMP, 3}, {unix.IPPROTO_ICMPV6, 1}} {
		l.add(chain, protocolIs(unreachable[0]), loadTransport(0, 1),
			[]expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unreachable[1]}}}, accept())
	}
}

// wording returns how a line about a target begins.
func (e Effect) wording() string {
	if e.Wording == "" {
		return "Dropping all"
	}
	return strings.TrimSpace(e.Wording)
}
