package guard

import (
	"strings"
	"testing"
)

// The cure of a refusal is of the cause that stands in the way, and can be done as it is told.
func TestCureIsThatOfTheCause(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*scene)
		step   int
		want   string
	}{
		"no watch, and a deployment":      {func(s *scene) { s.heard(false) }, deployGreen, "firedrill watch"},
		"no watch, and a promotion":       {func(s *scene) { s.heard(false) }, promoteGreen, "firedrill watch"},
		"what stays has no release":       {func(s *scene) { s.release("blue-1", Release{}) }, deployGreen, "firedrill deploy --first blue"},
		"what stays is sick":              {func(s *scene) { s.release("blue-1", Release{Name: "r1"}) }, deployGreen, "mend blue first"},
		"what is to be promoted is sick":  {func(s *scene) { s.release("green-1", Release{Name: "r1"}) }, promoteGreen, "deploy to green first"},
		"one host of several, no release": {func(s *scene) { s.release("green-1", Release{}) }, deployBlue, "idle environment"},
	} {
		t.Run(name, func(t *testing.T) {
			s := allWell()
			test.change(s)
			if permit := Admit(s.world(), test.step, moment); permit.Granted || !strings.Contains(permit.Cure, test.want) {
				t.Errorf("%+v: want the cure %q", permit, test.want)
			}
		})
	}
}
