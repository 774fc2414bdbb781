package latency

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestMain(m *testing.M) {
	if code, hidden := attack.Reexec([]attack.Kind{makeKind("-", nil)}); hidden {
		os.Exit(code)
	}
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, step func(string)) attack.Kind {
	return Kind{hooks: traffictest.Plant(bug, step)}
}

// way is the way of attacks under test: the one that every kernel of the gate has.
const way = "--way=queue"

var targets = "--ipaddress=" + at.Target4.String() + "," + at.Target6.String()

func slow(from *at.Namespace, ms int, to ...netip.Addr) traffictest.Slow {
	return traffictest.Slow{AtLeast: time.Duration(ms) * time.Millisecond, From: from, To: to, Port: at.Port}
}

func subject() at.Subject { return subjectOf(150) }

func subjectOf(ms int) at.Subject {
	return at.Subject{
		Args:  []string{targets, fmt.Sprintf("--ms=%d", ms), way},
		Felt:  func(w *at.World) error { return slow(w.Host, ms, at.Target4, at.Target6).Check() },
		Clear: func(w *at.World) error { return slow(w.Host, ms, at.Target4, at.Target6).Over() },
	}
}

// tooLong is a delay in milliseconds that no busy machine is taken for. A bug that leaves packets alone is asked for it: by less it would not
// be caught where an answer takes that long by itself.
const tooLong = 5000

func TestLatencyHoldsTheContract(t *testing.T) { at.Run(t, subject()) }

func TestContractCatchesPlantedBugs(t *testing.T) {
	for _, planted := range []struct {
		bug   string
		ms    int
		check func(*at.World, at.Subject, string) error
	}{
		{"never bites", tooLong, at.RevertsAtDeadline}, {"instant", tooLong, at.RevertsOnTerm}, {"no gate", 150, at.EndsAtDeadlineWhileStopped},
	} {
		t.Run(planted.bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, planted.check, subjectOf(planted.ms), planted.bug)
		})
	}
}

// delays checks what a client of the host sees: targets are slow, on new flows and on one that was there before, and nobody else is.
func delays(w *at.World, _ at.Subject, bug string) error {
	ms := 150
	if bug == "instant" || bug == "none of them" {
		ms = tooLong
	}
	long := time.Duration(ms) * time.Millisecond
	kept, err := w.Host.Open(at.Target4, at.Port, 5*time.Second)
	if err != nil {
		return err
	}
	defer kept.Close()
	others := slow(w.Host, 150, at.Other4, at.Other6)
	args := []string{"--ipaddress=10.9.0.0/24,fd09::/64,^" + at.Other4.String() + ",^" + at.Other6.String(), fmt.Sprintf("--ms=%d", ms), way}
	return traffictest.During(w, bug, args, func() error {
		var errs []error
		if took, err := traffictest.Exchange(kept, 5*time.Second); err != nil || took < long {
			errs = append(errs, fmt.Errorf("the established connection is answered after %s (%v)", took, err))
		}
		return errors.Join(append(errs, slow(w.Host, ms, at.Target4, at.Target6).Check(), others.Over())...)
	})
}

func TestEstablishedAndNewFlowsAreSlowAndSparesAreNot(t *testing.T) {
	t.Parallel()
	traffictest.Must(t, delays(at.NewWorld(t), at.Subject{}, ""))
}

func TestWrongDelayIsCaught(t *testing.T) {
	for _, bug := range []string{"instant", "none of them", "no spare"} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, delays, at.Subject{}, bug)
		})
	}
}

func TestNothingIsLostWhenItEnds(t *testing.T) {
	t.Parallel()
	traffictest.Must(t, losesNothing(at.NewWorld(t), at.Subject{}, ""))
}

func TestLosingWhatIsHeldIsCaught(t *testing.T) {
	t.Parallel()
	at.Catches(t, losesNothing, at.Subject{}, "keep held")
}

