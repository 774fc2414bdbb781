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

// Each planted bug must be found by some clause. The bubble's clock makes the waiting for what never comes free.
func TestEveryPlantedBugIsFound(t *testing.T) {
	for _, bug := range Bugs {
		t.Run(bug, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, subject := NewFake(bug)
				for _, check := range Checks() {
					if check.Run(context.Background(), subject) != nil {
						return
					}
				}
				t.Error("no clause of the contract noticed")
			})
		})
	}
}
