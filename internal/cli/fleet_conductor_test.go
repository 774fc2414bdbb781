//go:build !hostpart

package cli

import (
	"testing"

	"firedrill/internal/deploy"
	"firedrill/internal/fleet"
)

// An agent looks for a reservation where deployments leave one; the two do not know each other.
func TestAgentsLookForReservationsWhereDeploymentsLeaveThem(t *testing.T) {
	if found, want := fleet.ReservationFile("/srv/shop"), "/srv/shop/"+deploy.ReservationFile; found != want {
		t.Errorf("agents look at %s, and it stands in %s", found, want)
	}
}
