package attacktest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of a world. Host is attacked; Target and Other are two addresses of the peer; Pool are more of them, for names that move.
var (
	Host4, Host6     = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")
	Target4, Target6 = netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")
	Other4, Other6   = netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("fd09::3")
	Pool             = []netip.Addr{netip.MustParseAddr("10.9.0.11"), netip.MustParseAddr("10.9.0.12"), netip.MustParseAddr("10.9.0.13")}
	NameServer       = netip.MustParseAddr("10.9.0.53")
)

// The ports on which both sides answer, over TCP and UDP.
const (
	Port      = 7
	OtherPort = 8
)

// silence is how long no answer must come to count as none. On a cable of one machine an answer takes well under a millisecond.
const silence = 400 * time.Millisecond

// answerWithin is how long an answer may take where one must come. UDP and ICMP are not sent again, so waiting hides no lost packet.
const answerWithin = 5 * time.Second

// Require skips a test that needs root and kernel features, or fails it when FIREDRILL_REQUIRE names the kernel.
func Require(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Missing(tb, "kernel", "root, or a user namespace")
	}
}

// Missing skips a test that lacks something, or fails it when FIREDRILL_REQUIRE names that, as the gate does.
func Missing(tb testing.TB, what, format string, args ...any) {
	tb.Helper()
	why := "this test needs " + fmt.Sprintf(format, args...)
	if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), what) {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

// Namespace is a network namespace that lives as long as its descriptor.
type Namespace struct {
	file *os.File
	uid  int // whose sockets Do makes
}

// As returns the same namespace for another user: sockets that are made in its Do belong to that user.
func (n *Namespace) As(uid int) *Namespace { return &Namespace{file: n.file, uid: uid} }

// newNamespace makes one on a thread that is thrown away.
func newNamespace() (*Namespace, error) {
	var ns Namespace
	err := onThrownThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		ns.file = file
		return bringUp("lo")
	})
	return &ns, err
}

// Do runs f on a thread inside the namespace. Sockets and processes that f makes belong to it; goroutines that f starts do not.
func (n *Namespace) Do(f func() error) error {
	return onThrownThread(func() error {
		if n.file != nil { // else: where we are
			if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("setns: %w", err)
			}
		}
		if n.uid != 0 {
			// It holds for this thread alone, and with it ends.
			if err := unix.Setfsuid(n.uid); err != nil {
				return fmt.Errorf("be user %d: %w", n.uid, err)
			}
			if is, err := unix.SetfsuidRetUid(-1); err == nil && is != n.uid {
				return fmt.Errorf("be user %d: still user %d", n.uid, is)
			}
		}
		return f()
	})
}

// onThrownThread runs f on a thread that never runs anything else: a goroutine that ends while locked takes its thread with it.
func onThrownThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func bringUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return netlink.LinkSetUp(link)
}

// World is a host that is attacked and a peer, on one cable.
type World struct {
	planted    bool // a bug is planted into its attacks
	Host, Peer *Namespace
	guests     []*Namespace

	Pods   string // the socket of a runtime of pods, for every attack
	echoes []*echo
}

// OpenNamespace opens the network namespace of a process; Close ends it.
func OpenNamespace(pid int) (*Namespace, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	return &Namespace{file: file}, err
}

// Close gives the namespace up.
func (n *Namespace) Close() error { return n.file.Close() }

// AddGuest puts a container behind the attacked host, which routes for it, and returns it.
func (w *World) AddGuest() (*Namespace, error) {
	guest, err := newNamespace()
	if err != nil {
		return nil, err
	}
	w.guests = append(w.guests, guest)
	_, err = w.PlugIn(guest, len(w.guests)-1)
	return guest, err
}

// PlugIn connects a container to the attacked host, which routes for it, and returns its address. number tells containers apart.
func (w *World) PlugIn(guest *Namespace, number int) (netip.Addr, error) {
	device := fmt.Sprintf("guest%d", number)
	hostSide, guestSide := netip.AddrFrom4([4]byte{10, 8, byte(number), 1}), netip.AddrFrom4([4]byte{10, 8, byte(number), 2})
	err := w.Host.Do(func() error {
		cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: device}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(guest.file.Fd()))}
		if err := netlink.LinkAdd(cable); err != nil {
			return err
		}
		// The directory is that of the calling thread's namespace.
		return errors.Join(plug(device, hostSide), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	})
	if err == nil {
		err = guest.Do(func() error { return errors.Join(plug("eth0", guestSide), route("0.0.0.0/0", hostSide)) })
	}
	if err == nil {
		err = w.Peer.Do(func() error { return route(netip.PrefixFrom(guestSide, 24).Masked().String(), Host4) })
	}
	return guestSide, err
}

// Guest returns the container that AddGuest has made first.
func (w *World) Guest() *Namespace { return w.guests[0] }

