package agent

import (
	"testing"

	"firedrill/internal/fleet"
)

// An attack counts as ended by a halt once, whoever told it first, and one on several pods is one.
func TestAHaltCountsEachAttackOnce(t *testing.T) {
	t.Parallel()
	a := &Agent{ctx: t.Context(), options: Options{Program: []string{"/bin/sh", "-c", `echo '{"ended":[{"guid":"a"},{"guid":"p1","part_of":"b"},{"guid":"p2","part_of":"b"}],"left":[]}'`}}}
	if got := a.haltHere(fleet.Halt{ID: "h"}, []string{"a", "gone before it was looked for"}); got.Ended != 3 || got.Error != "" || len(got.Left) != 0 {
		t.Errorf("%+v; want 3 ended", got)
	}
}
