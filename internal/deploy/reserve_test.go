package deploy

import (
	"path/filepath"
	"testing"
	"time"

	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestReservationKeepsOthersAwayUntilItsEnd(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	client := w.account.Dial(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	by := func(owner string, until time.Time) history.Reservation {
		return history.Reservation{Owner: owner, Reason: "it's a \"migration\"", Since: now, Until: until}
	}
	d := w.request.Deploy
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		if drill.KindOf(err) != drill.Refused {
			t.Errorf("%s: got %v, want Refused", what, err)
		}
	}
	must(Reserve(t.Context(), client, d, by("ada@ci", now.Add(time.Hour)), now))
	found, err := Reservation(t.Context(), client, d)
	must(err)
	if found == nil || *found != by("ada@ci", now.Add(time.Hour)) {
		t.Errorf("read %+v", found)
	}
	refused("another's reservation", Reserve(t.Context(), client, d, by("bob@ci", now.Add(time.Hour)), now))
	refused("another's unlock", Free(t.Context(), client, d, "bob@ci", false, now))
	must(Reserve(t.Context(), client, d, by("ada@ci", now.Add(2*time.Hour)), now))                  // longer
	must(Reserve(t.Context(), client, d, by("bob@ci", now.Add(4*time.Hour)), now.Add(3*time.Hour))) // expired
	must(Free(t.Context(), client, d, "ada@ci", true, now.Add(3*time.Hour)))
	if found, err := Reservation(t.Context(), client, d); err != nil || found != nil {
		t.Errorf("after the end: %+v, %v", found, err)
	}
	w.write(filepath.Join(w.dir, ReservationFile), "{torn")
	if _, err := Reservation(t.Context(), client, d); drill.KindOf(err) != drill.Refused {
		t.Errorf("of a torn file: got %v, want Refused", err)
	}
}
