package blackhole

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/history"
)

// attackWith starts an attack and waits until it is in force; it ends with the test.
func attackWith(t *testing.T, w *at.World, spec at.Spec) *at.Attack {
	t.Helper()
	a, err := w.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if _, err := a.AwaitInForce(); err != nil {
		t.Fatal(err)
	}
	return a
}

// must fails the test with every error there is.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func flow(name string, try func(time.Duration) error) at.Flow { return at.Flow{Name: name, Try: try} }

// sparesSpare: both spares of a wide target stay reachable, from both sides; the rest of it is cut.
func sparesSpare(w *at.World, _ at.Subject, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Args: []string{"--length=60", "--ipaddress=10.9.0.0/24,fd09::/64", "--ipaddress=^" + at.Other4.String(),
		"--hostname=^" + at.Other6.String()}})
	if err != nil {
		return err
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		return err
	}
	return errors.Join(
		at.Through(at.Flows(w.Host, at.Other4)...), at.Through(at.Flows(w.Host, at.Other6)...),
		at.Cut(at.Flows(w.Host, at.Target4)...), at.Cut(at.Flows(w.Host, at.Target6)...))
}

func TestSpareIsNeverHit(t *testing.T) {
	t.Parallel()
	must(t, sparesSpare(at.NewWorld(t), at.Subject{}, ""))
}

func TestSpareAfterDropIsCaught(t *testing.T) {
	t.Parallel()
	at.Catches(t, sparesSpare, at.Subject{}, "no spare")
}

func TestCutsEstablishedFlowsAndLetsThemGoOn(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	for _, to := range []netip.Addr{at.Target4, at.Target6, at.Other4} {
		conn, err := w.Host.Open(to, at.Port, 5*time.Second)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		must(t, at.Talk(conn, 5*time.Second))
		t.Cleanup(func() {
			if err := at.Await(func() error { return at.Talk(conn, time.Second) }); err != nil {
				t.Errorf("the connection to %s is dead after the revert: %v", to, err)
			}
		})
		a := attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=" + at.Target4.String() + "," + at.Target6.String()}})
		kept := flow("established tcp to "+to.String(), func(limit time.Duration) error { return at.Talk(conn, limit) })
		if to == at.Other4 {
			must(t, at.Through(kept))
		} else {
			must(t, at.Cut(kept))
		}
		must(t, a.Signal(unix.SIGTERM))
		a.Wait()
	}
}

func TestCutsWhatComesFromOutside(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	inward := func(port uint16) at.Flow {
		return flow(fmt.Sprintf("tcp from the peer to port %d", port), func(limit time.Duration) error { return w.Peer.Connect(at.Host4, port, limit) })
	}
	// The peer's connections come from its first address, which is the target.
	must(t, at.Through(inward(at.Port)))
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=" + at.Target4.String()}})
	must(t, at.Cut(inward(at.Port)))
}

func TestEgressPortsCutFlowsToRemotePortsOnly(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--hostname=10.9.0.2,fd09::2", "--egress_port=7,100-200"}})
	must(t,
		at.Cut(flow("tcp 7", func(limit time.Duration) error { return w.Host.Connect(at.Target4, at.Port, limit) }),
			flow("tcp6 7", func(limit time.Duration) error { return w.Host.Connect(at.Target6, at.Port, limit) }),
			flow("udp 7", func(limit time.Duration) error { _, err := w.Host.Datagram(at.Target4, at.Port, limit); return err })),
		at.Through(flow("tcp 8", func(limit time.Duration) error { return w.Host.Connect(at.Target4, at.OtherPort, limit) }),
			flow("icmp", func(limit time.Duration) error { return w.Host.Ping(at.Target4, limit) }),
			flow("inward to local port 7", func(limit time.Duration) error { return w.Peer.Connect(at.Host4, at.Port, limit) })))
}

func TestIngressPortsCutFlowsToLocalPortsOnly(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=10.9.0.2", "--ingress_port=7", "--ipprotocol=TCP"}})
	must(t,
		at.Cut(flow("inward to local port 7", func(limit time.Duration) error { return w.Peer.Connect(at.Host4, at.Port, limit) })),
		at.Through(flow("inward to local port 8", func(limit time.Duration) error { return w.Peer.Connect(at.Host4, at.OtherPort, limit) }),
			flow("inward udp to local port 7", func(limit time.Duration) error { _, err := w.Peer.Datagram(at.Host4, at.Port, limit); return err }),
			flow("outward to remote port 7", func(limit time.Duration) error { return w.Host.Connect(at.Target4, at.Port, limit) })))
}

