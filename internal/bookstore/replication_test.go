package bookstore

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// pair is a primary and its standby.
type pair struct {
	primary, standby               *Database
	primaryAddress, standbyAddress string
	stopPrimary, stopStandby       func()
}

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{primary: openDatabase(t, DatabaseOptions{Password: testPassword})}
	p.primaryAddress, p.stopPrimary = startDatabase(t, p.primary)
	p.standby = openDatabase(t, DatabaseOptions{Password: testPassword, StandbyOf: p.primaryAddress})
	p.standbyAddress, p.stopStandby = startDatabase(t, p.standby)
	awaitAttached(t, p.primary)
	return p
}

func awaitAttached(t *testing.T, primary *Database) {
	t.Helper()
	eventually(t, func() string {
		primary.mu.RLock()
		defer primary.mu.RUnlock()
		for s := range primary.standbys {
			if s.attached {
				return ""
			}
		}
		return "no standby is attached"
	})
}

func secretURL(address string) string {
	return "postgres://bookstore:" + testPassword + "@" + address + "/bookstore?sslmode=disable"
}

func TestStandbyHasEveryAcknowledgedWriteWhenPromoted(t *testing.T) {
	p := startPair(t)
	c := openCatalog(t, secretURL(p.primaryAddress))
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for seq := range int64(50) {
				if err := c.record(t.Context(), "writer-"+strconv.Itoa(i), seq); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	p.stopPrimary()
	after := openCatalog(t, secretURL(p.standbyAddress))
	if err := after.record(t.Context(), "late", 1); stateOf(err) != stateReadOnly {
		t.Errorf("write on a standby: %v", err)
	}
	if _, err := after.run(t.Context(), promoteStandby); err != nil {
		t.Fatal(err)
	}
	stored := storedIn(t, after)
	for i := range 4 {
		for seq := range 50 {
			if entry := fmt.Sprintf("writer-%d %d", i, seq); !stored(entry) {
				t.Errorf("%s was acknowledged and is not on the promoted standby", entry)
			}
		}
	}
	if err := after.record(t.Context(), "late", 1); err != nil {
		t.Errorf("write on the promoted standby: %v", err)
	}
	p.stopStandby()
	again := openDatabase(t, DatabaseOptions{Dir: p.standby.options.Dir, StandbyOf: p.primaryAddress, Password: testPassword})
	defer again.journal.file.Close()
	if again.recovering() {
		t.Error("a promoted standby is a standby again after a restart")
	}
}

func TestReadOnlyCheckCatchesAStandbyThatTakesWrites(t *testing.T) {
	p := startPair(t)
	p.standby.planted = standbyTakesWrites
	c := openCatalog(t, secretURL(p.standbyAddress))
	if err := c.record(t.Context(), "w", 1); stateOf(err) == stateReadOnly {
		t.Error("the planted bug did not show")
	}
}

// ackWaitsForStandby says whether a write is acknowledged only once a standby, that takes its time, has said that it has it.
func ackWaitsForStandby(t *testing.T, bug plantedBug) bool {
	t.Helper()
	d := openDatabase(t, DatabaseOptions{})
	d.planted = bug
	address, _ := startDatabase(t, d)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stub := &Database{options: DatabaseOptions{}}
	if err := stub.introduce(conn); err != nil {
		t.Fatal(err)
	}
	if err := writeLine(conn, position{}); err != nil {
		t.Fatal(err)
	}
	awaitAttached(t, d)
	acked := make(chan error, 1)
	go func() {
		_, err := d.execute(context.Background(), createLedger, nil)
		acked <- err
	}()
	var got delivery
	for lines := bufio.NewReader(conn); got.Record == nil; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-acked:
		return false
	case <-time.After(standbyPatience / 4): // the time in which a wrong acknowledgement would show
	}
	if err := writeLine(conn, position{got.Record.Number, got.Record.Sum}); err != nil {
		t.Fatal(err)
	}
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
	return true
}

func TestWriteIsAcknowledgedOnlyWithTheStandby(t *testing.T) {
	if !ackWaitsForStandby(t, noBug) {
		t.Error("a write was acknowledged before the attached standby had it")
	}
}

func TestStandbyCheckCatchesAnEarlyAcknowledgement(t *testing.T) {
	if ackWaitsForStandby(t, ackBeforeStandby) {
		t.Error("a primary that does not wait for its standby passed")
	}
}

func TestPrimaryGoesOnWithoutASilentStandby(t *testing.T) {
	d := openDatabase(t, DatabaseOptions{})
	address, _ := startDatabase(t, d)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := (&Database{}).introduce(conn); err != nil {
		t.Fatal(err)
	}
	if err := writeLine(conn, position{}); err != nil {
		t.Fatal(err)
	}
	awaitAttached(t, d)
	if _, err := d.execute(t.Context(), createLedger, nil); err != nil {
		t.Fatal(err)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for s := range d.standbys {
		if s.attached {
			t.Error("a standby that did not answer is still waited for")
		}
	}
}

func TestStandbyCatchesUpAfterItWasAway(t *testing.T) {
	p := startPair(t)
	c := openCatalog(t, secretURL(p.primaryAddress))
	if err := c.record(t.Context(), "writer-0", 0); err != nil {
		t.Fatal(err)
	}
	p.stopStandby()
	for seq := int64(1); seq < 20; seq++ {
		if err := c.record(t.Context(), "writer-0", seq); err != nil {
			t.Fatal(err)
		}
	}
	back := openDatabase(t, DatabaseOptions{Dir: p.standby.options.Dir, StandbyOf: p.primaryAddress, Password: testPassword})
	address, _ := startDatabase(t, back)
	awaitAttached(t, p.primary)
	seqs, err := openCatalog(t, secretURL(address)).recorded(t.Context(), "writer-0")
	if err != nil || len(seqs) != 20 {
		t.Errorf("%d of 20 entries on the standby: %v", len(seqs), err)
	}
}

func TestStandbyWithAnotherHistoryIsRefused(t *testing.T) {
	primary := openDatabase(t, DatabaseOptions{})
	address, _ := startDatabase(t, primary)
	if err := openCatalog(t, urlOf(address)).record(t.Context(), "w", 1); err != nil {
		t.Fatal(err)
	}
	stranger := t.TempDir()
	if err := os.WriteFile(filepath.Join(stranger, journalName), journalText(t, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDatabase(t, DatabaseOptions{Dir: stranger, StandbyOf: address})
	if err := d.Serve(t.Context(), listen(t)); !errors.Is(err, errRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
}
