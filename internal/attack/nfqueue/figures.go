package nfqueue

import (
	"math/bits"
	"slices"
	"time"
)

// Times are counted in classes that are a thousandth of themselves wide: microseconds below stepCount of them, and then stepCount/2
// classes for each doubling.
const (
	stepBits  = 11
	stepCount = 1 << stepBits
	classMax  = stepCount + stepCount/2*(32-stepBits) // up to an hour
)

// Figures say how long packets were held.
type Figures struct {
	Packets   uint64
	Corrupted uint64
	Max       time.Duration
	sum       time.Duration
	classes   []uint32
}

func newFigures() Figures { return Figures{classes: make([]uint32, classMax)} }

func (f *Figures) add(held time.Duration, corrupted bool) {
	f.Packets++
	if corrupted {
		f.Corrupted++
	}
	f.sum += held
	f.Max = max(f.Max, held)
	f.classes[class(held)]++
}

// class returns the class of a time.
func class(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	if us < stepCount {
		return int(us)
	}
	shift := bits.Len64(us) - stepBits // at least 1
	return min(classMax-1, stepCount+(shift-1)*stepCount/2+int(us>>shift)-stepCount/2)
}

// low returns the shortest time of a class.
func low(class int) time.Duration {
	if class < stepCount {
		return time.Duration(class) * time.Microsecond
	}
	shift := (class-stepCount)/(stepCount/2) + 1
	return time.Duration(uint64((class-stepCount)%(stepCount/2)+stepCount/2)<<shift) * time.Microsecond
}

// Mean is the mean time, 0 without any packet.
func (f Figures) Mean() time.Duration {
	if f.Packets == 0 {
		return 0
	}
	return f.sum / time.Duration(f.Packets)
}

// Percentile returns the time that share (0 to 1) of the packets did not exceed, exact to a thousandth.
func (f Figures) Percentile(share float64) time.Duration {
	want, seen := uint64(share*float64(f.Packets)), uint64(0)
	for class, count := range f.classes {
		if seen += uint64(count); seen > want {
			return min(low(class), f.Max)
		}
	}
	return f.Max
}

func (f Figures) clone() Figures {
	f.classes = slices.Clone(f.classes)
	return f
}
