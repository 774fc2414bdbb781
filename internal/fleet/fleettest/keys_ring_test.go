package fleettest

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
)

// identityOf is what a server keeps of its identity.
func (r *ring) identityOf(p *part) (kept struct {
	Turn        uint64 `json:"turn"`
	OrderSerial uint64 `json:"order_serial"`
	OrderSeed   string `json:"order_seed"`
	Certificate string `json:"certificate"`
}) {
	r.t.Helper()
	if err := durable.Load(filepath.Join(p.config.(serverConfig).Directory, "identity.json"), &kept); err != nil { //nolint:forcetypeassert // of a server
		r.t.Fatal(err)
	}
	return kept
}

// allHold waits until servers have the same keys, after so many changes of the order key at least: one whose answer was lost may have been made twice.
func (r *ring) allHold(serial uint64, servers ...*part) {
	r.t.Helper()
	r.await("the same keys at all servers", func() error {
		first := r.identityOf(servers[0])
		for _, p := range servers {
			if kept := r.identityOf(p); kept != first || kept.OrderSerial < serial {
				return fmt.Errorf("%s keeps change %d and orders by number %d, and %s change %d", p.name, kept.Turn, kept.OrderSerial, servers[0].name, first.Turn)
			}
		}
		return nil
	})
}

// seedOf is the key of an agent.
func (r *ring) seedOf(p *part) string {
	r.t.Helper()
	id, err := agent.LoadIdentity(p.config.(agentConfig).State) //nolint:forcetypeassert // of an agent
	if err != nil {
		r.t.Fatal(err)
	}
	return id.Seed
}

// All keys are replaced while three servers run, twice while one of them is away. Each goes on with the new ones, hosts stay, and the one that was away comes back.
func TestThreeServersGoOnWhileAllKeysAreReplaced(t *testing.T) {
	t.Parallel()
	r := newRing(t, 3, 0, func(config *serverConfig) { config.Patient = true })
	first := r.join("web1", web(), false)
	r.join("web2", web(), false)
	r.online()
	rotate := func(what string, overlap time.Duration) {
		t.Helper()
		before := r.identityOf(r.servers[0]).Turn
		r.await("a change of "+what, func() error {
			// A server that is slow may answer too late, and a change that was made is not made again.
			if what != fleet.KeyOfAgents && r.identityOf(r.servers[0]).Turn > before {
				return nil
			}
			return r.try("rotate", fleet.RotateRequest{What: what, Overlap: drill.Seconds(overlap)}, nil)
		})
	}
	rekeyed := func(before string) {
		t.Helper()
		r.await("another key of web1", func() error {
			var view fleet.KeysView
			if err := r.try("keys", nil, &view); err != nil {
				return err
			}
			if r.seedOf(first) == before || len(view.AgentsAsked) > 0 {
				return fmt.Errorf("%v have not replaced theirs", view.AgentsAsked)
			}
			return nil
		})
	}
	seed := r.seedOf(first)
	rotate(fleet.KeyOfOrders, time.Second)
	rotate(fleet.KeyCertificate, time.Second)
	rotate(fleet.KeyOfAgents, 0)
	r.allHold(1, r.servers...)
	rekeyed(seed)
	r.online()
	if run := r.ended(r.attack("0.1", "web1").ID); !run.Hosts[0].Reverted {
		t.Errorf("%+v", run)
	}

	away, stay := r.servers[2], r.servers[:2]
	away.kill()
	r.connect()
	seed = r.seedOf(first)
	rotate(fleet.KeyOfOrders, time.Second)
	rotate(fleet.KeyCertificate, time.Hour) // by the one before it is let in
	rotate(fleet.KeyOfAgents, 0)
	r.allHold(2, stay...)
	rekeyed(seed)
	rotate(fleet.KeyOfOrders, time.Second)
	r.allHold(3, stay...)
	away.start()
	r.allHold(3, r.servers...)
	r.online()
	if run := r.ended(r.attack("0.1", "web1").ID); !run.Hosts[0].Reverted || run.Hosts[0].Chain != "whole" {
		t.Errorf("%+v", run)
	}
	r.mustBeRight()
}