func TestProtocolNarrows(t *testing.T) {
	for protocol, cut := range map[string]int{"TCP": 0, "UDP": 1, "ICMP": 2} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			w := at.NewWorld(t)
			attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=10.9.0.2,fd09::2", "--ipprotocol=" + protocol}})
			for _, to := range []netip.Addr{at.Target4, at.Target6} {
				flows := at.Flows(w.Host, to)
				must(t, at.Cut(flows[cut]), at.Through(append(flows[:cut:cut], flows[cut+1:]...)...))
			}
		})
	}
}

func TestDeviceNarrows(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a := attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=10.9.0.2", "--device=lo"}})
	must(t, at.Through(at.Flows(w.Host, at.Target4)...), a.Signal(unix.SIGTERM))
	a.Wait()
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=10.9.0.2", "--device=eth0"}})
	must(t, at.Cut(at.Flows(w.Host, at.Target4)...))
}

func TestNoTargetCutsEverythingButSparesAndTheHostItself(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=^" + at.Other4.String()}})
	must(t,
		at.Cut(at.Flows(w.Host, at.Target4)...), at.Cut(at.Flows(w.Host, at.Target6)...), at.Cut(at.Flows(w.Host, at.Other6)...),
		at.Through(at.Flows(w.Host, at.Other4)...),
		at.Through(at.Flows(w.Host, at.Host4)...)) // through lo
}

func TestOwnSSHConnectionIsSpared(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	// As if we had been started by way of an SSH server on port 8 of this host, from the peer.
	attackWith(t, w, at.Spec{SSH: "10.9.0.2 50000 10.9.0.1 8", Args: []string{"--length=60"}})
	must(t,
		at.Through(flow("ssh from the peer", func(limit time.Duration) error { return w.Peer.Connect(at.Host4, at.OtherPort, limit) })),
		at.Cut(flow("another port from the peer", func(limit time.Duration) error { return w.Peer.Connect(at.Host4, at.Port, limit) })),
		at.Cut(at.Flows(w.Host, at.Target4)...))
}

func TestCIDRThatHoldsTheHostLeavesTheHostItselfAlone(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=0.0.0.0/0,10.0.0.0/8"}})
	must(t, at.Cut(at.Flows(w.Host, at.Target4)...), at.Through(at.Flows(w.Host, at.Host4)...), at.Through(at.Flows(w.Host, at.Target6)...))
}

// moving is a name server in the peer whose answer can be changed.
type moving struct {
	answer atomic.Pointer[[]netip.Addr]
	asked  atomic.Int64
}

func (m *moving) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(question)
	if question.Question[0].Qtype == dns.TypeA {
		m.asked.Add(1)
		for _, addr := range *m.answer.Load() {
			answer.Answer = append(answer.Answer, &dns.A{Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
				A: net.IP(addr.AsSlice())})
		}
	}
	_ = w.WriteMsg(answer)
}

func startNameServer(t *testing.T, w *at.World, addrs ...netip.Addr) (m *moving, resolv string) {
	t.Helper()
	m = &moving{}
	m.answer.Store(&addrs)
	var conn net.PacketConn
	must(t, w.Peer.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", netip.AddrPortFrom(at.NameServer, 53).String())
		return err
	}))
	server := &dns.Server{PacketConn: conn, Handler: m}
	served := make(chan error, 1)
	go func() { served <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-served
	})
	resolv = filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(resolv, []byte("nameserver "+at.NameServer.String()+"\n"), 0o644))
	return m, resolv
}

// followsName: what a name leads to later is hit too, what it led to before stays hit, and its DNS server may itself be cut.
func followsName(w *at.World, m *moving, resolv, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Resolv: resolv, Args: []string{"--length=60", "--hostname=cdn.example.test", "--ipaddress=" + at.NameServer.String()}})
	if err != nil {
		return err
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		return err
	}
	tcp := func(to netip.Addr) at.Flow { return at.Flows(w.Host, to)[0] }
	if err := errors.Join(at.Cut(tcp(at.Pool[0])), at.Through(tcp(at.Pool[1]))); err != nil {
		return err
	}
	next := []netip.Addr{at.Pool[1], at.Pool[2]}
	m.answer.Store(&next)
	seen := m.asked.Load()
	if err := at.Await(func() error {
		if m.asked.Load() < seen+2 { // a whole answer has been taken in when the next question comes
			return errors.New("the name was not resolved again")
		}
		return nil
	}); err != nil {
		return err
	}
	if _, err := at.AwaitFact(a, func(f *history.AttackTarget) bool {
		return f.Address == at.Pool[1].String() && f.Name == "cdn.example.test" && f.Direction == "ingress"
	}); err != nil {
		return err
	}
	return at.Cut(tcp(at.Pool[0]), tcp(at.Pool[1]), tcp(at.Pool[2]))
}

