package sourcetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"firedrill/internal/source"
)

// fake is a system in memory, with the mistakes that a source could make.
type fake struct {
	raised, silent                                 bool
	silenceIsWell, absentIsWell, never, stuck, old bool
}

func (f *fake) String() string { return "fake" }

func (f *fake) Look(context.Context) (source.Reading, error) {
	if f.silent && !f.silenceIsWell {
		return source.Reading{}, errors.New("no answer")
	}
	reading := source.Reading{Raised: f.raised && !f.never || f.stuck, Reason: "because"}
	if f.old {
		reading.Since = time.Unix(0, 0)
	}
	return reading, nil
}

type nobody struct{ *fake }

func (n nobody) Look(context.Context) (source.Reading, error) {
	if n.absentIsWell {
		return source.Reading{}, nil
	}
	return source.Reading{}, errors.New("no such alarm")
}

func checkFake(t *testing.T, f *fake) []string {
	return Check(t.Context(), System{
		Source: f, Absent: nobody{f}, Within: 300 * time.Millisecond,
		Raise:   func() error { f.raised = true; return nil },
		Clear:   func() error { f.raised = false; return nil },
		Silence: func() error { f.silent = true; return nil },
	})
}

func TestContractHoldsForASourceThatKeepsIt(t *testing.T) {
	if wrong := checkFake(t, &fake{}); len(wrong) > 0 {
		t.Error(wrong)
	}
}

func TestContractCatchesBrokenSources(t *testing.T) {
	for name, broken := range map[string]*fake{
		"takes silence for good news":                           {silenceIsWell: true},
		"takes an alarm that is not there for one that is well": {absentIsWell: true},
		"never raises":          {never: true},
		"never clears":          {stuck: true},
		"tells of another time": {old: true},
	} {
		if len(checkFake(t, broken)) == 0 {
			t.Errorf("a source that %s passes", name)
		}
	}
}
