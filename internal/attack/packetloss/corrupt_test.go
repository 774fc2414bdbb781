package packetloss

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
	"firedrill/internal/history"
)

func corrupting() at.Subject {
	s := subject()
	s.Args = append(s.Args, "--corrupt=true", "--way=queue")
	return s
}

func TestCorruptionHoldsTheContract(t *testing.T) { at.Run(t, corrupting()) }

func TestContractCatchesPlantedBugsOfCorruption(t *testing.T) {
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{
		"never bites": at.RevertsAtDeadline, "whole": at.RevertsOnTerm,
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, check, corrupting(), bug)
		})
	}
}

// broken returns how many datagrams a host found broken so far, by its own kernel's count.
func broken(on *at.Namespace) (count int, err error) {
	err = on.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) == 0 || fields[0] != "Udp:" {
				continue
			}
			if names == nil {
				names = fields
				continue
			}
			for i, name := range names {
				if name == "InErrors" {
					_, err := fmt.Sscan(fields[i], &count)
					return err
				}
			}
		}
		return errors.New("no such count")
	})
	return count, err
}

// arrivesBroken counts where the datagrams arrive: as many as were sent must arrive, and the share asked for must be broken. Of 400 it is
// 120, with a standard deviation of 9.2; the bounds are 6 of them away.
func arrivesBroken(w *at.World, _ at.Subject, bug string) error {
	before, err := broken(w.Peer)
	if err != nil {
		return err
	}
	err = traffictest.During(w, bug, []string{targets, "--percent=30", "--corrupt=true", "--way=queue"}, func() error {
		return traffictest.Volley{Count: 400, Size: 100, AtLeast: 225, AtMost: 335}.Check(w)
	})
	if err != nil {
		return err
	}
	if after, err := broken(w.Peer); err != nil || after-before < 65 || after-before > 175 {
		return fmt.Errorf("%d of 400 datagrams arrived broken (%v), want about 120", after-before, err)
	}
	return nil
}

func TestCorruptsTheShareThatWasAskedFor(t *testing.T) {
	t.Parallel()
	traffictest.Must(t, arrivesBroken(at.NewWorld(t), at.Subject{}, ""))
}

func TestWrongShareOfCorruptionIsCaught(t *testing.T) {
	for _, bug := range []string{"all of them", "none of them", "whole"} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, arrivesBroken, at.Subject{}, bug)
		})
	}
}

// What TCP delivers is whole all the same: it finds what is broken, and sends it again.
func TestCorruptedStreamArrivesWhole(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	kept, err := w.Host.Open(at.Target4, at.Port, 5*time.Second)
	traffictest.Must(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	a := traffictest.Begin(t, w, targets, "--percent=5", "--corrupt=true", "--way=queue")
	sent := bytes.Repeat([]byte("firedrill "), 100_000)
	_ = kept.SetDeadline(time.Now().Add(time.Minute))
	// A packet may hold up to 64 KiB, so one stream may be as few as 16 of them, all of them lucky: more are sent until one was not.
	bitten := func() bool {
		return slices.ContainsFunc(a.Events(), func(event history.Event) bool {
			hits, ok := event.Fact.(*history.AttackHits)
			return ok && hits.Egress > 0
		})
	}
	for rounds := 0; rounds < 2 || !bitten(); rounds++ {
		wrote := make(chan error, 1)
		go func() {
			_, err := kept.Write(sent)
			wrote <- err
		}()
		got := make([]byte, len(sent))
		_, err = io.ReadFull(kept, got)
		traffictest.Must(t, err, <-wrote) // the deadline ends it when nothing is ever corrupted
		if !bytes.Equal(got, sent) {
			t.Fatal("what came back is not what was sent")
		}
	}
}

func TestSparesAreNotCorrupted(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	traffictest.Begin(t, w, "--ipaddress=10.9.0.0/24,^"+at.Other4.String(), "--percent=100", "--corrupt=true", "--way=queue")
	traffictest.Must(t, at.Cut(at.Flows(w.Host, at.Target4)...), at.Through(at.Flows(w.Host, at.Other4)...))
}

func TestPlanSaysHowPacketsAreCorrupted(t *testing.T) {
	order, err := Kind{}.Order(attack.Values{"corrupt": {"true"}, "percent": {"5"}, "ipaddress": {"192.0.2.1"}, "way": {"queue"}})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := order.Plan(attack.Facts{GUID: at.GUID, Host: "blue"})
	if err != nil || !strings.Contains(plan.String(), "corrupt 5% of egress to 192.0.2.1\n  do it in a queue") {
		t.Errorf("%s, %v", plan, err)
	}
}