func TestAddressesOfAMovingNameAreAddedAndStayHit(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	m, resolv := startNameServer(t, w, at.Pool[0])
	must(t, followsName(w, m, resolv, ""))
}

func TestResolvingOnceIsCaught(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	m, resolv := startNameServer(t, w, at.Pool[0])
	if err := followsName(w, m, resolv, "resolve once"); err == nil {
		t.Error("names resolved only once were not noticed")
	}
}

// canaryFollows: a canary of a name asks anew at each try, and so does the attack: every address that it sees is cut before it is tried.
func canaryFollows(w *at.World, m *moving, resolv, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Resolv: resolv, Args: []string{"--length=4", "--hostname=cdn.example.test", "--canary=cdn.example.test:7"}})
	if err != nil {
		return err
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		return err
	}
	next := []netip.Addr{at.Pool[1], at.Pool[2]}
	m.answer.Store(&next)
	code, account := a.Wait()
	if code != 0 || account == nil || !account.Bit {
		return fmt.Errorf("exit code %d, account %+v: %s", code, account, a.Stderr())
	}
	if said := strings.Join(account.Evidence, " "); !strings.Contains(said, "10.9.0.11, 10.9.0.12, 10.9.0.13") {
		return fmt.Errorf("the canary did not follow its name: %s", said)
	}
	return nil
}

func TestCanaryOfAMovingNameSeesNoLeak(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	m, resolv := startNameServer(t, w, at.Pool[0])
	must(t, canaryFollows(w, m, resolv, ""))
}

func TestLeakOfAMovingNameIsCaughtByItsCanary(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	m, resolv := startNameServer(t, w, at.Pool[0])
	if err := canaryFollows(w, m, resolv, "resolve once"); err == nil || !strings.Contains(err.Error(), "got through in") {
		t.Errorf("the leak was not noticed by the canary: %v", err)
	}
}

func TestNewAddressesOfASpareNameAreSpared(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	m, resolv := startNameServer(t, w, at.Pool[0])
	a := attackWith(t, w, at.Spec{Resolv: resolv, Args: []string{"--length=60", "--hostname=^control.example.test"}})
	tcp := func(to netip.Addr) at.Flow { return at.Flows(w.Host, to)[0] }
	must(t, at.Through(tcp(at.Pool[0])), at.Cut(tcp(at.Pool[1])))
	next := []netip.Addr{at.Pool[1]}
	m.answer.Store(&next)
	_, err := at.AwaitFact(a, func(f *history.AttackTarget) bool { return f.Address == at.Pool[1].String() && f.Verb == "spare" })
	must(t, err, at.Through(tcp(at.Pool[0]), tcp(at.Pool[1])), at.Cut(tcp(at.Pool[2])))
}

func TestUnresolvedNameIsRefusedWithItsCure(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	_, resolv := startNameServer(t, w)
	a, err := w.Start(at.Spec{Resolv: resolv, Args: []string{"--length=60", "--hostname=nowhere.example.test"}})
	must(t, err)
	t.Cleanup(a.Stop)
	code, _ := a.Wait()
	tables, err := w.Tables()
	must(t, err)
	if code == 0 || len(tables) != 0 {
		t.Errorf("exit code %d, tables %v; want a refusal and no table", code, tables)
	}
	refused, err := at.AwaitFact(a, func(*history.AttackRefused) bool { return true })
	must(t, err)
	if !strings.Contains(refused.Reason, "nowhere.example.test") || refused.Cure == "" {
		t.Errorf("refused with %+v, want the name and a cure", refused)
	}
}

// endsInTime reads the gate: no element of it may live longer than the deadline.
func endsInTime(w *at.World, _ at.Subject, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Args: []string{"--length=5", "--ipaddress=10.9.0.2", "--guid=" + at.GUID}})
	if err != nil {
		return err
	}
	defer a.Stop()
	inForce, err := a.AwaitInForce()
	if err != nil {
		return err
	}
	readings := 0
	for {
		before := time.Now()
		elements, err := gateOf(w, at.GUID)
		if err != nil || len(elements) == 0 {
			break // the table is gone
		}
		readings++
		for _, e := range elements {
			if over := before.Add(e.Expires).Sub(inForce.Until); over > tickOfTheKernel {
				return fmt.Errorf("the gate stays open %s past the deadline", over)
			}
		}
	}
	if readings == 0 {
		return errors.New("the gate was never read: nothing is proven")
	}
	return nil
}

