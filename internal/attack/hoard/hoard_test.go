package hoard

import (
	"errors"
	"math"
	"strings"
	"testing"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
)

var seats = Good{Kind: "seat", Name: "seats", Are: "are taken", CanBe: "be taken", Percent: 5, Least: 10, AmountMax: 1000,
	Room: func(string) (attack.Room, error) { return attack.Room{Used: 7, Max: 1000}, nil }}

func TestReserveIsAShareAndNeverLessThanTheLeast(t *testing.T) {
	for most, want := range map[int]int{0: 10, 199: 10, 400: 20, 1039: 51, math.MaxInt: math.MaxInt/100*5 + math.MaxInt%100*5/100} {
		if got := seats.Reserve(attack.Room{Max: most}); got != want {
			t.Errorf("of %d are kept %d, want %d", most, got, want)
		}
	}
	room := attack.Room{Used: 100, Max: 1000}
	if err := seats.Fits(850, room); err != nil {
		t.Error(err)
	}
	err := seats.Fits(851, room)
	if drill.KindOf(err) != drill.Refused || !strings.Contains(drill.HintOf(err), "--amount 850") || !strings.Contains(err.Error(), "100 of 1000 are taken, and 50 are kept") {
		t.Errorf("%v, cure %q", err, drill.HintOf(err))
	}
	if err := seats.Fits(1, attack.Room{Used: 995, Max: 1000}); !strings.Contains(drill.HintOf(err), "too little room") {
		t.Errorf("%v, cure %q", err, drill.HintOf(err))
	}
}

// A worker that is about to end holds less than it did: its last reading is no proof of anything.
func TestTheLastReadingOfAWorkerIsNotBelieved(t *testing.T) {
	bitten := func(readings ...int) bool {
		m := meter{good: seats, asked: 50}
		m.good.Held = func(int) (int, error) {
			now := readings[0]
			readings = readings[1:]
			if now < 0 {
				return 0, errors.New("it is gone")
			}
			return now, nil
		}
		for len(readings) > 0 {
			_ = m.Read(1)
		}
		bit, _ := m.Evidence()
		return bit
	}
	for _, test := range []struct {
		readings []int
		bit      bool
	}{{[]int{60, 60}, true}, {[]int{60, 50, 20}, true}, {[]int{60, 50, 20, 0, -1}, true}, {[]int{60, 49, 60}, false}, {[]int{60}, false}, {nil, false}} {
		if got := bitten(test.readings...); got != test.bit {
			t.Errorf("%v: bit %t, want %t", test.readings, got, test.bit)
		}
	}
}

func TestCountsAreWholeNumbersWithinBounds(t *testing.T) {
	for text, fine := range map[string]bool{"1": true, "1000": true, "0": false, "1001": false, "x": false, "1.5": false, "": false} {
		if _, err := seats.Count(text, 1); (err == nil) != fine {
			t.Errorf("%q: %v", text, err)
		}
	}
}
