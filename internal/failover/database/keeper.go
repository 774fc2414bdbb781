package database

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const (
	// rememberEvery is how often the position of a well primary is brought up to date: what it writes in between nobody misses by position.
	rememberEvery = time.Second
	// againEvery is how soon an order that was refused is tried again while its alarms stay raised: a host may become reachable.
	againEvery = 10 * time.Second
)

// Keeper stays on beside one database: it remembers its primary while that is well, and promotes a standby when all alarms order it.
type Keeper struct {
	Mover  Mover
	Alarms []string // none: nothing is promoted unasked

	mu   sync.Mutex // guards the fields below
	kept Kept
	told map[string]attempt // of each stale primary, the last one
}

// Kept is what a Keeper knows.
type Kept struct {
	Name    string   `json:"name"`
	Seen    Seen     `json:"seen"`              // of the last primary while it was well
	Alarms  []string `json:"alarms,omitempty"`  // that order a promotion, all of them together
	Refused string   `json:"refused,omitempty"` // why the last order was not carried out
}

// Kept returns what is known at this moment.
func (k *Keeper) Kept() Kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := k.kept
	kept.Name, kept.Alarms = k.Mover.Name, k.Alarms
	return kept
}

// Run keeps the database until ctx ends. states brings the state of every alarm whenever one has changed.
func (k *Keeper) Run(ctx context.Context, states <-chan map[string]string) {
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { k.remember(ctx) }) // of its own: a look at a dead host takes long, and an alarm must not wait for it
	again := time.NewTicker(againEvery)
	defer again.Stop()
	var watching Watching
	var latest map[string]string
	ordered := "" // by an alarm, and not carried out yet
	for {
		select {
		case <-ctx.Done():
			return
		case latest = <-states:
			var due bool
			var reason string
			if watching, due, reason = Due(watching, latest, k.Alarms, time.Now()); due {
				ordered = reason
			} else {
				if !k.raised(latest) {
					ordered = ""
				}
				continue
			}
		case <-again.C:
			if ordered == "" {
				continue
			}
		}
		if k.promote(ctx, ordered) {
			ordered = ""
		}
	}
}

func (k *Keeper) raised(states map[string]string) bool {
	for _, name := range k.Alarms {
		if states[name] != "ALARM" {
			return false
		}
	}
	return true
}

// promote carries an order out; false means that nothing was promoted and it may be tried again.
func (k *Keeper) promote(ctx context.Context, reason string) bool {
	k.Mover.tell(history.DatabaseOrdered, "", "%s", reason)
	_, err := k.Mover.Move(ctx, Order{}, k.Kept().Seen)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept.Refused = ""
	if err == nil {
		return true
	}
	k.kept.Refused = strings.TrimSpace(err.Error() + ". " + drill.HintOf(err))
	return drill.KindOf(err) != drill.Refused && drill.KindOf(err) != drill.Unreachable
}

func (k *Keeper) remember(ctx context.Context) {
	ticker := time.NewTicker(rememberEvery)
	defer ticker.Stop()
	for {
		if status, err := k.Mover.Driver.Status(ctx); err == nil {
			k.mu.Lock()
			before := k.kept.Seen
			k.kept.Seen = before.Remember(status)
			k.mu.Unlock()
			if status.tookOver(before) {
				k.tookOver(ctx, before, *status.Primary())
			}
			k.fenceStale(ctx, status)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// fenceStale fences a primary that was cut off while another one was promoted, and is back: a host that lost its power comes back armed, one that
// lost its network alone has never stopped. It acts only where alarms may promote, too. It is tried at each look, and told when it becomes something else.
func (k *Keeper) fenceStale(ctx context.Context, status Status) {
	if len(k.Alarms) == 0 || status.Managed {
		return
	}
	stale := Stale(status)
	k.mu.Lock()
	maps.DeleteFunc(k.told, func(host string, last attempt) bool {
		m := status.Member(host)
		// One that could not be fenced and is not seen for a moment is the same trouble still.
		return !slices.Contains(stale, host) && (last.fenced || m == nil || m.Role == Standby)
	})
	told := maps.Clone(k.told)
	k.mu.Unlock()
	for _, host := range stale {
		mover, this := k.Mover.once(told[host])
		mover.tell(history.DatabaseOrdered, host, "it takes writes on an older timeline: another server was promoted while it was out of reach")
		err := mover.Fence(ctx, host, false)
		this.fenced = err == nil
		k.mu.Lock()
		if k.told == nil {
			k.told = map[string]attempt{}
		}
		k.told[host] = *this
		k.kept.Refused = ""
		if err != nil {
			k.kept.Refused = strings.TrimSpace(err.Error() + ". " + drill.HintOf(err))
		}
		k.mu.Unlock()
	}
}

// attempt is what was done about a stale primary, in order, and what came of it.
type attempt struct {
	steps  []string
	fenced bool
}

// once returns a mover that tells only what differs from an earlier attempt: from the first step on that is another one, or has another reason.
// Digits make no other reason: an error names ports and spans that are others each time. What it did is in the attempt beside it.
func (m Mover) once(earlier attempt) (Mover, *attempt) {
	this, same, tell := &attempt{}, true, m.Tell
	m.Tell = func(step *history.DatabaseStep) {
		key := step.Step + " " + strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, step.Detail)
		n := len(this.steps)
		this.steps = append(this.steps, key)
		if same = same && n < len(earlier.steps) && earlier.steps[n] == key; !same && tell != nil {
			tell(step)
		}
	}
	return m, this
}

// tookOver tells of a primary that the database's own manager has put in the place of another one, and tries both.
func (k *Keeper) tookOver(ctx context.Context, before Seen, primary Member) {
	began := time.Now()
	if _, err := k.Mover.tookOver(ctx, before.Host, primary); err != nil {
		k.mu.Lock()
		k.kept.Refused = strings.TrimSpace(err.Error() + ". " + drill.HintOf(err))
		k.mu.Unlock()
	}
	k.Mover.record(ctx, began)
}
