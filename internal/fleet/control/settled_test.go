package control

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/fleet"
)

func TestARunIsSettledByItsOwnStateAlone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{"id":"a","state":"ended","hosts":[]}`:                                       true,
		`{"id":"a","state":"cancelled"}`:                                              true,
		`{"id":"a","state":"running","hosts":[{"state":"ended"}]}`:                    false,
		`{"hosts":[{"state":"ended"}],"state":"running"}`:                             false,
		`{"hosts":[{"state":"running"}],"state":"ended"}`:                             true,
		`{"hosts":[{"state":"ended"}]}`:                                               false,
		`{"args":["\"state\":\"ended\"","state","ended","}{][\\"],"state":"running"}`: false,
		`{"reason":"{[ \\\" \"state\":\"ended\" ","state":"starting"}`:                false,
		`{"reason":"\\\\","state":"ended"}`:                                           true,
		`{"state":"end\u0065d"}`:                                                      false, // it is read as usual
		`{"state":"ended`:                                                             false,
		`{"state`:                                                                     false,
		``:                                                                            false,
		`null`:                                                                        false,
	} {
		if got := runSettled([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, state := range []string{fleet.RunStarting, fleet.RunRunning, fleet.RunEnded, fleet.RunCancelled} {
		run := fleet.Run{ID: "a", By: `"state":"ended"`, Args: []string{`{"state":"ended"}`, "\\"}, State: state, Hosts: []fleet.RunHost{{State: fleet.HostEnded}}}
		if runSettled(encode(run)) != run.Done() {
			t.Errorf("%s: %s", state, encode(run))
		}
	}
	for _, state := range []string{fleet.DrillRunning, fleet.DrillBroken, fleet.DrillEnded} {
		run := fleet.DrillRun{ID: "a", By: `"state":"ended"`, State: state, Plan: json.RawMessage(`{"state":"ended"}`)}
		if drillSettled(encode(run)) != run.Done() {
			t.Errorf("%s: %s", state, encode(run))
		}
		if run.Untold = true; drillSettled(encode(run)) {
			t.Errorf("%s: of %s somebody is to be told", state, encode(run))
		}
	}
}

// What is over is read when it is asked for; what is not is known at once.
func TestAStartReadsWhatIsOverLater(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "fleet")
	c := open(t, directory, nil)
	run := func(id, state string) fleet.Run {
		return fleet.Run{ID: id, State: state, Kind: "cpu", Services: []string{"shop"}, Deadline: time.Now().Add(time.Hour), Hosts: []fleet.RunHost{{Key: "KEY", Order: "order-" + id, State: fleet.HostOrdered}}}
	}
	for id, state := range map[string]string{"01a2-over": fleet.RunEnded, "02a2-refused": fleet.RunCancelled, "03a2-going": fleet.RunRunning} {
		if err := c.runs.put(t.Context(), run(id, state)); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, c)
	c = openWith(t, directory, func(*Options) {})
	defer shut(t, c)
	if going := c.Going(); len(going) != 1 || going[0].ID != "03a2-going" {
		t.Errorf("%+v", going)
	}
	fresh, err := openRuns(t.Context(), c.store, func(fleet.Run) {})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.shelf.close()
	if left := len(fresh.shelf.all["01a2-over"].text); left == 0 {
		t.Error("it was read at the start")
	}
	if one, at, ok := fresh.of("KEY", "order-01a2-over"); !ok || one.ID != "01a2-over" || at != 0 {
		t.Errorf("the order of a run that is over: %+v, %v", one, ok)
	}
	if again, err := openRuns(t.Context(), c.store, func(fleet.Run) {}); err != nil {
		t.Error(err)
	} else {
		defer again.shelf.close()
		found := again.newest("", 10, func(run fleet.Run) bool { return run.Kind == "cpu" })
		var ids []string
		for _, one := range found {
			ids = append(ids, one.ID)
		}
		if strings.Join(ids, " ") != "03a2-going 02a2-refused 01a2-over" || again.count() != 3 {
			t.Errorf("%q", ids)
		}
		if one, err := again.find("over"); err == nil {
			t.Errorf("too short a name: %+v", one)
		}
		if one, err := again.find("2-over"); err != nil || one.ID != "01a2-over" {
			t.Errorf("%+v, %v", one, err)
		}
		changed, err := again.shelf.change(t.Context(), "01a2-over", func(run fleet.Run, known bool) (fleet.Run, error) {
			if !known || run.Kind != "cpu" {
				t.Errorf("%v, %+v", known, run)
			}
			run.Reason = "looked at"
			return run, nil
		})
		if err != nil || changed.Reason != "looked at" {
			t.Errorf("%+v, %v", changed, err)
		}
	}
}
