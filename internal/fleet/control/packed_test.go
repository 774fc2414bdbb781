package control

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/fleet"
)

// fill gives a value and all in it random contents: texts that come again and again and texts that come once, names that are UUIDs and names that only
// look like it, times in many zones, lists that are empty and lists that are none.
func fill(t *testing.T, random *rand.Rand, v reflect.Value) {
	t.Helper()
	text := func() string {
		id := uuid.UUID{15: byte(random.IntN(256)), 0: byte(random.IntN(256))}.String()
		return []string{"", "a", "web1", "web2", "an environment", strings.Repeat("long ", random.IntN(90)), fmt.Sprint("once ", random.Uint64()), id, strings.ToUpper(id), "{" + id[2:] + "}", "žluť\"\x00"}[random.IntN(11)]
	}
	switch {
	case v.Type() == timeType:
		zone := time.FixedZone("", (random.IntN(27)-13)*3600+random.IntN(4)*900)
		at := []time.Time{{}, time.Unix(random.Int64N(4e9), random.Int64N(1e9)), time.Unix(random.Int64N(4e9), 0).UTC(), time.Unix(-random.Int64N(4e9), 1).In(zone), time.Now()}[random.IntN(5)]
		v.Set(reflect.ValueOf(at))
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		plan, err := json.Marshal(text())
		if err != nil {
			t.Fatal(err)
		}
		v.SetBytes(plan)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(t, random, v.Field(i))
		}
	case v.Kind() == reflect.String:
		v.SetString(text())
	case v.Kind() == reflect.Bool:
		v.SetBool(random.IntN(2) == 1)
	case v.CanInt():
		v.SetInt([]int64{0, 1, -1, random.Int64N(1 << 40)}[random.IntN(4)])
	case v.CanUint():
		v.SetUint([]uint64{0, 1, 127, 128, random.Uint64()}[random.IntN(5)])
	case v.CanFloat():
		v.SetFloat(random.NormFloat64())
	case v.Kind() == reflect.Pointer:
		if random.IntN(2) == 1 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, random, v.Elem())
		}
	case v.Kind() == reflect.Slice:
		if count := random.IntN(5) - 1; count >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), count, count))
			for i := range count {
				fill(t, random, v.Index(i))
			}
		}
	case v.Kind() == reflect.Map:
		if count := random.IntN(5) - 1; count >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range count {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(t, random, key)
				fill(t, random, value)
				v.SetMapIndex(key, value)
			}
		}
	default:
		t.Fatalf("a %s cannot be filled", v.Type())
	}
}

// differing packs random values, and counts those that are others when they are read again: as what is kept on the disk, and as what was read from there.
func differing[T any](t *testing.T, p *packer, count int) (differing int) {
	t.Helper()
	random := rand.New(rand.NewPCG(11, 13))
	values, texts := make([]T, count), make([]string, count)
	for i := range values {
		fill(t, random, reflect.ValueOf(&values[i]).Elem())
		texts[i] = pack(p, values[i])
	}
	for i, value := range values {
		text := string(encode(value))
		var stored T
		if err := json.Unmarshal([]byte(text), &stored); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if got := string(encode(unpack[T](p, texts[i]))); got != text || !reflect.DeepEqual(unpack[T](p, pack(p, stored)), stored) {
			if differing++; !p.zoneless && differing == 1 {
				t.Errorf("%s\n%s", text, got)
			}
		}
	}
	return differing
}

func TestWhatIsPackedIsReadAsItWas(t *testing.T) {
	t.Parallel()
	for name, differ := range map[string]func(*packer) int{
		"run":    func(p *packer) int { return differing[fleet.Run](t, p, 500) },
		"drill":  func(p *packer) int { return differing[fleet.DrillRun](t, p, 500) },
		"record": func(p *packer) int { return differing[fleet.Record](t, p, 500) },
	} {
		if count := differ(newPacker()); count > 0 {
			t.Errorf("%s: %d of 500 are others", name, count)
		}
		zoneless := newPacker()
		zoneless.zoneless = true
		if differ(zoneless) == 0 {
			t.Errorf("%s: a packer that forgets the zones of times is not caught", name)
		}
	}
}

