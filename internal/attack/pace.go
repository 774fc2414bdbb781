package attack

import "time"

// paceShare is the part of its age that what an attack says of a moment may be wrong by.
const paceShare = 10

// NextSecond is how long it is until the second hand of this host's clock moves. What attacks have to do once a second they do then: all of
// them wake the processor once, and not each at a time of its own.
func NextSecond() time.Duration { return time.Second - time.Duration(time.Now().Nanosecond()) }

// Pace says when to look again at something that happens at the beginning, or not for long: often at first, then after a tenth of the time
// since the first look, and in the end once a second. An attack that is in force for hours costs next to nothing, and what it saw is known
// to a tenth of the time that it took. The first call of Next begins it.
type Pace struct {
	Least time.Duration // between the first looks
	began time.Time
}

// Next is how long to wait now.
func (p *Pace) Next() time.Duration {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	pause := max(p.Least, time.Since(p.began)/paceShare)
	if pause >= time.Second {
		return NextSecond()
	}
	return pause
}
