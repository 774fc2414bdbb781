package databasetest

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	_, subject := NewFake("")
	Run(t, subject)
}

func TestManagedFakeKeepsTheContract(t *testing.T) {
	_, subject := NewManaged("")
	Run(t, subject)
}

// Each planted bug must be found by some clause. The bubble's clock makes the waiting for what never comes free.
func TestEveryPlantedBugIsFound(t *testing.T) {
	for _, bug := range Bugs {
		planted(t, bug, NewFake)
	}
	for _, bug := range ManagedBugs {
		planted(t, bug, NewManaged)
	}
}

func planted(t *testing.T, bug string, start func(bug string) (*Fake, *Subject)) {
	t.Helper()
	t.Run(bug, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, subject := start(bug)
			for _, check := range Checks() {
				if check.Run(context.Background(), subject) != nil {
					return
				}
			}
			t.Error("no clause of the contract noticed")
		})
	})
}