// losesNothing ends an attack while it holds a packet for long, and waits for that packet.
func losesNothing(w *at.World, _ at.Subject, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Args: []string{"--length=120", targets, "--ms=60000", way}})
	if err != nil {
		return err
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		return err
	}
	kept, err := w.Host.Dial("udp", at.Target4, at.Port)
	if err != nil {
		return err
	}
	defer kept.Close()
	if _, err := kept.Write([]byte("x")); err != nil {
		return err
	}
	if _, err := at.AwaitFact(a, func(f *history.AttackHits) bool { return f.Ingress > 0 }); err != nil {
		return err
	}
	if err := a.Signal(unix.SIGTERM); err != nil {
		return err
	}
	a.Wait()
	_ = kept.SetReadDeadline(time.Now().Add(time.Second))
	_, err = kept.Read(make([]byte, 1))
	return err
}

func TestOnlyPortAndProtocolNamedAreDelayed(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	traffictest.Begin(t, w, targets, "--ms=150", "--egress_port=7", "--ipprotocol=UDP", way)
	udp := func(port uint16) time.Duration {
		conn, err := w.Host.Dial("udp", at.Target4, port)
		traffictest.Must(t, err)
		defer conn.Close()
		took, err := traffictest.Exchange(conn, 5*time.Second)
		traffictest.Must(t, err)
		return took
	}
	if took := udp(at.Port); took < 150*time.Millisecond {
		t.Errorf("port 7 is answered after %s", took)
	}
	traffictest.Must(t, at.Await(func() error {
		if took := udp(at.OtherPort); took > 75*time.Millisecond {
			return fmt.Errorf("port 8 is answered after %s", took)
		}
		return w.Host.Connect(at.Target4, at.Port, 75*time.Millisecond)
	}))
}

func TestControlConnectionIsNotDelayed(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	control, err := w.Peer.Open(at.Host4, at.Port, 5*time.Second) // as an SSH client of this host
	traffictest.Must(t, err)
	t.Cleanup(func() { _ = control.Close() })
	client := netip.MustParseAddrPort(control.LocalAddr().String())
	a, err := w.Start(at.Spec{Args: []string{"--length=120", "--ms=150", way},
		SSH: fmt.Sprintf("%s %d %s %d", client.Addr(), client.Port(), at.Host4, at.Port)})
	traffictest.Must(t, err)
	t.Cleanup(a.Stop)
	_, err = a.AwaitInForce()
	traffictest.Must(t, err, slow(w.Host, 150, at.Target4, at.Other6).Check(), at.Await(func() error {
		return at.Talk(control, 75*time.Millisecond)
	}))
}

func TestRoutedRepliesAreDelayedToo(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	guest, err := w.AddGuest()
	traffictest.Must(t, err, at.Await(func() error { return at.Through(at.Flows(guest, at.Target4)...) }))
	traffictest.Begin(t, w, targets, "--ms=150", way)
	traffictest.Must(t, slow(guest, 150, at.Target4).Check(), slow(guest, 150, at.Other4).Over())
}

func TestOnlyTheUserNamedIsDelayed(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	traffictest.Begin(t, w, targets, "--ms=150", "--user=0", way)
	traffictest.Must(t, slow(w.Host, 150, at.Target4, at.Target6).Check())
	other := at.NewWorld(t)
	traffictest.Begin(t, other, targets, "--ms=150", "--user=65534", way)
	traffictest.Must(t, slow(other.Host, 150, at.Target4, at.Target6).Over())
}

func TestShareIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	traffictest.Begin(t, w, targets, "--ms=60000", "--percent=50", way)
	traffictest.Must(t, traffictest.Volley{Count: 60, Size: 100, AtLeast: 8, AtMost: 52}.Check(w))
}

func TestAccountSaysWhatWasAdded(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a, err := w.Start(at.Spec{Args: []string{"--length=3", targets, "--ms=20", "--jitter=10", way}})
	traffictest.Must(t, err)
	t.Cleanup(a.Stop)
	_, err = a.AwaitInForce()
	traffictest.Must(t, err, at.Through(at.Flows(w.Host, at.Target4)...))
	code, account := a.Wait()
	if code != 0 || account == nil || !account.Bit || !strings.Contains(strings.Join(account.Evidence, " "), "asked for 20ms ± 10ms: mean ") {
		t.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
	}
}

