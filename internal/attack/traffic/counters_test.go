package traffic

import (
	"encoding/binary"
	"errors"
	"maps"
	"testing"

	"golang.org/x/sys/unix"
)

const asked = 7 // the number of the question

// message is one of netlink, padded as the kernel does.
func message(kind, flags uint16, sequence uint32, body []byte) []byte {
	text := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	text = binary.NativeEndian.AppendUint16(text, kind)
	text = binary.NativeEndian.AppendUint16(text, flags)
	text = binary.NativeEndian.AppendUint32(text, sequence)
	text = append(binary.NativeEndian.AppendUint32(text, 0), body...)
	return append(text, make([]byte, aligned(len(text))-len(text))...)
}

// counted is what the kernel says of one counter.
func counted(name string, packets uint64, flags uint16, sequence uint32) []byte {
	c := &conn{batch: []byte{unix.NFPROTO_INET, 0, 0, 0}}
	c.text(unix.NFTA_OBJ_TABLE, "firedrill-x")
	c.text(unix.NFTA_OBJ_NAME, name)
	c.number(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
	data := c.nest(unix.NFTA_OBJ_DATA)
	c.bytes(unix.NFTA_COUNTER_BYTES, binary.BigEndian.AppendUint64(nil, 60*packets))
	c.bytes(unix.NFTA_COUNTER_PACKETS, binary.BigEndian.AppendUint64(nil, packets))
	c.close(data)
	return message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWOBJ, unix.NLM_F_MULTI|flags, sequence, c.batch)
}

func done(code unix.Errno) []byte {
	return message(unix.NLMSG_DONE, unix.NLM_F_MULTI, asked, binary.NativeEndian.AppendUint32(nil, uint32(-int32(code))))
}

// misread are the answers that a reader takes wrongly.
func misread(take func(*counterList, []byte) error) (wrong []string) {
	one, two := counted("egress", 5, 0, asked), counted("ingress", 1<<40, 0, asked)
	both := map[string]uint64{"egress": 5, "ingress": 1 << 40}
	short := done(0)
	binary.NativeEndian.PutUint32(short, 4)
	for name, c := range map[string]struct {
		heard    [][]byte
		want     map[string]uint64
		complete bool
		torn     bool
		fails    bool
	}{
		"in one read":             {[][]byte{append(append(append([]byte{}, one...), two...), done(0)...)}, both, true, false, false},
		"in three":                {[][]byte{one, two, done(0)}, both, true, false, false},
		"the end is missing":      {[][]byte{one, two}, both, false, false, false},
		"of another question":     {[][]byte{counted("egress", 9, 0, asked-1), two, done(0)}, map[string]uint64{"ingress": 1 << 40}, true, false, false},
		"changed in between":      {[][]byte{one, counted("ingress", 2, unix.NLM_F_DUMP_INTR, asked), done(0)}, map[string]uint64{"egress": 5, "ingress": 2}, true, true, false},
		"no such table":           {[][]byte{done(unix.ENOENT)}, map[string]uint64{}, true, false, true},
		"shorter than its header": {[][]byte{one, short}, map[string]uint64{"egress": 5}, false, false, true},
	} {
		list := counterList{sequence: asked, packets: map[string]uint64{}}
		var err error
		for _, text := range c.heard {
			err = errors.Join(err, take(&list, text))
		}
		if !maps.Equal(list.packets, c.want) || list.complete != c.complete || list.torn != c.torn || (err != nil) != c.fails {
			wrong = append(wrong, name)
		}
	}
	return wrong
}

func TestCountersAreReadFromWhatTheKernelSends(t *testing.T) {
	for _, name := range misread((*counterList).take) {
		t.Error(name)
	}
}

func TestReadersThatMissSomethingAreCaught(t *testing.T) {
	for name, bug := range map[string]func(*counterList, []byte) error{
		"tears are not seen":  func(l *counterList, text []byte) error { err := l.take(text); l.torn = false; return err },
		"the end is not seen": func(l *counterList, text []byte) error { err := l.take(text); l.complete = false; return err },
		"errors are not seen": func(l *counterList, text []byte) error { _ = l.take(text); return nil },
		"any question's answer": func(l *counterList, text []byte) error {
			l.sequence = binary.NativeEndian.Uint32(text[8:])
			return l.take(text)
		},
		"one message of each read": func(l *counterList, text []byte) error {
			return l.take(text[:min(len(text), aligned(int(binary.NativeEndian.Uint32(text))))])
		},
	} {
		if len(misread(bug)) == 0 {
			t.Errorf("%s: the planted bug was not caught", name)
		}
	}
}
