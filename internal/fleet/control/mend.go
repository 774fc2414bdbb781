package control

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	mendLook    = time.Second      // between looks at the engine and its disk
	mendRoom    = 8 << 20          // bytes that must be free before the engine is opened anew: less is full again with the next run
	mendTry     = 10 * time.Second // one write that shows that it keeps again
	mendWaitMax = 30 * time.Second // between tries that fail
)

// keeping knows whether the engine in this process keeps what it is given. An engine that has met a full disk, or another error of writing, answers nothing more that would
// have to be kept, until it is opened anew; who waits for it is told at once.
type keeping struct {
	directory string // on the disk
	lenient   bool   // others keep as well: what this one cannot keep is not lost
	blind     bool   // planted bug: nothing is noticed

	mu      sync.Mutex // guards the fields below
	why     string     // empty: it keeps
	since   time.Time
	again   string // what was heard since it was opened anew
	waiting map[*context.CancelCauseFunc]bool
	noticed chan struct{} // something was heard
}

func newKeeping(directory string, lenient, blind bool) *keeping {
	return &keeping{directory: directory, lenient: lenient, blind: blind, waiting: map[*context.CancelCauseFunc]bool{}, noticed: make(chan struct{}, 1)}
}

// heard takes what the engine says of itself: that it cannot write stands there and nowhere else. It is called with locks of the engine held.
func (k *keeping) heard(text string) {
	small := strings.ToLower(text)
	if k.blind || !strings.Contains(small, "critical write error") && !strings.Contains(small, "will be disabled") && !strings.Contains(small, "disabling jetstream") {
		return
	}
	k.broken(text)
}

// broken notes that nothing is kept, and ends what waits for it.
func (k *keeping) broken(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.again = why
	if k.why == "" {
		k.why, k.since = why, time.Now()
		k.letGo()
		select {
		case k.noticed <- struct{}{}:
		default:
		}
	}
}

// letGo ends what waits: this engine will not answer it any more. Of several servers another one may have kept it all the same. The lock is held.
func (k *keeping) letGo() {
	for cancel := range k.waiting {
		(*cancel)(k.refusal())
	}
}

// exchanged ends what waits for an engine that is there no more.
func (k *keeping) exchanged() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.letGo()
}

// expectQuiet forgets what was heard before the engine is opened anew; complained is what was heard since.
func (k *keeping) expectQuiet() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.again = ""
}

func (k *keeping) complained() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.again == "" {
		return nil
	}
	return errors.New(k.again)
}

// mended notes that everything is kept again, and returns since when nothing was, and why.
func (k *keeping) mended() (since time.Time, why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	why, k.why = k.why, ""
	return k.since, why
}

// refusal is what somebody is told who wants something kept. The lock is held.
func (k *keeping) refusal() error {
	return &drill.Error{Op: "keep", Kind: drill.Unreachable, Err: fmt.Errorf("nothing can be kept since %s: %s", k.since.UTC().Format(time.RFC3339), k.why),
		Hint: "make room on the disk of " + k.directory + "; the server goes on by itself"}
}

// problem is why nothing is kept; nil: everything is.
func (k *keeping) problem() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.why == "" {
		return nil
	}
	return k.refusal()
}

// during does something that is to be kept. It fails at once where nothing is, and as soon as that turns out while it waits. What is not answered in time is given up: who
// writes next must not wait for it.
func (k *keeping) during(ctx context.Context, do func(context.Context) error) error {
	ctx, end := context.WithTimeout(ctx, storeMax)
	defer end()
	if k == nil {
		return do(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	k.mu.Lock()
	if k.why != "" && !k.lenient {
		defer k.mu.Unlock()
		return k.refusal()
	}
	k.waiting[&cancel] = true
	k.mu.Unlock()
	err := do(ctx)
	k.mu.Lock()
	delete(k.waiting, &cancel)
	k.mu.Unlock()
	if cause := context.Cause(ctx); err != nil && cause != nil && drill.HintOf(cause) != "" {
		return cause
	}
	return err
}

// room is how many bytes are free where the engine writes.
func (k *keeping) room() (int64, error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(k.directory, &disk); err != nil {
		return 0, err
	}
	if disk.Files > 0 && disk.Ffree == 0 {
		return 0, nil // no file can be made
	}
	return int64(disk.Bavail) * disk.Bsize, nil
}

// mend looks after the engine until ctx ends: where it writes no more, it is opened anew as soon as its disk has room.
func (c *Control) mend(ctx context.Context) {
	k := c.keeping
	if k == nil {
		return
	}
	tick := time.NewTicker(mendLook)
	defer tick.Stop()
	wait, next, said := mendLook, time.Time{}, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.noticed:
		}
		if !k.blind && !c.engine.Load().JetStreamEnabled() {
			k.broken("the engine has turned JetStream off")
		}
		problem := k.problem()
		if problem == nil {
			said, wait, next = false, mendLook, time.Time{}
			c.keepLever(ctx)
			if err := c.audit.catchUp(); err != nil {
				c.log.WarnContext(ctx, "lines of the audit log are not written yet", "error", err)
			}
			continue
		}
		if !said {
			said = true
			c.log.ErrorContext(ctx, "nothing can be kept", "error", problem, "cure", drill.HintOf(problem))
		}
		if time.Now().Before(next) {
			continue
		}
		if mended, err := c.reopen(ctx); err != nil {
			c.log.WarnContext(ctx, "the engine cannot be opened anew yet", "error", err)
			wait = min(2*wait, mendWaitMax)
			next = time.Now().Add(wait)
		} else if mended {
			c.goOn(ctx)
		}
	}
}