func TestOrdersOfLatencyAreReadAsTheCatalogueSays(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	facts := attack.Facts{GUID: at.GUID, Host: "blue"}
	for text, want := range map[string]string{"": "delay by 100ms ", "250": "delay by 250ms ", "0.5": "delay by 500µs "} {
		flags := attack.Values{"ipaddress": {"192.0.2.1"}, "src_port": {"80"}, "way": {"queue"}}
		if text != "" {
			flags["ms"] = []string{text}
		}
		if err := at.Deterministic(Kind{}, flags, facts); err != nil {
			t.Error(err)
		}
		order, err := Kind{}.Order(flags)
		if err != nil {
			t.Fatal(err)
		}
		if plan, err := order.Plan(facts); err != nil || !strings.Contains(plan.String(), want+"ingress from 192.0.2.1; only source ports 80") {
			t.Errorf("%s, %v", plan, err)
		}
	}
	for _, wrong := range []attack.Values{{"ms": {"0"}}, {"ms": {"60001"}}, {"ms": {"NaN"}}, {"ms": {"x"}}, {"jitter": {"101"}}, {"jitter": {"-1"}},
		{"percent": {"0"}}, {"way": {"tc"}}, {"ingress_port": {"80"}}} {
		if order, err := (Kind{}).Order(wrong); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v is %+v, %v", wrong, order, err)
		}
	}
}

func TestWayFollowsFromTheFacts(t *testing.T) {
	own := netip.MustParseAddr("192.0.2.9")
	links := func(taken string) []attack.Link {
		return []attack.Link{{Name: "lo", Index: 1, Loopback: true, Root: "noqueue"}, {Name: "eth0", Index: 2, Addrs: []netip.Addr{own}, Root: "fq", Taken: taken}}
	}
	for name, c := range map[string]struct {
		way, device, target string
		shaping             attack.ShapingFacts
		want, not           string
		kind                drill.ErrorKind // of a refusal, which want is a part of
	}{
		"netem where it is":          {shaping: attack.ShapingFacts{Netem: true, Links: links("")}, want: "on eth0, in the place of fq", not: "queue of this process"},
		"not on the loopback device": {shaping: attack.ShapingFacts{Netem: true, Links: links("")}, want: "netem", not: "on lo"},
		"but there for ourselves":    {shaping: attack.ShapingFacts{Netem: true, Links: links("")}, target: own.String(), want: "on lo"},
		"the queue where not":        {want: "ingress from 192.0.2.1\n  do it in a queue of this process", not: "not by netem"},
		"the queue when asked":       {way: "queue", shaping: attack.ShapingFacts{Netem: true, Links: links("")}, want: "queue of this process", not: "not by netem"},
		"the queue, and why":         {shaping: attack.ShapingFacts{Netem: true, Links: links("somebody's")}, want: "could not be put back exactly: somebody's", not: "on eth0, in"},
		"no netem when asked":        {way: "netem", want: "no netem", kind: drill.Unsupported},
		"not over somebody's":        {way: "netem", shaping: attack.ShapingFacts{Netem: true, Links: links("somebody's")}, want: "somebody's", kind: drill.Refused},
		"another device":             {device: "lo", way: "netem", shaping: attack.ShapingFacts{Netem: true, Links: links("somebody's")}, want: "no device", kind: drill.Refused},
	} {
		flags := attack.Values{"ipaddress": {"192.0.2.1"}}
		for flag, value := range map[string]string{"way": c.way, "device": c.device, "ipaddress": c.target} {
			if value != "" {
				flags[flag] = []string{value}
			}
		}
		order, err := Kind{}.Order(flags)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := order.Plan(attack.Facts{GUID: at.GUID, Host: "blue", Interfaces: []string{"eth0", "lo"}, Shaping: c.shaping})
		if c.kind != 0 {
			if drill.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || drill.HintOf(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if text := plan.String(); err != nil || !strings.Contains(text, c.want) || c.not != "" && strings.Contains(text, c.not) {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}
