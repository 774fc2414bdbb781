package control

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// heardOver has a host tell events over a network that loses, repeats and delays, and returns what is handed on.
func heardOver(random *rand.Rand, take func(*hearing, fleet.Sampled) fleet.Kept) (sent, got []string) {
	h := &hearing{parts: make(chan fleet.Sampled, 2)}
	var flying []fleet.Sampled
	told := 0
	drain := func() {
		for len(h.parts) > 0 {
			got = append(got, (<-h.parts).Lines...)
		}
	}
	deliver := func(part fleet.Sampled, answered bool) {
		if kept := take(h, part); answered && kept.Lines > told {
			told = kept.Lines
		}
	}
	for told < 60 {
		for range random.IntN(4) {
			sent = append(sent, fmt.Sprint(len(sent)))
		}
		part := fleet.Sampled{From: told, Lines: slices.Clone(sent[told:min(len(sent), told+random.IntN(8))])}
		switch random.IntN(5) {
		case 0: // lost
		case 1:
			flying = append(flying, part) // late
		case 2:
			deliver(part, false) // its answer is lost
		default:
			deliver(part, true)
		}
		if len(flying) > 0 && random.IntN(3) == 0 {
			i := random.IntN(len(flying))
			deliver(flying[i], random.IntN(2) == 0)
		}
		if random.IntN(2) == 0 {
			drain()
		}
	}
	drain()
	return sent, got
}

func TestWhatAClientSawIsHandedOnOnceAndInOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		if sent, got := heardOver(rand.New(rand.NewPCG(seed, 0)), (*hearing).take); len(got) < 60 || !slices.Equal(got, sent[:len(got)]) {
			t.Fatalf("SEED=%d: of %v came %v", seed, sent, got)
		}
	}
}

func TestCountingAPartAsItComesIsCaught(t *testing.T) {
	t.Parallel()
	for name, bug := range map[string]func(*hearing, fleet.Sampled) fleet.Kept{
		"taken however often it comes": func(h *hearing, part fleet.Sampled) fleet.Kept {
			select {
			case h.parts <- part:
				h.next = max(h.next, part.From+len(part.Lines))
			default:
			}
			return fleet.Kept{Lines: h.next}
		},
		"said to be kept without room": func(h *hearing, part fleet.Sampled) fleet.Kept {
			known := min(max(h.next-part.From, 0), len(part.Lines))
			if part.From > h.next {
				return fleet.Kept{Lines: h.next}
			}
			part.Lines = part.Lines[known:]
			h.next += len(part.Lines)
			select {
			case h.parts <- part:
			default:
			}
			return fleet.Kept{Lines: h.next}
		},
	} {
		caught := false
		for seed := range uint64(300) {
			sent, got := heardOver(rand.New(rand.NewPCG(seed, 0)), bug)
			caught = caught || len(got) > len(sent) || !slices.Equal(got, sent[:len(got)])
		}
		if !caught {
			t.Errorf("a part is %s, and nothing notices", name)
		}
	}
}

func TestWhichAgentsMayBeClients(t *testing.T) {
	t.Parallel()
	host := func(name, service string, change func(*fleet.Candidate)) fleet.Candidate {
		c := fleet.Candidate{Name: name, Online: true, Tags: map[string]string{"place": "there"}}
		if service != "" {
			c.Tags[fleet.TagService] = service
		}
		if change != nil {
			change(&c)
		}
		return c
	}
	all := []fleet.Candidate{
		host("zeta", "", nil), host("web1", "shop", nil), host("web2", "shop", nil), host("bank1", "bank", nil),
		host("alpha", "", func(c *fleet.Candidate) { c.Online = false }),
		host("beta", "", func(c *fleet.Candidate) { c.Attacked = true }),
		host("gamma", "", func(c *fleet.Candidate) { c.Unfit = "has a clock that differs by 9s" }),
		host("delta", "", func(c *fleet.Candidate) { c.Unfit, c.Samples = "samples for a drill", true }),
	}
	for agent, want := range map[string]string{
		"zeta": "zeta", "delta": "delta", "web1": "web1", "place=there": "delta",
		"web2": "attacked by the drill", "bank1": `host of service "bank"`, "alpha": "is not there", "beta": "under attack", "gamma": "a clock", "omega": "no agent of this name", "place=here": "no agent has joined with this tag",
	} {
		chosen, err := chooseClients(drill.Service{Name: "shop", Clients: []drill.Client{{Name: "here"}, {Name: "far", Agent: agent}}}, all, []string{"web2"})
		switch {
		case err != nil && (drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, and not for %q", agent, err, want)
		case err == nil && (len(chosen) != 1 || chosen["far"] != want):
			t.Errorf("%s: chosen is %v, and not %q", agent, chosen, want)
		}
	}
}

func TestAServicesOwnAddressesAreThoseOfItsFile(t *testing.T) {
	t.Parallel()
	own := ownAddresses(drill.Service{
		Environments: []drill.Environment{{Hosts: []drill.Host{{Address: netip.MustParseAddr("10.0.0.1")}, {Address: netip.MustParseAddr("169.254.169.254")}}}},
		Dependencies: []drill.Dependency{{Address: "10.0.0.9:5432"}, {Address: "db.example.com:5432"}, {Address: "[fe80::1]:80"}},
		Failover:     []drill.Failover{{Servers: []string{"10.0.0.53:5353", "10.0.0.1", "ns.example.com"}}},
	})
	if got := fmt.Sprint(own); got != "[10.0.0.1/32 10.0.0.9/32 10.0.0.53/32]" {
		t.Error(got)
	}
}