// tickOfTheKernel is the coarsest clock that set timeouts are rounded to (HZ=100), twice.
const tickOfTheKernel = 20 * time.Millisecond

func gateOf(w *at.World, guid string) (elements []nftables.SetElement, err error) {
	err = w.Host.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		set := &nftables.Set{Table: &nftables.Table{Name: traffic.TableName(guid), Family: nftables.TableFamilyINet}, Name: "alive", KeyType: nftables.TypeNFProto}
		elements, err = conn.GetSetElements(set)
		return err
	})
	return elements, err
}

func TestGateNeverOutlivesTheDeadline(t *testing.T) {
	t.Parallel()
	must(t, endsInTime(at.NewWorld(t), at.Subject{}, ""))
}

func TestLeasePastTheDeadlineIsCaught(t *testing.T) {
	t.Parallel()
	at.Catches(t, endsInTime, at.Subject{}, "past end")
}

func TestFrozenAttackIsOverAndStaysOver(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a := attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=10.9.0.2"}})
	must(t, a.Signal(unix.SIGSTOP), at.Await(func() error { return at.Through(at.Flows(w.Host, at.Target4)...) }), a.Signal(unix.SIGCONT))
	reverted, err := at.AwaitFact(a, func(*history.AttackReverted) bool { return true })
	must(t, err)
	if code, account := a.Wait(); code == 0 || account == nil || !account.Reverted || !strings.Contains(reverted.Why, "lease lapsed") {
		t.Errorf("exit code %d, reverted %+v, account %+v; want an early end, said so", code, reverted, account)
	}
}

func TestOldKernelLosesTheImpactOfADeadAttackAndTheNextStartSweeps(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a := attackWith(t, w, at.Spec{Bug: "no owner", Args: []string{"--length=60", "--ipaddress=10.9.0.2", "--guid=" + at.GUID}})
	must(t, at.Cut(at.Flows(w.Host, at.Target4)...))
	a.Stop()
	must(t, at.Await(func() error { return at.Through(at.Flows(w.Host, at.Target4)...) }))
	if tables, err := w.Tables(); err != nil || len(tables) != 1 {
		t.Fatalf("tables %v, %v: want the one that the dead attack left", tables, err)
	}
	live := attackWith(t, w, at.Spec{Bug: "no owner", Args: []string{"--length=60", "--ipaddress=10.9.0.3", "--guid=" + at.OtherGUID}})
	must(t, at.Await(func() error {
		if tables, err := w.Tables(); err != nil || len(tables) != 1 || tables[0] != traffic.TableName(at.OtherGUID) {
			return fmt.Errorf("tables %v, %w: want only that of the live attack", tables, err)
		}
		return nil
	}))
	must(t, at.Cut(at.Flows(w.Host, at.Other4)...), live.Signal(unix.SIGTERM))
	live.Wait()
	if tables, err := w.Tables(); err != nil || len(tables) != 0 {
		t.Errorf("tables %v, %v: want none", tables, err)
	}
}

// keepsStrays: what was cut on its way out never arrives at a service of this host, however the attack dies.
func keepsStrays(w *at.World, _ at.Subject, bug string) error {
	var strays atomic.Int64
	var trap net.PacketConn
	var sender net.Conn
	if err := w.Host.Do(func() (err error) {
		if trap, err = net.ListenPacket("udp", "[::]:9999"); err != nil {
			return err
		}
		sender, err = net.Dial("udp", netip.AddrPortFrom(at.Target4, 9999).String())
		return err
	}); err != nil {
		return err
	}
	defer sender.Close()
	trapped := make(chan struct{})
	go func() {
		defer close(trapped)
		for {
			if _, _, err := trap.ReadFrom(make([]byte, 64)); err != nil {
				return
			}
			strays.Add(1)
		}
	}()
	var errs []error
	for range strayKills {
		errs = append(errs, killWhileSending(w, sender, bug))
	}
	_ = trap.Close()
	<-trapped
	if n := strays.Load(); n != 0 {
		errs = append(errs, fmt.Errorf("%d datagrams to the target arrived at a service of this host", n))
	}
	return errors.Join(errs...)
}