// goOn takes up what waited until everything is kept again.
func (c *Control) goOn(ctx context.Context) {
	since, why := c.keeping.mended()
	c.record("what is said is kept again; nothing was kept since %s: %s", since.UTC().Format(time.RFC3339), why)
	c.keepLever(ctx)
	ctx = context.WithoutCancel(ctx)
	c.beside.Go(func() { c.reread(ctx) }) // who told of changes is gone, and is missed late
	c.owe()
}

// reopen opens what is kept anew, from what is on the disk, if there is room for more, and reports whether it was. Of several servers the one that cannot keep steps aside until
// then: its engine is a door alone, so the others choose among themselves at once.
func (c *Control) reopen(ctx context.Context) (bool, error) {
	k := c.keeping
	free, err := k.room()
	if err != nil {
		return false, err
	}
	switch {
	case k.lenient && free < mendRoom:
		c.anew = false
		k.expectQuiet()
		if c.engine.Load().JetStreamEnabled() || !c.engine.Load().Running() {
			door := c.opening
			door.directory = ""
			return false, c.exchange(door)
		}
		return false, nil
	case free < mendRoom:
		return false, nil
	case k.lenient:
		return c.rejoin(ctx)
	}
	k.expectQuiet()
	err = c.reopenInPlace(ctx)
	if err == nil {
		err = k.complained()
	}
	return err == nil, err
}

// rejoin opens one of several servers anew, and reports whether it keeps again: when it has what the others wrote meanwhile, and not before. Until then it is none of those that
// may be counted on when another one goes.
func (c *Control) rejoin(ctx context.Context) (bool, error) {
	if !c.anew {
		c.keeping.expectQuiet()
		if err := c.exchange(c.opening); err != nil {
			return false, err
		}
		c.anew = true
	}
	if err := c.keeping.complained(); err != nil {
		c.anew = false
		return false, err
	}
	if err := c.caughtUp(ctx); err != nil && !c.options.Premature {
		c.log.DebugContext(ctx, "what the others wrote meanwhile is not here yet", "error", err)
		return false, nil
	}
	c.anew = false
	return true, nil
}

// Behind reports whether this server, which was started among others, does not have all yet that they keep: who stops another one now may leave too few that do.
func (c *Control) Behind() bool { return !c.whole.Load() && !c.options.Premature }

// awaitWhole waits until this server has all that the servers keep, or ctx ends.
func (c *Control) awaitWhole(ctx context.Context) {
	tick := time.NewTicker(storeAgain)
	defer tick.Stop()
	for c.caughtUp(ctx) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	c.whole.Store(true)
}

// caughtUp returns nil when the engine in this process has all of what it is to keep, which is not everything where there are more servers than replicas.
func (c *Control) caughtUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mendTry)
	defer cancel()
	engine := c.engine.Load()
	if !engine.JetStreamEnabled() {
		return errors.New("this server keeps nothing")
	}
	names := c.store.js.StreamNames(ctx)
	for name := range names.Name() {
		// What was made while this server was away it may not know of yet; the one that leads the stream does.
		keeps := engine.JetStreamIsStreamAssigned(server.DEFAULT_GLOBAL_ACCOUNT, name)
		if !keeps {
			var err error
			if keeps, err = c.store.keptBy(ctx, name, c.options.Name); err != nil {
				return err
			}
		}
		if keeps && !engine.JetStreamIsStreamCurrent(server.DEFAULT_GLOBAL_ACCOUNT, name) {
			return fmt.Errorf("%s is behind", name)
		}
	}
	return names.Err()
}

// exchange starts another engine in the place of the one that is there. Members come back by themselves, or at another server.
func (c *Control) exchange(o engineOptions) error {
	stopEngine(c.engine.Load())
	defer c.keeping.exchanged()
	fresh, err := startEngine(o)
	if err == nil {
		c.engine.Store(fresh)
	}
	return err
}

// reopenInPlace opens what is kept anew while members stay connected, and shows by a write that it keeps.
func (c *Control) reopenInPlace(ctx context.Context) error {
	engine := c.engine.Load()
	if err := engine.ShutdownJetStream(); err != nil {
		return err
	}
	// As the engine itself does it at its start.
	if err := engine.EnableJetStream(&server.JetStreamConfig{StoreDir: c.keeping.directory, SyncAlways: true, Strict: true, CompressOK: true}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mendTry)
	defer cancel()
	return c.store.tried(ctx, c.options.Name)
}

// keepLever keeps a lever that could not be kept when it was pulled.
func (c *Control) keepLever(ctx context.Context) {
	pulled, is := c.levers.unkept(leverKey)
	if !is || c.options.Forgetful {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leverMax)
	defer cancel()
	_, err := c.levers.change(ctx, leverKey, func(lever fleet.Lever, _ bool) (fleet.Lever, error) {
		pulled.Epoch = max(pulled.Epoch, lever.Epoch+1)
		return pulled, nil
	})
	if err != nil {
		c.log.WarnContext(ctx, "the lever is not kept yet", "error", err)
		return
	}
	c.record("the lever is kept: engaged by %s at %s", pulled.By, pulled.At.UTC().Format(time.RFC3339))
}

// engineDirectory is where the engine in this process keeps things; empty: nowhere.
func (o Options) engineDirectory() string {
	switch {
	case len(o.External.URLs) > 0:
		return ""
	case len(o.Cluster.Peers) > 0:
		return filepath.Join(o.Directory, "cluster")
	}
	return filepath.Join(o.Directory, "engine")
}
