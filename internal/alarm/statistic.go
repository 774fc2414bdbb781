package alarm

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Statistic is how the samples of one period become one value, as CloudWatch names it: Average, Minimum, Maximum, Sum, SampleCount, or an
// extended one, such as p99, tm95 or TM(10%:90%). ParseStatistic gives all of them their one spelling.
type Statistic string

// The simple statistics.
const (
	Average     Statistic = "Average"
	Minimum     Statistic = "Minimum"
	Maximum     Statistic = "Maximum"
	Sum         Statistic = "Sum"
	SampleCount Statistic = "SampleCount"
)

var simple = []Statistic{Average, Minimum, Maximum, Sum, SampleCount}

// extended is a statistic that needs every value of a period: what is done with those between two bounds.
type extended struct {
	verb     string // p, TM, TC, TS, WM or PR
	from, to bound
}

// bound is a share of the samples (percent) or a value; open is the end of all values.
type bound struct {
	open    bool
	percent bool
	at      float64
}

// ParseStatistic reads the name of a statistic. The short forms of the guide stand for their long ones: tm90 is TM(:90%).
func ParseStatistic(text string) (Statistic, error) {
	for _, known := range simple {
		if strings.EqualFold(text, string(known)) {
			return known, nil
		}
	}
	if _, err := parseExtended(text); err != nil {
		return "", err
	}
	return Statistic(text), nil
}

var errStatistic = "%q is no statistic; write Average, Minimum, Maximum, Sum, SampleCount, p99, tm99, tc99, ts99, wm99, IQM, TM(10%%:90%%), TC(:), TS(:), WM(:) or PR(0:0.5)"

func parseExtended(text string) (*extended, error) {
	wrong := fmt.Errorf(errStatistic, text)
	upper := strings.ToUpper(strings.TrimSpace(text))
	if upper == "IQM" {
		return &extended{verb: "TM", from: bound{percent: true, at: 25}, to: bound{percent: true, at: 75}}, nil
	}
	if share, ok := strings.CutPrefix(upper, "P"); ok && !strings.HasPrefix(upper, "PR") {
		at, err := percentOf(share)
		if err != nil {
			return nil, wrong
		}
		return &extended{verb: "p", to: bound{percent: true, at: at}}, nil
	}
	if len(upper) < 3 || !slices.Contains([]string{"TM", "TC", "TS", "WM", "PR"}, upper[:2]) {
		return nil, wrong
	}
	verb, rest := upper[:2], upper[2:]
	if inner, ok := strings.CutPrefix(rest, "("); ok {
		inner, closed := strings.CutSuffix(inner, ")")
		low, high, two := strings.Cut(inner, ":")
		from, errFrom := parseBound(low)
		to, errTo := parseBound(high)
		mixed := !from.open && !to.open && from.percent != to.percent
		if !closed || !two || errFrom != nil || errTo != nil || mixed || (from.open && to.open) || (verb == "PR" && (from.percent || to.percent)) {
			return nil, wrong
		}
		if !from.open && !to.open && from.at >= to.at {
			return nil, wrong
		}
		return &extended{verb: verb, from: from, to: to}, nil
	}
	at, err := percentOf(rest)
	if err != nil || verb == "PR" {
		return nil, wrong
	}
	return &extended{verb: verb, from: bound{open: true}, to: bound{percent: true, at: at}}, nil
}

func percentOf(text string) (float64, error) {
	at, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(at) || at < 0 || at > 100 {
		return 0, fmt.Errorf("%q is not between 0 and 100", text)
	}
	return at, nil
}

func parseBound(text string) (bound, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return bound{open: true}, nil
	}
	if share, ok := strings.CutSuffix(text, "%"); ok {
		at, err := percentOf(share)
		return bound{percent: true, at: at}, err
	}
	at, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(at) || math.IsInf(at, 0) {
		return bound{}, fmt.Errorf("%q is no number", text)
	}
	return bound{at: at}, nil
}

// least is how many samples the statistic must have to mean something: CloudWatch's rule for percentiles, 10/(1-p), or 10/p below the
// median. Everything else means something from the first sample on.
func (e *extended) least() float64 {
	if e == nil || e.verb != "p" {
		return 0
	}
	// In percent, so that p90 asks for 100 samples and not for a hair more.
	if e.to.at < 50 {
		return 1000 / e.to.at // of p0 none are enough
	}
	return 1000 / (100 - e.to.at)
}

