package control

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// What a host writes down of an order that it refuses may be here before its answer, for they are heard side by side. It is refused all the same,
// and not taken for one that was carried out and did not bite.
func TestARefusalIsOneAlsoWhenItsJournalIsHereFirst(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fleet"), nil)
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	run := fleet.Run{ID: uuid.NewString(), By: "otto", State: fleet.RunStarting, Kind: "cpu", Args: []string{"-l", "1"}, Services: []string{"shop"}, Issued: now, Start: now.Add(time.Minute), Deadline: now.Add(time.Hour),
		Hosts: []fleet.RunHost{{Key: key, Name: "web1", Order: uuid.NewString(), State: fleet.HostEnded, Reason: "refused: the owner says no", Reverted: true, Code: -1}}}
	if err := c.runs.put(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	answering, over := context.WithCancel(t.Context())
	go func() {
		for answering.Err() == nil { // until somebody waits for it
			c.hand(run.Hosts[0].Order, said{host: key, answer: fleet.Answer{Order: run.Hosts[0].Order, State: fleet.Refused, Reason: "the owner says no", Cure: "ask the owner"}})
			<-time.After(time.Millisecond)
		}
	}()
	after, err := c.begin(t.Context(), run, fleet.AttackRequest{})
	over()
	if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "the owner says no") || drill.HintOf(err) != "ask the owner" {
		t.Errorf("%v, %s", err, drill.HintOf(err))
	}
	if after.State != fleet.RunCancelled || after.Hosts[0].State != fleet.HostRefused {
		t.Errorf("%+v", after)
	}
	shut(t, c)
}