// TestWordsAreBounded packs more texts, each of them twice, than words are kept.
func TestWordsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPacker()
	const more = 100
	for i := range wordsMax + more {
		text := fmt.Sprintf("word %d", i)
		for range 3 {
			if got := unpack[string](p, pack(p, text)); got != text {
				t.Fatalf("%q is %q", text, got)
			}
		}
	}
	if len(p.words) != wordsMax || len(p.known) != wordsMax {
		t.Errorf("%d words", len(p.words))
	}
	once := newPacker()
	for i := range more {
		pack(once, fmt.Sprintf("word %d", i))
	}
	if len(once.words) > 0 {
		t.Errorf("what came once is a word: %q", once.words)
	}
}

// TestHistoryIsPacked has a history of a few hosts and services, each with a name of its own, and compares what is at hand with what is on the disk.
func TestHistoryIsPacked(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fleet"), nil)
	defer shut(t, c)
	at := time.Now()
	var disk, hand int
	for i := range 40 {
		id := uuid.Must(uuid.NewV7()).String()
		run := fleet.Run{ID: id, By: "otto", Kind: "cpu", Args: []string{"-l", "60"}, Services: []string{"bookstore"}, Issued: at, Start: at, Deadline: at, State: fleet.RunEnded}
		for host := range 3 {
			run.Hosts = append(run.Hosts, fleet.RunHost{Key: fmt.Sprintf("U%055d", host), Name: fmt.Sprint("web", host), Order: uuid.NewString(), State: fleet.HostEnded, Bit: true, Reverted: true, Chain: "whole"})
		}
		if err := c.runs.put(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		c.runs.shelf.mu.RLock()
		kept := c.runs.shelf.all[id]
		c.runs.shelf.mu.RUnlock()
		if !kept.packed || kept.value != nil {
			t.Fatalf("run %d is over, and not packed", i)
		}
		if i > 2 { // the names of the first have not come before
			disk, hand = disk+len(encode(run)), hand+len(kept.text)
		}
	}
	if hand > disk/4 {
		t.Errorf("%d bytes at hand of %d on the disk", hand, disk)
	}
}

// rewritten has a drill that is over written again, by this server and by another one, and says which of that is not at hand.
func rewritten(t *testing.T, stuck bool) (missed []string) {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "fleet")
	c := open(t, directory, nil)
	c.drills.mu.Lock()
	c.drills.stuck = stuck
	c.drills.mu.Unlock()
	ended := fleet.DrillRun{ID: uuid.Must(uuid.NewV7()).String(), Request: fleet.DrillRequest{Service: "bookstore"}, State: fleet.DrillEnded, Left: true, Reason: "first"}
	if err := c.drills.put(t.Context(), ended.ID, ended); err != nil {
		t.Fatal(err)
	}
	check := func(when, reason string) {
		t.Helper()
		one, ok := c.drills.get(ended.ID)
		listed := c.Drills(1, func(run fleet.DrillRun) bool { return run.Reason == reason })
		if all := c.drills.values(); !ok || one.Reason != reason || len(listed) != 1 || len(all) != 1 || all[0].Reason != reason {
			missed = append(missed, when)
		}
	}
	check("at first", "first")
	if _, err := c.drills.change(t.Context(), ended.ID, func(run fleet.DrillRun, known bool) (fleet.DrillRun, error) {
		if !known || !run.Left || run.Request.Service != "bookstore" {
			t.Errorf("what is changed is %+v", run)
		}
		run.Left, run.Reason = false, "second"
		return run, nil
	}); err != nil {
		t.Fatal(err)
	}
	check("changed here", "second")
	ended.Reason = "third"
	if _, err := c.drills.bucket.Put(t.Context(), ended.ID, encode(ended)); err != nil {
		t.Fatal(err)
	}
	if err := c.drills.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("changed by another server", "third")
	shut(t, c)
	if !stuck {
		c = open(t, directory, nil)
		check("after a start", "third")
		shut(t, c)
	}
	return missed
}

func TestAValueThatWasPackedIsAsItWasWrittenLast(t *testing.T) {
	t.Parallel()
	if missed := rewritten(t, false); missed != nil {
		t.Error(missed)
	}
	if missed := rewritten(t, true); len(missed) != 2 {
		t.Errorf("what was packed once and stays is not caught: %v", missed)
	}
}
