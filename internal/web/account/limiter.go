package account

import (
	"sync"
	"time"
)

const (
	// A pair of name and address may fail so often before it has to wait, twice as long each time.
	failuresFree  = 5
	waitFirst     = 15 * time.Second
	waitMax       = 15 * time.Minute
	addressFactor = 6 // an address may fail this many times as often: an office has one
	nameFactor    = 20
	forgetAfter   = time.Hour
	countersMax   = 50_000
)

// Limiter slows down who guesses. Its zero value is ready.
type Limiter struct {
	mu  sync.Mutex // guards the field below
	all map[string]counter

	Off bool // planted bug: nobody has to wait
}

type counter struct {
	failures int
	last     time.Time
	until    time.Time
}

func keysOf(name, address string) map[string]int {
	return map[string]int{"p" + address + "\x00" + name: 1, "a" + address: addressFactor, "n" + name: nameFactor}
}

// Wait returns how long a try has to wait; 0: it may be made now.
func (l *Limiter) Wait(name, address string, now time.Time) time.Duration {
	if l.Off {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := time.Duration(0)
	for key := range keysOf(name, address) {
		longest = max(longest, l.all[key].until.Sub(now))
	}
	return longest
}

// Failed counts a failure.
func (l *Limiter) Failed(name, address string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil || len(l.all) > countersMax {
		l.forget(now)
	}
	for key, factor := range keysOf(name, address) {
		c := l.all[key]
		if now.Sub(c.last) > forgetAfter {
			c = counter{}
		}
		c.failures, c.last = c.failures+1, now
		if over := c.failures - failuresFree*factor; over >= 0 {
			c.until = now.Add(min(waitMax, waitFirst<<min(over, 10)))
		}
		l.all[key] = c
	}
}

// forget drops what is old, and when that is not enough everything that does not make anybody wait. The lock is held.
func (l *Limiter) forget(now time.Time) {
	kept := map[string]counter{}
	for key, c := range l.all {
		if c.until.After(now) {
			kept[key] = c
		}
	}
	if len(kept) > countersMax {
		kept = map[string]counter{}
	}
	l.all = kept
}

// Succeeded forgets the failures of a name at an address.
func (l *Limiter) Succeeded(name, address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, "p"+address+"\x00"+name)
}