func route(to string, via netip.Addr) error {
	prefix := netip.MustParsePrefix(to)
	return netlink.RouteAdd(&netlink.Route{Gw: via.AsSlice(), Dst: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}})
}

// NewWorld makes a world that ends with the test.
func NewWorld(tb testing.TB) *World {
	tb.Helper()
	Require(tb)
	w := &World{}
	tb.Cleanup(w.close)
	if err := w.build(); err != nil {
		tb.Fatalf("make a world: %v", err)
	}
	// A cable that was just plugged in takes a moment to carry.
	if err := Await(func() error {
		return Through(append(Flows(w.Host, Target4), Flows(w.Host, Target6)...)...)
	}); err != nil {
		tb.Fatalf("make a world: %v", err)
	}
	return w
}

func (w *World) build() error {
	var err error
	if w.Host, err = newNamespace(); err != nil {
		return err
	}
	if w.Peer, err = newNamespace(); err != nil {
		return err
	}
	peerAddrs := append([]netip.Addr{Target4, Other4, NameServer, Target6, Other6}, Pool...)
	err = w.Host.Do(func() error {
		cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(w.Peer.file.Fd()))}
		if err := netlink.LinkAdd(cable); err != nil {
			return fmt.Errorf("veth: %w", err)
		}
		return plug("eth0", Host4, Host6)
	})
	if err == nil {
		err = w.Peer.Do(func() error { return plug("eth0", peerAddrs...) })
	}
	if err != nil {
		return err
	}
	if err := w.listen(w.Host, Host4, Host6); err != nil {
		return err
	}
	return w.listen(w.Peer, append([]netip.Addr{Target4, Other4, Target6, Other6}, Pool...)...)
}

func plug(device string, addrs ...netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		bits := 24
		if addr.Is6() {
			bits = 64
		}
		parsed, err := netlink.ParseAddr(netip.PrefixFrom(addr, bits).String())
		if err != nil {
			return err
		}
		parsed.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, parsed); err != nil {
			return fmt.Errorf("add %s: %w", addr, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// Listen answers on one more port, over TCP and UDP, until the world ends.
func (w *World) Listen(ns *Namespace, port uint16, addrs ...netip.Addr) error {
	for _, addr := range addrs {
		e, err := newEcho(ns, netip.AddrPortFrom(addr, port))
		if err != nil {
			return err
		}
		w.echoes = append(w.echoes, e)
	}
	return nil
}

func (w *World) listen(ns *Namespace, addrs ...netip.Addr) error {
	for _, addr := range addrs {
		if err := errors.Join(w.Listen(ns, Port, addr), w.Listen(ns, OtherPort, addr)); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) close() {
	for _, e := range w.echoes {
		e.close()
	}
	for _, ns := range append([]*Namespace{w.Host, w.Peer}, w.guests...) {
		if ns != nil && ns.file != nil {
			_ = ns.file.Close()
		}
	}
}

// Tables lists the names of all tables on the attacked host.
func (w *World) Tables() ([]string, error) { return w.Host.Tables() }

// Tables lists the names of all tables.
func (n *Namespace) Tables() ([]string, error) {
	var names []string
	err := n.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		for _, table := range tables {
			names = append(names, table.Name)
		}
		return err
	})
	return names, err
}

// Foreign puts a table of somebody else's on the attacked host, so that a snapshot has something to compare.
func (w *World) Foreign() error {
	return w.Host.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Name: "somebody", Family: nftables.TableFamilyINet})
		conn.AddChain(&nftables.Chain{Name: "input", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput,
			Priority: nftables.ChainPriorityFilter})
		return conn.Flush()
	})
}

// Await polls until check says nil, and returns its last error when that never happens.
func Await(check func() error) error { return Within(patience(), check) }

// Patience bounds how long anything is waited for; Moment is for a planted bug to show.
func Patience() time.Duration { return patience() }

// Moment is long enough for a planted bug to show.
const Moment = 2 * time.Second

// Within polls so long until check says nil, and returns its last error when that never happens.
func Within(limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("gave up after %s: %w", limit, err)
		}
		<-time.After(pollEvery)
	}
}

// Settled waits so long until check says nil and this host has no journal any more: a guardian comes a moment after the death of its worker.
// It means something on a host of one's own only: see Alone.
func Settled(limit time.Duration, check func() error) error {
	return Within(limit, func() error {
		if err := check(); err != nil {
			return err
		}
		return NoJournal()
	})
}

// NoJournal returns an error as long as an attack of this host has something to be taken back.
func NoJournal() error {
	left, err := filepath.Glob(StateRoot + "/firedrill/journal/*.*")
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("journals are left: %v", left)
	}
	return err
}

// pollEvery is small against what is waited for, and leaves the processor to the attack.
const pollEvery = 2 * time.Millisecond

// errCut is what a probe says when no answer came.
var errCut = errors.New("no answer")
