//go:build !hostpart

package cli

import (
	"runtime/metrics"
	"sync"
	"testing"
)

func TestAServerRestsAfterManyHaveCome(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	var held uint64
	var gives []uint64 // what each round leaves
	rounds := 0
	r := &restful{held: func() uint64 { return held }, settle: 100 * mib, before: 100 * mib, rest: func() {
		held, gives = gives[0]*mib, gives[1:]
		rounds++
	}}
	for i, row := range []struct {
		held   uint64
		gives  []uint64
		rounds int
		settle uint64
		waited bool // for long enough since the last rest
	}{
		{held: 120, settle: 100}, // a little more
		{held: 100, settle: 100}, // and no more
		{held: 400, settle: 100}, // many come
		{held: 900, settle: 100}, // and more
		{held: 910, gives: []uint64{700, 690}, rounds: 2, settle: 690}, // all are there
		{held: 900, settle: 690}, // and more have come
		{held: 900, settle: 690}, // just rested
		{held: 900, settle: 690},
		{held: 900, gives: []uint64{760, 750}, rounds: 2, settle: 750, waited: true},
		{held: 300, settle: 300}, // many have gone
		{held: 1000, settle: 300},
		{held: 1000, settle: 300},
		{held: 1000, gives: []uint64{800, 600, 450, 400}, rounds: restRounds, settle: 400, waited: true}, // and come back
		{held: 400, settle: 400},
	} {
		held, gives, rounds = row.held*mib, row.gives, 0
		if row.waited {
			r.wait = 0
		}
		rested := r.look()
		if rounds != row.rounds || rested != (row.rounds > 0) || r.settle != row.settle*mib {
			t.Errorf("%d: %d rounds, settled at %d MiB; want %d, %d", i, rounds, r.settle/mib, row.rounds, row.settle)
		}
	}
}

// deep needs a stack for a moment.
func deep(n int) int {
	var room [1 << 10]byte
	if n == 0 {
		return len(room)
	}
	room[n] = byte(n)
	return deep(n-1) + int(room[n])
}

// What a handshake needed of a stack is given back while its connection goes on.
func TestRestGivesBackStacksThatWereNeededOnce(t *testing.T) {
	stacks := func() uint64 {
		samples := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
		metrics.Read(samples)
		return samples[0].Value.Uint64()
	}
	const many = 2000
	var there, gone sync.WaitGroup
	end := make(chan struct{})
	there.Add(many)
	for range many {
		gone.Go(func() {
			deep(24)
			there.Done()
			<-end
		})
	}
	there.Wait()
	before := stacks()
	r := newRestful()
	r.settle, r.before = 0, r.held()
	if !r.look() {
		t.Error("it does not rest")
	}
	after := stacks()
	close(end)
	gone.Wait()
	if before < many*16<<10 || after > before/2 {
		t.Errorf("stacks take %d KiB, and took %d", after>>10, before>>10)
	}
}