// of computes the statistic. A period whose values all lie outside the bounds gives 0, as no value is in them.
func (e *extended) of(d *distribution) float64 {
	sorted, total := d.sorted()
	if total == 0 {
		return 0
	}
	if e.verb == "p" {
		return quantile(sorted, total, e.to.at/100)
	}
	if e.verb == "PR" {
		inside := 0.0
		for _, w := range sorted {
			if (e.from.open || w.value > e.from.at) && (e.to.open || w.value <= e.to.at) {
				inside += w.weight
			}
		}
		return 100 * inside / total
	}
	return e.trimmed(sorted, total)
}

// trimmed computes the statistics that leave out, or pull in, what lies beyond the bounds. A percentage is a share of the samples by rank,
// and a sample that the bound cuts counts with the part that is inside.
func (e *extended) trimmed(sorted []weighted, total float64) float64 {
	low, high := math.Inf(-1), math.Inf(1)
	lowRank, highRank := 0.0, total
	switch {
	case e.from.open:
	case e.from.percent:
		lowRank, low = total*e.from.at/100, quantile(sorted, total, e.from.at/100)
	default:
		low = e.from.at
	}
	switch {
	case e.to.open:
	case e.to.percent:
		highRank, high = total*e.to.at/100, quantile(sorted, total, e.to.at/100)
	default:
		high = e.to.at
	}
	count, sum, rank := 0.0, 0.0, 0.0
	for _, w := range sorted {
		begin, end := rank, rank+w.weight
		rank = end
		if e.verb == "WM" {
			count += w.weight
			sum += w.weight * min(max(w.value, low), high)
			continue
		}
		inside := min(end, highRank) - max(begin, lowRank)
		if !e.from.percent && !e.from.open && w.value <= low || !e.to.percent && !e.to.open && w.value > high {
			inside = 0
		}
		if inside > 0 {
			count += inside
			sum += inside * w.value
		}
	}
	switch {
	case e.verb == "TC":
		return count
	case e.verb == "TS":
		return sum
	case count == 0:
		return 0
	}
	return sum / count
}

// quantile returns the smallest value that at least so much of the samples do not exceed.
func quantile(sorted []weighted, total, p float64) float64 {
	// A hair less than the rank: 0.95 of 100 samples is the 95th, whatever binary fractions make of it.
	want := p*total*(1-1e-12) - 1e-12
	seen := 0.0
	for _, w := range sorted {
		if seen += w.weight; seen >= want {
			return w.value
		}
	}
	return sorted[len(sorted)-1].value
}

// distinctMax is how many different values of a period are told apart; beyond it values are rounded to three digits, which keeps a
// percentile within half a percent and the memory of a busy metric small.
const distinctMax = 10_000

type weighted struct{ value, weight float64 }

// distribution holds the values of one period.
type distribution struct {
	weights map[float64]float64
	coarse  bool
}

func (d *distribution) add(value, weight float64) {
	if d.weights == nil {
		d.weights = map[float64]float64{}
	}
	if d.coarse {
		value = rounded(value)
	}
	d.weights[value] += weight
	if d.coarse || len(d.weights) <= distinctMax {
		return
	}
	d.coarse = true
	fine := d.weights
	d.weights = make(map[float64]float64, len(fine)/4)
	for value, weight := range fine {
		d.weights[rounded(value)] += weight
	}
}

// rounded keeps three digits.
func rounded(value float64) float64 {
	if value == 0 {
		return 0
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(value))))
	if math.IsInf(scale, 0) || scale == 0 {
		return value
	}
	if near := math.Round(value*scale) / scale; !math.IsInf(near, 0) {
		return near
	}
	return value
}

func (d *distribution) sorted() (all []weighted, total float64) {
	if d == nil {
		return nil, 0
	}
	all = make([]weighted, 0, len(d.weights))
	for value, weight := range d.weights {
		all = append(all, weighted{value, weight})
		total += weight
	}
	slices.SortFunc(all, func(a, b weighted) int { return cmp.Compare(a.value, b.value) })
	return all, total
}
