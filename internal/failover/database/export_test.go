package database

import "context"

// Forgetful plants a bug: at each look, the keeper has forgotten what it told of stale primaries.
func Forgetful(k *Keeper) { k.Mover.Driver = forgetful{k.Mover.Driver, k} }

type forgetful struct {
	Driver
	keeper *Keeper
}

func (f forgetful) Status(ctx context.Context) (Status, error) {
	f.keeper.mu.Lock()
	clear(f.keeper.told)
	f.keeper.mu.Unlock()
	return f.Driver.Status(ctx)
}
