package alarm

import (
	"math"
	"time"
)

// Datapoint is the aggregate of the samples of one period, stamped with the period's start. Without samples it is missing.
type Datapoint struct {
	Start   time.Time
	Samples float64 // a sample that stands for several, as of a sender that samples itself, counts as so many
	Sum     float64
	Minimum float64
	Maximum float64

	values *distribution // only where the rule's statistic needs every value
}

// Missing says that no sample came in the period.
func (p Datapoint) Missing() bool { return p.Samples == 0 }

// Value returns a simple statistic of the samples; 0 for a missing datapoint.
func (p Datapoint) Value(s Statistic) float64 {
	switch s {
	case Average:
		if p.Samples == 0 {
			return 0
		}
		return p.Sum / p.Samples
	case Minimum:
		return p.Minimum
	case Maximum:
		return p.Maximum
	case Sum:
		return p.Sum
	case SampleCount:
		return p.Samples
	}
	return 0
}

// add returns the datapoint with one more sample.
func (p Datapoint) add(value float64) Datapoint { return p.addWeighted(value, 1) }

func (p Datapoint) addWeighted(value, weight float64) Datapoint {
	if p.Samples == 0 || value < p.Minimum {
		p.Minimum = value
	}
	if p.Samples == 0 || value > p.Maximum {
		p.Maximum = value
	}
	p.Samples += weight
	p.Sum += value * weight
	if p.values != nil {
		p.values.add(value, weight)
	}
	return p
}

// Series collects the samples of one rule into datapoints. It is not safe for use by several goroutines.
type Series struct {
	rule   Rule
	begin  int64  // heartbeat only: the first period whose silence counts
	ring   []slot // by index modulo its length
	window []Datapoint

	born time.Time // when samples could first be expected
	last time.Time // when the newest sample was due; zero before the first
	run  time.Time // of the newest run of samples without a gap that is longer than the rule's Absent: its begin
}

// slot is one period; an index that is not the one asked for belongs to a period long past.
type slot struct {
	index int64
	used  bool
	point Datapoint
}

// NewSeries returns an empty series for the rule; now is the moment from which samples can be expected.
func NewSeries(rule Rule, now time.Time) *Series {
	s := &Series{rule: rule, born: now}
	if rule.Absent == 0 {
		s.begin = indexOf(now.Add(firstDataAllowance), rule.Period) + 1
		s.ring = make([]slot, s.keep()+2)
	}
	return s
}

// Add counts a sample with the time at which it was due. It returns false for a sample that no evaluation can use any more, or that is
// so far in the future that its clock must be wrong. For a heartbeat every sample is a beat and its value is not looked at.
func (s *Series) Add(now, at time.Time, value float64) bool { return s.AddWeighted(now, at, value, 1) }

// AddWeighted is Add for a sample that stands for several, as of a sender that sends only some of them.
func (s *Series) AddWeighted(now, at time.Time, value, weight float64) bool {
	if math.IsNaN(value) || math.IsInf(value, 0) || !(weight > 0) || math.IsInf(weight, 0) {
		return false
	}
	if s.rule.Absent > 0 {
		return s.beat(now, at)
	}
	index, current := indexOf(at, s.rule.Period), indexOf(now, s.rule.Period)
	if index < current-s.keep() || index > current+1 {
		return false
	}
	if s.rule.Heartbeat {
		value = 0
		s.begin = min(s.begin, index)
	}
	here := s.at(index)
	if !here.used || here.index != index {
		*here = slot{index: index, used: true, point: Datapoint{Start: time.Unix(0, index*int64(s.rule.Period)).UTC()}}
		if s.rule.extended != nil {
			here.point.values = &distribution{}
		}
	}
	here.point = here.point.addWeighted(value, weight)
	return true
}

// beat takes note that something came.
func (s *Series) beat(now, at time.Time) bool {
	if at.After(now.Add(s.rule.Absent)) || now.Sub(at) > 2*s.rule.Absent {
		return false // of another time: it says nothing of now
	}
	if s.last.IsZero() || at.Sub(s.last) > s.rule.Absent {
		s.run = at
	}
	if at.After(s.last) {
		s.last = at
	}
	return true
}

func (s *Series) at(index int64) *slot {
	place := index % int64(len(s.ring))
	if place < 0 {
		place += int64(len(s.ring))
	}
	return &s.ring[place]
}

// keep is how many past periods can still be of use: the range, and those not yet complete.
func (s *Series) keep() int64 {
	return int64(s.rule.Range()) + int64(s.rule.Grace/s.rule.Period) + 2
}

// Window returns the datapoints of the rule's range, oldest first, the last being the newest period that is complete at now. A period
// without samples is there as a missing datapoint; for a heartbeat as a datapoint 1, from the moment that silence counts. The slice is the
// series' own and holds until the next call.
func (s *Series) Window(now time.Time) []Datapoint {
	s.window = s.window[:0]
	if s.rule.Absent > 0 {
		return s.window
	}
	newest := indexOf(now.Add(-s.rule.Grace), s.rule.Period) - 1
	for index := newest - int64(s.rule.Range()) + 1; index <= newest; index++ {
		if here := s.at(index); here.used && here.index == index {
			s.window = append(s.window, here.point)
			continue
		}
		point := Datapoint{Start: time.Unix(0, index*int64(s.rule.Period)).UTC()}
		if s.rule.Heartbeat && index >= s.begin {
			point = point.add(1)
		}
		s.window = append(s.window, point)
	}
	return s.window
}