const strayKills = 25 // one kill in five lets a packet through when the guarantee is broken

func killWhileSending(w *at.World, sender net.Conn, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Args: []string{"--length=60", "--ipaddress=10.9.0.2"}})
	if err != nil {
		return err
	}
	if _, err := a.AwaitInForce(); err != nil {
		a.Stop()
		return err
	}
	over := make(chan struct{})
	go func() { a.Stop(); close(over) }()
	for {
		_, _ = sender.Write([]byte("x")) // refused by the peer when not cut
		select {
		case <-over:
			return nil
		default:
		}
	}
}

func TestNothingThatIsCutReachesAServiceOfThisHostWhenKilled(t *testing.T) {
	t.Parallel()
	must(t, keepsStrays(at.NewWorld(t), at.Subject{}, ""))
}

func TestDropChainThatDiesFirstIsCaught(t *testing.T) {
	t.Parallel()
	at.Catches(t, keepsStrays, at.Subject{}, "drop first")
}

func TestRoutedTrafficIsCutToo(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	guest, err := w.AddGuest()
	must(t, err, at.Await(func() error { return at.Through(at.Flows(guest, at.Target4)...) }))
	a := attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=10.9.0.2"}})
	must(t, at.Cut(at.Flows(guest, at.Target4)...), at.Through(at.Flows(guest, at.Other4)...))
	if hits, err := at.AwaitFact(a, func(f *history.AttackHits) bool { return f.Forward > 0 }); err != nil {
		t.Errorf("nothing counted as forwarded: %v, %+v", err, hits)
	}
	must(t, a.Signal(unix.SIGTERM))
	a.Wait()
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=^10.9.0.3"}})
	must(t, at.Cut(at.Flows(guest, at.Target4)...), at.Through(at.Flows(guest, at.Other4)...))
}

func TestServiceAddressOfAContainerIsCutBeforeItIsTranslated(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	guest, err := w.AddGuest()
	must(t, err, w.Host.Do(func() error { return translate(at.Target4) }))
	service := flow("tcp to the service address", func(limit time.Duration) error { return guest.Connect(serviceAddr, at.Port, limit) })
	must(t, at.Await(func() error { return at.Through(service) }))
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=" + serviceAddr.String()}})
	must(t, at.Cut(service), at.Through(flow("tcp to the backend", func(limit time.Duration) error { return guest.Connect(at.Target4, at.Port, limit) })))
}

// serviceAddr is an address that no host has: destination NAT makes another one of it.
var serviceAddr = netip.MustParseAddr("10.96.0.10")

func translate(backend netip.Addr) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "service", Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{Name: "pre", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityNATDest})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: serviceAddr.AsSlice()},
		&expr.Immediate{Register: 1, Data: backend.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}})
	return conn.Flush()
}

// It reads the sets back: a CIDR holds its own addresses and no others, at both ends of the address space too.
func TestIntervalsEndWhereTheyShould(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--guid=" + at.GUID, "--egress_port=1-9,65530-65535",
		"--ipaddress=10.9.0.2/31,10.9.0.4/30,10.9.0.5/32,10.9.0.0/31,255.255.255.240/28,0.0.0.0/30,fd09::2/127,ffff::/16"}})
	for set, want := range map[string]string{
		"hit_nets4":    "0.0.0.0 -0.0.0.4 10.9.0.0 -10.9.0.8 255.255.255.240",
		"hit_nets6":    "fd09::2 -fd09::4 ffff::",
		"remote_ports": "1 -10 65530",
	} {
		if got := intervalsOf(t, w, set); got != want {
			t.Errorf("%s holds %s, want %s", set, got, want)
		}
	}
}

