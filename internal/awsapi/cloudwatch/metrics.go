package cloudwatch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/durable"
)

const (
	pastMax   = 14 * 24 * time.Hour // how old a sample may be
	futureMax = 2 * time.Hour

	fineKept   = 3 * time.Hour // seconds are kept as such so long, then only minutes
	minuteKept = 15 * 24 * time.Hour

	journalMax = 32 << 20 // bytes appended before the journal is written anew

	unitNone = "None"
)

// bucket is samples of one unit, counted together.
type bucket struct{ Count, Sum, Min, Max float64 }

func (b bucket) with(other bucket) bucket {
	if b.Count == 0 {
		return other
	}
	if other.Count == 0 {
		return b
	}
	return bucket{b.Count + other.Count, b.Sum + other.Sum, min(b.Min, other.Min), max(b.Max, other.Max)}
}

// buckets are the samples of one second or minute by unit.
type buckets map[string]bucket

// all returns the samples of a unit, or of every unit.
func (b buckets) all(unit string) bucket {
	if unit != "" {
		return b[unit]
	}
	var sum bucket
	for _, one := range b {
		sum = sum.with(one)
	}
	return sum
}

// series is one metric: every sample is in a minute, and those of high resolution in a second too.
type series struct {
	metric  Metric
	minutes map[int64]buckets
	seconds map[int64]buckets
}

// line is one line of the journal: samples that came, or what is left of them.
type line struct {
	Region string
	Metric Metric
	Second int64 // Unix
	Fine   bool  `json:",omitempty"`
	Only   bool  `json:",omitempty"` // of seconds: the minute has been written apart
	Unit   string
	Bucket bucket
}

// metrics are all series, and the journal that they outlive a restart in. Callers hold the engine's lock.
type metrics struct {
	all     map[string]*series
	path    string // "": nowhere
	journal *os.File
	written int
}

func keyOf(region string, m Metric) string {
	dimensions := slices.Clone(m.Dimensions)
	slices.SortFunc(dimensions, func(a, b Dimension) int { return strings.Compare(a.Name, b.Name) })
	return fmt.Sprintf("%q %q %q %q", region, m.Namespace, m.MetricName, dimensions)
}

func openMetrics(directory string, now time.Time) (*metrics, error) {
	m := &metrics{all: map[string]*series{}}
	if directory == "" {
		return m, nil
	}
	m.path = filepath.Join(directory, "metrics.jsonl")
	text, err := os.ReadFile(m.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var one line
		if json.Unmarshal(lines.Bytes(), &one) != nil {
			continue // the last line of a crash
		}
		m.count(one)
	}
	return m, m.compact(now)
}

// count puts a line into its series.
func (m *metrics) count(one line) {
	key := keyOf(one.Region, one.Metric)
	s := m.all[key]
	if s == nil {
		s = &series{metric: one.Metric, minutes: map[int64]buckets{}, seconds: map[int64]buckets{}}
		m.all[key] = s
	}
	put := func(into map[int64]buckets, at int64) {
		if into[at] == nil {
			into[at] = buckets{}
		}
		into[at][one.Unit] = into[at][one.Unit].with(one.Bucket)
	}
	if !one.Only {
		put(s.minutes, one.Second-mod(one.Second, 60))
	}
	if one.Fine {
		put(s.seconds, one.Second)
	}
}

func mod(value, by int64) int64 { return ((value % by) + by) % by }

// add counts lines and writes them down.
func (m *metrics) add(lines []line, now time.Time) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, one := range lines {
		m.count(one)
		if err := encoder.Encode(one); err != nil {
			return err
		}
	}
	if m.journal == nil {
		return nil
	}
	m.written += text.Len()
	if _, err := m.journal.Write(text.Bytes()); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	if m.written > journalMax {
		return m.compact(now)
	}
	return nil
}

// compact forgets what is too old and writes the journal anew.
func (m *metrics) compact(now time.Time) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	m.forget(now)
	for _, key := range slices.Sorted(maps.Keys(m.all)) {
		s := m.all[key]
		var region string
		_, _ = fmt.Sscanf(key, "%q", &region) // keyOf wrote it
		for _, set := range []struct {
			of   map[int64]buckets
			fine bool
		}{{s.minutes, false}, {s.seconds, true}} {
			for at, units := range set.of {
				for unit, b := range units {
					if err := encoder.Encode(line{Region: region, Metric: s.metric, Second: at, Fine: set.fine, Only: set.fine, Unit: unit, Bucket: b}); err != nil {
						return err
					}
				}
			}
		}
	}
	if m.path == "" {
		return nil
	}
	if err := durable.SaveText(m.path, text.Bytes()); err != nil {
		return err
	}
	if m.journal != nil {
		_ = m.journal.Close() // replaced as a whole
	}
	journal, err := os.OpenFile(m.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	m.journal, m.written = journal, 0
	return nil
}

func (m *metrics) forget(now time.Time) {
	for key, s := range m.all {
		for _, set := range []struct {
			of   map[int64]buckets
			kept time.Duration
		}{{s.minutes, minuteKept}, {s.seconds, fineKept}} {
			oldest := now.Add(-set.kept).Unix()
			maps.DeleteFunc(set.of, func(at int64, _ buckets) bool { return at < oldest })
		}
		if len(s.minutes)+len(s.seconds) == 0 {
			delete(m.all, key)
		}
	}
}

// sum returns the samples of a metric in [from, from+period).
func (m *metrics) sum(region string, metric Metric, unit string, from time.Time, period time.Duration) bucket {
	s := m.all[keyOf(region, metric)]
	if s == nil {
		return bucket{}
	}
	set, step := s.minutes, int64(60)
	if period < time.Minute {
		set, step = s.seconds, 1
	}
	var sum bucket
	for at := from.Unix(); at < from.Add(period).Unix(); at += step {
		sum = sum.with(set[at].all(unit))
	}
	return sum
}

// window returns the datapoints that a rule looks at.
func (m *metrics) window(region string, metric Metric, unit string, rule alarm.Rule, now time.Time) []alarm.Datapoint {
	var window []alarm.Datapoint
	for _, start := range rule.Periods(now) {
		b := m.sum(region, metric, unit, start, rule.Period)
		window = append(window, alarm.Datapoint{Start: start, Samples: b.Count, Sum: b.Sum, Minimum: b.Min, Maximum: b.Max})
	}
	return window
}
