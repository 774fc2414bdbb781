package netem

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
)

func discipline(kind string, handle, parent uint32) netlink.Qdisc {
	return &netlink.GenericQdisc{QdiscType: kind, QdiscAttrs: netlink.QdiscAttrs{LinkIndex: 3, Handle: handle, Parent: parent}}
}

var roots = []struct {
	name      string
	found     []netlink.Qdisc
	byDefault string
	taken     string // part of why it could not be put back, "" when it can
}{
	{"a device that queues nothing", []netlink.Qdisc{discipline("noqueue", 0, netlink.HANDLE_ROOT)}, "fq_codel", ""},
	{"the default", []netlink.Qdisc{discipline("fq_codel", 0, netlink.HANDLE_ROOT)}, "fq_codel", ""},
	{"the default, which is not told in this namespace", []netlink.Qdisc{discipline("pfifo_fast", 0, netlink.HANDLE_ROOT)}, "", ""},
	{"a default of yesterday", []netlink.Qdisc{discipline("pfifo_fast", 0, netlink.HANDLE_ROOT)}, "fq", "would put fq back"},
	{"several queues", []netlink.Qdisc{discipline("mq", 0, netlink.HANDLE_ROOT), discipline("fq", 0, 1), discipline("fq", 0, 2)}, "fq", ""},
	{"several queues, one of them set up", []netlink.Qdisc{discipline("mq", 0, netlink.HANDLE_ROOT), discipline("cake", 0x80010000, 1)}, "fq", "set up cake"},
	{"somebody's", []netlink.Qdisc{discipline("htb", 0x10000, netlink.HANDLE_ROOT)}, "fq", "set up htb"},
	{"somebody's prio", []netlink.Qdisc{discipline("prio", 0x10000, netlink.HANDLE_ROOT)}, "fq", "set up prio"},
	{"ours, with the netem of another attack", []netlink.Qdisc{discipline("prio", rootHandle(3), netlink.HANDLE_ROOT),
		discipline("netem", 0x41230000, rootHandle(3)|4)}, "fq", ""},
	{"nothing", nil, "fq", "no root"},
}

func wrongRoots(judge func([]netlink.Qdisc, int, string) (string, string)) (wrong []string) {
	for _, c := range roots {
		if _, taken := judge(c.found, 3, c.byDefault); (taken == "") != (c.taken == "") || !strings.Contains(taken, c.taken) {
			wrong = append(wrong, c.name+": "+taken)
		}
	}
	return wrong
}

func TestOnlyWhatComesBackByItselfIsReplaced(t *testing.T) {
	for _, wrong := range wrongRoots(judge) {
		t.Error(wrong)
	}
}

func TestReplacingAnythingIsCaught(t *testing.T) {
	if len(wrongRoots(func([]netlink.Qdisc, int, string) (string, string) { return "", "" })) == 0 {
		t.Error("the planted bug was not caught")
	}
}

func TestWhatIsLookedAtOnTheWayInIsLeftAlone(t *testing.T) {
	all := []netlink.Qdisc{discipline("noqueue", 0, netlink.HANDLE_ROOT), discipline("clsact", 0xffff0000, netlink.HANDLE_CLSACT)}
	if left := of(all, 3); len(left) != 1 || len(of(all, 4)) != 0 {
		t.Errorf("%v", left)
	}
}

func TestEachAttackTakesABandThatIsFreeOnAllItsDevices(t *testing.T) {
	s := New(Order{GUID: "a", Links: []attack.Link{{Index: 3}, {Index: 4}}})
	at := func(index int, band uint16) netlink.Qdisc {
		return &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: rootHandle(index) | uint32(band)}}
	}
	if got := s.free([]netlink.Qdisc{at(3, 4), at(4, 5), at(9, 6)}); got != 6 {
		t.Errorf("band %d, want 6", got)
	}
	var full []netlink.Qdisc
	for band := uint16(bandFirst); band <= bandLast; band++ {
		full = append(full, at(4, band))
	}
	if got := s.free(full); got != 0 {
		t.Errorf("band %d, and all are taken", got)
	}
}

func TestPriorityLeadsToOneDeviceOnly(t *testing.T) {
	s := New(Order{GUID: "a", Links: []attack.Link{{Index: 3}, {Index: 4}}})
	if s.Priorities() != nil {
		t.Error("a priority leads to what is not there yet")
	}
	s.band = 5
	byDevice := s.Priorities()
	if byDevice[3] != 0xf0030005 || byDevice[4] != 0xf0040005 {
		t.Errorf("%x", byDevice)
	}
}

func TestWhatWasInANamespaceThatIsGoneIsGone(t *testing.T) {
	undo, err := json.Marshal(placed{Namespace: 1, Device: "lo", Index: 1, Band: 4, Handle: 0x41230000})
	if err != nil {
		t.Fatal(err)
	}
	if err := (Undoer{}).Undo(context.Background(), attack.Change{Undo: undo}, nil); err != nil {
		t.Error(err)
	}
	if err := (Undoer{}).Undo(context.Background(), attack.Change{Undo: []byte("{")}, nil); err == nil {
		t.Error("a torn record says nothing")
	}
}

func TestLinesAndCuresNameTheDevice(t *testing.T) {
	s := New(Order{Kind: "latency", GUID: "a", How: Treatment{Delay: 100 * time.Millisecond, Jitter: 20 * time.Millisecond}, Links: []attack.Link{{Name: "eth7", Root: "fq"}}})
	if lines := strings.Join(s.Lines(), "\n"); !strings.Contains(lines, "on eth7, in the place of fq until the end") || !strings.Contains(lines, "delay 100ms 20ms") {
		t.Error(lines)
	}
	if s.Remains() != attack.RemainsUntilStart || !strings.Contains(s.ByHand(), "tc qdisc del dev eth7 root") {
		t.Errorf("%s, %s", s.Remains(), s.ByHand())
	}
	if err := explain("latency", unix.EPERM); !strings.Contains(err.Error(), "not permitted") || !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
}