// intervalsOf prints begins, and ends with a minus.
func intervalsOf(t *testing.T, w *at.World, name string) string {
	t.Helper()
	var elements []nftables.SetElement
	must(t, w.Host.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		elements, err = conn.GetSetElements(&nftables.Set{Table: &nftables.Table{Name: traffic.TableName(at.GUID), Family: nftables.TableFamilyINet}, Name: name})
		return err
	}))
	slices.SortFunc(elements, func(a, b nftables.SetElement) int { return bytes.Compare(a.Key, b.Key) })
	var parts []string
	for _, e := range elements {
		text := fmt.Sprint(binary.BigEndian.Uint16(e.Key))
		if addr, ok := netip.AddrFromSlice(e.Key); ok {
			text = addr.String()
		}
		if e.IntervalEnd {
			text = "-" + text
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

func TestCanariesAndCountersProveTheBite(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a := attackWith(t, w, at.Spec{Args: []string{"--length=5", "--ipaddress=10.9.0.2,fd09::2", "--canary=10.9.0.2:7", "--canary=[fd09::2]:7"}})
	code, account := a.Wait()
	if code != 0 || account == nil || !account.Bit || account.FirstHit == nil || account.Packets == 0 {
		t.Fatalf("exit code %d, account %+v: want a bite that is proven", code, account)
	}
	want := map[string]bool{"new before true": true, "new in force false": true, "established in force false": true, "new after true": true}
	for _, target := range []string{"10.9.0.2:7", "[fd09::2]:7"} {
		got := map[string]bool{}
		for _, event := range a.Events() {
			if f, ok := event.Fact.(*history.AttackCanary); ok && f.Target == target {
				got[fmt.Sprintf("%s %s %t", f.Flow, f.When, f.Through)] = true
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("canary %s: %v, want %v", target, got, want)
		}
	}
	hits, err := at.AwaitFact(a, func(f *history.AttackHits) bool { return len(f.Addresses) == 2 && f.Egress > 0 })
	if err != nil {
		t.Errorf("no counters for each address: %v, %+v", err, hits)
	}
}

func TestAttackThatHitsNothingIsNotAPass(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a := attackWith(t, w, at.Spec{Args: []string{"--length=5", "--ipaddress=192.0.2.1", "--canary=10.9.0.3:7"}})
	if code, account := a.Wait(); code == 0 || account == nil || account.Bit || !account.Reverted {
		t.Errorf("exit code %d, account %+v: want it unproven and reverted", code, account)
	}
	// A verdict must be able to tell "nothing was hit" from "nobody looked".
	readings := 0
	for _, event := range a.Events() {
		if hits, ok := event.Fact.(*history.AttackHits); ok && hits.GUID != "" && hits.Egress+hits.Ingress+hits.Forward == 0 {
			readings++
		}
	}
	if readings < 2 {
		t.Errorf("the counters were reported %d times, want at the begin and at the end", readings)
	}
}

func TestPrintsTheLinesOfTheArticle(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	_, resolv := startNameServer(t, w, at.Pool[0], at.Pool[1])
	a, err := w.Start(at.Spec{Resolv: resolv, Args: []string{"--lines", "--length=5", "--guid=" + at.GUID,
		"--hostname=^" + at.Other4.String() + ",cdn.example.test", "--ipaddress=10.9.0.2", "--canary=10.9.0.2:7"}})
	must(t, err)
	t.Cleanup(a.Stop)
	if code, _ := a.Wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, a.Stderr())
	}
	want := strings.TrimSpace(`
Setting up blackhole firedrill with guid '0367cfe2-f9fc-11e8-acea-0242db4d1180' for 5 seconds
Setup successfully completed
Running blackhole firedrill with guid '0367cfe2-f9fc-11e8-acea-0242db4d1180' for 5 seconds
Whitelisting all egress traffic to 10.9.0.3
Dropping all egress traffic to 10.9.0.2
Dropping all egress traffic to 10.9.0.11
Dropping all egress traffic to 10.9.0.12
Whitelisting all ingress traffic from 10.9.0.3
Dropping all ingress traffic from 10.9.0.2
Dropping all ingress traffic from 10.9.0.11
Dropping all ingress traffic from 10.9.0.12
Reverting impact!`)
	if got := strings.Join(a.Lines(), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestManyAddressesFromAFileAreAllHit(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	list := filepath.Join(t.TempDir(), "list")
	var text strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&text, "172.16.%d.%d\n", i/250, i%250)
	}
	text.WriteString("# and the one that can be tried\n10.9.0.2\n")
	must(t, os.WriteFile(list, []byte(text.String()), 0o644))
	attackWith(t, w, at.Spec{Args: []string{"--length=60", "--ipaddress=@" + list}})
	must(t, at.Cut(at.Flows(w.Host, at.Target4)...), at.Through(at.Flows(w.Host, at.Other4)...))
}

func TestCanaryThatGetsThroughIsNoticed(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a := attackWith(t, w, at.Spec{Bug: "never bites", Args: []string{"--length=5", "--ipaddress=10.9.0.2", "--canary=10.9.0.2:7"}})
	code, account := a.Wait()
	if code == 0 || account == nil || account.Bit || !account.Reverted || !strings.Contains(strings.Join(account.Evidence, " "), "got through in") {
		t.Errorf("exit code %d, account %+v: want the canary's leak as evidence", code, account)
	}
}
