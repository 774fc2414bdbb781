package history

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"firedrill/internal/drill"
)

// quickReader reads samples, which are most of a log, as Writer writes them: members in its order, no space between them, texts without
// escapes. Of everything else it says that it cannot, and encoding/json reads it. Both must read the same: a test holds them together.
type quickReader struct {
	texts  map[string]string // names of probes and hosts come again and again: each is kept once
	sample Sample            // used again for each line
	rest   []byte
}

// textsMax bounds what is kept of texts: details may all differ.
const textsMax = 4096

// read fills event from a line without its closing brace; false when the line is not plain enough.
func (q *quickReader) read(line []byte, event *Event) bool {
	q.rest = line
	seq, ok := int64(0), q.skip(`{"seq":`)
	if !ok || !q.integer(&seq) || !q.skip(`,"at":`) {
		return false
	}
	var at time.Time
	if !q.time(&at) || !q.skip(`,"kind":"sample"`) {
		return false
	}
	source := ""
	if q.skip(`,"source":`) && !q.text(&source) {
		return false
	}
	s := &q.sample
	*s = Sample{}
	if !q.skip(`,"data":{"probe":`) || !q.text(&s.Probe) || q.skip(`,"host":`) && !q.text(&s.Host) {
		return false
	}
	if !q.skip(`,"scheduled":`) || !q.time(&s.Scheduled) || !q.skip(`,"lag_seconds":`) || !q.seconds(&s.Lag) || !q.skip(`,"took_seconds":`) || !q.seconds(&s.Took) {
		return false
	}
	switch {
	case q.skip(`,"ok":true`):
		s.OK = true
	case q.skip(`,"ok":false`):
	default:
		return false
	}
	status := int64(0)
	if q.skip(`,"cause":`) && !q.text(&s.Cause) || q.skip(`,"detail":`) && !q.text(&s.Detail) || q.skip(`,"address":`) && !q.text(&s.Address) || q.skip(`,"status":`) && !q.integer(&status) {
		return false
	}
	s.Status = int(status)
	s.Reused = q.skip(`,"reused":true`)
	if !q.skip(`}`) || len(q.rest) > 0 {
		return false
	}
	*event = Event{Seq: seq, At: at, Source: source, Fact: s}
	return true
}

func (q *quickReader) skip(text string) bool {
	if len(q.rest) < len(text) || string(q.rest[:len(text)]) != text {
		return false
	}
	q.rest = q.rest[len(text):]
	return true
}

// quoted returns what stands between quotes when it needs no decoding: printable ASCII without escapes.
func (q *quickReader) quoted() ([]byte, bool) {
	if !q.skip(`"`) {
		return nil, false
	}
	end := bytes.IndexByte(q.rest, '"')
	if end < 0 {
		return nil, false
	}
	inner := q.rest[:end]
	for _, c := range inner {
		if c < ' ' || c > '~' || c == '\\' {
			return nil, false
		}
	}
	q.rest = q.rest[end+1:]
	return inner, true
}

func (q *quickReader) text(out *string) bool {
	inner, ok := q.quoted()
	if !ok {
		return false
	}
	if known, is := q.texts[string(inner)]; is {
		*out = known
		return true
	}
	if *out = string(inner); len(q.texts) < textsMax {
		q.texts[*out] = *out
	}
	return true
}

// time reads a moment in UTC; of other zones encoding/json decides.
func (q *quickReader) time(out *time.Time) bool {
	inner, ok := q.quoted()
	if !ok || len(inner) == 0 || inner[len(inner)-1] != 'Z' {
		return false
	}
	at, err := time.Parse(time.RFC3339Nano, string(inner))
	if err != nil || len(inner) < len("2006-01-02T15:04:05Z") || inner[10] != 'T' {
		return false
	}
	*out = at
	return true
}

// number takes the characters of a plain JSON number.
func (q *quickReader) number() []byte {
	end := 0
	for end < len(q.rest) && (q.rest[end] >= '0' && q.rest[end] <= '9' || q.rest[end] == '.' || q.rest[end] == '-') {
		end++
	}
	text := q.rest[:end]
	q.rest = q.rest[end:]
	return text
}

func (q *quickReader) integer(out *int64) bool {
	text := q.number()
	if len(text) == 0 || len(text) > 18 || text[0] == '0' && len(text) > 1 {
		return false
	}
	value := int64(0)
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
		value = value*10 + int64(c-'0')
	}
	*out = value
	return true
}

// seconds reads a number of seconds as drill.Seconds does.
func (q *quickReader) seconds(out *drill.Seconds) bool {
	text := q.number()
	if len(text) == 0 || text[0] == '.' || text[len(text)-1] == '.' || bytes.HasPrefix(text, []byte("-.")) || len(text) > 1 && text[0] == '0' && text[1] != '.' || bytes.HasPrefix(text, []byte("-0")) {
		return false
	}
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return false
	}
	*out = drill.Seconds(math.Round(value * float64(time.Second)))
	return true
}
