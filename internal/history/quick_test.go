package history

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
)

// bothRead reads a line quickly and by encoding/json, and says whether the quick one could.
func bothRead(t *testing.T, quick *quickReader, line []byte) bool {
	t.Helper()
	var fast, slow Event
	if !bytes.HasSuffix(line, []byte("}")) || !quick.read(line[:len(line)-1], &fast) {
		return false
	}
	if err := json.Unmarshal(line, &slow); err != nil {
		t.Fatalf("read quickly what is no event: %s: %v", line, err)
	}
	if diff := cmp.Diff(slow, fast); diff != "" {
		t.Fatalf("%s\n%s", line, diff)
	}
	return true
}

func randomSample(random *rand.Rand) Event {
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	at := time.Unix(0, random.Int64N(4e18)).UTC()
	sample := &Sample{
		Probe: pick("client", "db-connectivity", "é", `a"b`), Host: pick("", "blue-1", "h\n"), Scheduled: at.Truncate(time.Duration(1 + random.Int64N(1e9))),
		Lag: drill.Seconds(random.Int64N(1e10)), Took: drill.Seconds(random.Int64N(3e9)), OK: random.IntN(2) == 0,
		Cause: pick("", "timeout"), Detail: pick("", "i/o timeout", "<b>", "tab\t"), Address: pick("", "10.0.0.1:80"), Status: random.IntN(3) * 200, Reused: random.IntN(2) == 0,
	}
	if random.IntN(4) == 0 {
		value := random.Float64()
		sample.Value = &value
	}
	return Event{Seq: random.Int64N(1e9), At: at, Source: pick("", "client", "x y"), Fact: sample}
}

func TestQuickReadingIsReading(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	quick, read := quickReader{texts: map[string]string{}}, 0
	for range 5000 {
		line, err := json.Marshal(randomSample(random))
		if err != nil {
			t.Fatal(err)
		}
		if bothRead(t, &quick, line) {
			read++
		}
		// A line with one byte changed is read by both alike, or not quickly.
		line[random.IntN(len(line))] = byte(' ' + random.IntN(95))
		bothRead(t, &quick, line)
	}
	if read < 300 {
		t.Errorf("only %d of 5000 lines were read quickly", read)
	}
}

func FuzzQuickReading(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		line, err := json.Marshal(randomSample(random))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var fast, slow Event
		quick := quickReader{texts: map[string]string{}}
		if !bytes.HasSuffix(line, []byte("}")) || !quick.read(line[:len(line)-1], &fast) {
			return
		}
		if err := json.Unmarshal(line, &slow); err != nil {
			t.Fatalf("read quickly what is no event: %v", err)
		}
		if diff := cmp.Diff(slow, fast); diff != "" {
			t.Fatal(diff)
		}
	})
}
