package alarm

import "time"

// Datapoint is the aggregate of the samples of one period, stamped with the period's start. Without samples it is missing.
type Datapoint struct {
	Start   time.Time
	Samples int
	Sum     float64
	Minimum float64
	Maximum float64
}

// Missing says that no sample came in the period.
func (p Datapoint) Missing() bool { return p.Samples == 0 }

// Value returns the statistic of the samples; 0 for a missing datapoint.
func (p Datapoint) Value(s Statistic) float64 {
	switch s {
	case Average:
		if p.Samples == 0 {
			return 0
		}
		return p.Sum / float64(p.Samples)
	case Minimum:
		return p.Minimum
	case Maximum:
		return p.Maximum
	case Sum:
		return p.Sum
	case SampleCount:
		return float64(p.Samples)
	}
	return 0
}

// add returns the datapoint with one more sample.
func (p Datapoint) add(value float64) Datapoint {
	if p.Samples == 0 || value < p.Minimum {
		p.Minimum = value
	}
	if p.Samples == 0 || value > p.Maximum {
		p.Maximum = value
	}
	p.Samples++
	p.Sum += value
	return p
}

// Series collects the samples of one rule into datapoints. It is not safe for use by several goroutines.
type Series struct {
	rule  Rule
	begin int64 // heartbeat only: the first period whose silence counts
	byIdx map[int64]Datapoint
}

// NewSeries returns an empty series for the rule; now is the moment from which samples can be expected.
func NewSeries(rule Rule, now time.Time) *Series {
	return &Series{
		rule:  rule,
		begin: indexOf(now.Add(firstDataAllowance), rule.Period) + 1,
		byIdx: make(map[int64]Datapoint),
	}
}

// Add counts a sample with the time at which it was due. It returns false for a sample that no evaluation can use any more, or that is
// so far in the future that its clock must be wrong. For a heartbeat every sample is a beat and its value is not looked at.
func (s *Series) Add(now, at time.Time, value float64) bool {
	index, current := indexOf(at, s.rule.Period), indexOf(now, s.rule.Period)
	if index < current-s.keep() || index > current+1 {
		return false
	}
	if s.rule.Heartbeat {
		value = 0
		s.begin = min(s.begin, index)
	}
	point := s.byIdx[index].add(value)
	point.Start = time.Unix(0, index*int64(s.rule.Period)).UTC()
	s.byIdx[index] = point
	s.forget(current)
	return true
}

// keep is how many past periods can still be of use: the range, and those not yet complete.
func (s *Series) keep() int64 {
	return int64(s.rule.Range()) + int64(s.rule.Grace/s.rule.Period) + 2
}

// forget drops what no evaluation can ask for; the map stays as small as the range.
func (s *Series) forget(current int64) {
	if int64(len(s.byIdx)) <= 2*s.keep() {
		return
	}
	for index := range s.byIdx {
		if index < current-s.keep() || index > current+1 {
			delete(s.byIdx, index)
		}
	}
}

// Window returns the datapoints of the rule's range, oldest first, the last being the newest period that is complete at now. A period
// without samples is there as a missing datapoint; for a heartbeat as a datapoint 1, from the moment that silence counts.
func (s *Series) Window(now time.Time) []Datapoint {
	newest := indexOf(now.Add(-s.rule.Grace), s.rule.Period) - 1
	s.forget(indexOf(now, s.rule.Period))
	window := make([]Datapoint, 0, s.rule.Range())
	for index := newest - int64(s.rule.Range()) + 1; index <= newest; index++ {
		point, ok := s.byIdx[index]
		if !ok {
			point = Datapoint{Start: time.Unix(0, index*int64(s.rule.Period)).UTC()}
			if s.rule.Heartbeat && index >= s.begin {
				point = point.add(1)
			}
		}
		window = append(window, point)
	}
	return window
}
