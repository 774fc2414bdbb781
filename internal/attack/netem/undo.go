package netem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/dump"
	"firedrill/internal/attack/herd"
)

// Undoer takes back what a Step put there. Kinds that use a Step hold one.
type Undoer struct {
	Hooks Hooks
	Herd  herd.Undoer // takes back what is not ours but its: an attack can have both in its journal
}

// Undo implements attack.Undoer: it deletes the netem of the attack, and the root that is ours when nothing is below it any more; then the
// kernel puts its default back. What other attacks hold is seen from the kernel itself, for they may be of another kind.
func (u Undoer) Undo(ctx context.Context, change attack.Change, others []attack.Change) error {
	if herd.Is(change) {
		return u.Herd.Undo(ctx, change, others)
	}
	var p placed
	if err := json.Unmarshal(change.Undo, &p); err != nil {
		return fmt.Errorf("netem: where it was put: %w", err)
	}
	return within(p.Namespace, func() error { return u.takeBack(p) })
}

func (u Undoer) takeBack(p placed) error {
	link, err := netlink.LinkByIndex(p.Index) // its name may have changed
	if isGone(err) {
		return nil // and with it what was on it
	}
	if err != nil {
		return fmt.Errorf("netem: look for %s: %w", p.Device, err)
	}
	if u.Hooks.Keep {
		return nil
	}
	if err := u.deleteNetem(p); err != nil {
		return err
	}
	if err := u.deleteRoot(p); err != nil {
		return err
	}
	if link.Attrs().Name != p.Device {
		return nil // another device with the number of one that is gone: nothing on it was ours, and its length is not either
	}
	if err := putLength(p.Index, p.Length); err != nil {
		return fmt.Errorf("netem: %s: %w", p.Device, err)
	}
	return nil
}

func (u Undoer) deleteNetem(p placed) error {
	all, err := listed(p.Index)
	if err != nil {
		return err
	}
	for _, q := range all {
		a := q.Attrs()
		if q.Type() == "netem" && a.Handle == p.Handle && a.Parent == rootHandle(p.Index)|uint32(p.Band) {
			u.Hooks.mark("delete netem")
			if err := netlink.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("netem: delete netem of %s: %w", p.Device, err)
			}
		}
	}
	return nil
}

// deleteRoot deletes our root, unless another attack has something below it: the last one does it.
func (u Undoer) deleteRoot(p placed) error {
	all, err := listed(p.Index)
	if err != nil {
		return err
	}
	for _, q := range all {
		if q.Attrs().Parent&0xffff0000 == rootHandle(p.Index) {
			return nil
		}
	}
	for _, q := range all {
		if !isOurs(q, p.Index) {
			continue
		}
		u.Hooks.mark("delete prio")
		if err := netlink.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("netem: delete prio of %s: %w", p.Device, err)
		}
	}
	return nil
}

// disciplines are all queueing disciplines of this network namespace.
func disciplines() ([]netlink.Qdisc, error) {
	return dump.Whole(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(nil) })
}

func listed(index int) ([]netlink.Qdisc, error) {
	all, err := disciplines()
	if err != nil {
		return nil, fmt.Errorf("netem: list queueing disciplines: %w", err)
	}
	return of(all, index), nil
}

func isGone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing)
}
