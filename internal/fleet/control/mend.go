package control

import (
	"context"
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
	if k.why == "" {
		k.why, k.since = why, time.Now()
		for cancel := range k.waiting {
			(*cancel)(k.refusal())
		}
		select {
		case k.noticed <- struct{}{}:
		default:
		}
	}
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
	then := "; the server goes on by itself"
	if k.lenient {
		then = ", and start this server anew; the others go on meanwhile"
	}
	return &drill.Error{Op: "keep", Kind: drill.Unreachable, Err: fmt.Errorf("nothing can be kept since %s: %s", k.since.UTC().Format(time.RFC3339), k.why), Hint: "make room on the disk of " + k.directory + then}
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

// during does something that is to be kept. It fails at once where nothing is, and as soon as that turns out while it waits.
func (k *keeping) during(ctx context.Context, do func(context.Context) error) error {
	if k == nil || k.lenient {
		return do(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	k.mu.Lock()
	if k.why != "" {
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

// mend looks after the engine until ctx ends: where it writes no more, it is opened anew as soon as its disk has room. Members stay connected meanwhile.
func (c *Control) mend(ctx context.Context) {
	k := c.keeping
	if k == nil {
		return
	}
	tick := time.NewTicker(mendLook)
	defer tick.Stop()
	wait, next := mendLook, time.Time{}
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.noticed:
		}
		if !k.blind && !c.engine.JetStreamEnabled() {
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
		if free, err := k.room(); k.lenient || err != nil || free < mendRoom || time.Now().Before(next) {
			continue
		}
		if err := c.reopen(ctx); err != nil {
			c.log.WarnContext(ctx, "the engine cannot be opened anew yet", "error", err)
			wait = min(2*wait, mendWaitMax)
			next = time.Now().Add(wait)
			continue
		}
		since, why := k.mended()
		c.record("what is said is kept again; nothing was kept since %s: %s", since.UTC().Format(time.RFC3339), why)
		c.keepLever(ctx)
		c.beside.Go(func() { c.reread(context.WithoutCancel(ctx)) }) // who told of changes is gone, and is missed late
		c.beside.Go(func() {
			term, _ := c.lead.holds()
			c.freeOrphans(context.WithoutCancel(ctx), term)
		})
	}
}

// reopen opens what is kept anew, from what is on the disk, and shows by a write that it keeps.
func (c *Control) reopen(ctx context.Context) error {
	if err := c.engine.ShutdownJetStream(); err != nil {
		return err
	}
	// As the engine itself does it at its start.
	if err := c.engine.EnableJetStream(&server.JetStreamConfig{StoreDir: c.keeping.directory, SyncAlways: true, Strict: true, CompressOK: true}); err != nil {
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
