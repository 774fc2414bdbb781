package guard

import (
	"fmt"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// fact is one value that a part of the world can have: the events that tell it, and whether it is good.
type fact struct {
	name string
	good bool
	tell func(s *scene, host string)
}

// The parts of an environment of one host, each with all of its values.
var parts = [][]fact{
	{
		{"host unknown", false, func(*scene, string) {}},
		{"host down", false, func(s *scene, host string) { s.host(host, false) }},
		{"host up", true, func(s *scene, host string) { s.host(host, true) }},
	},
	{
		{"alarm unknown", false, func(*scene, string) {}},
		{"alarm OK", true, func(s *scene, host string) { s.alarm(host+"-db", history.AlarmOK) }},
		{"alarm raised", false, func(s *scene, host string) { s.alarm(host+"-db", history.AlarmRaised) }},
	},
	{
		{"not attacked", true, func(*scene, string) {}},
		{"attacked", false, func(s *scene, host string) { s.inForce(host, "g-"+host, "nothing") }},
	},
	{
		{"release unknown", false, func(*scene, string) {}},
		{"look failed", false, func(s *scene, host string) { s.release(host, Release{Error: "no route to host"}) }},
		{"look is old", false, func(s *scene, host string) {
			s.release(host, Release{Name: "r1", Healthy: true, At: moment.Add(-inspectionAge - time.Second)})
		}},
		{"no release", false, func(s *scene, host string) { s.release(host, Release{Healthy: true}) }},
		{"release not healthy", false, func(s *scene, host string) { s.release(host, Release{Name: "r1"}) }},
		{"release found attacked", false, func(s *scene, host string) {
			s.release(host, Release{Name: "r1", Healthy: true, InForce: []string{"x"}})
		}},
		{"release healthy", true, func(s *scene, host string) { s.release(host, Release{Name: "r1", Healthy: true}) }},
	},
}

const releasePart = 3

// state picks one value of each part.
type state [4]int

func states() []state {
	all := []state{{}}
	for part, values := range parts {
		var next []state
		for _, begin := range all {
			for value := range values {
				begin[part] = value
				next = append(next, begin)
			}
		}
		all = next
	}
	return all
}

func (v state) good() bool {
	for part, value := range v {
		if !parts[part][value].good {
			return false
		}
	}
	return true
}

func (v state) tell(s *scene, host string) {
	for part, value := range v {
		parts[part][value].tell(s, host)
	}
}

func (v state) String() string {
	var names []string
	for part, value := range v {
		names = append(names, parts[part][value].name)
	}
	return fmt.Sprint(names)
}

func (v state) noRelease() bool { return parts[releasePart][v[releasePart]].name == "no release" }

// small says which of the worlds are tried: the parts of both environments take all of their values in any case.
type small struct {
	watch   []bool
	answers []string
	steps   []int
}

var answersGiven = map[string]func(*scene){
	"blue":     func(s *scene) { s.answer("ns-1", "10.0.0.1") },
	"green":    func(s *scene) { s.answer("ns-1", "10.0.0.2") },
	"disagree": func(s *scene) { s.answer("ns-1", "10.0.0.1"); s.answer("ns-2", "10.0.0.2") },
}

// onePair is the plan of two environments of one host each.
func onePair() *scene {
	s := &scene{plan: shop()}
	s.plan.Clients, s.plan.Failover[0].Servers = nil, nil
	s.plan.Environments[1].Hosts = s.plan.Environments[1].Hosts[:1]
	s.plan.Alarms = s.plan.Alarms[:2]
	return s
}

// grantsOf counts what a decider grants, and in how many of these worlds it may not, because the environment that stays lacks something.
func grantsOf(tried small, admit func(w *World, step int) bool) (grants, wrong int, example string) {
	all := states()
	for _, watch := range tried.watch {
		for _, answered := range tried.answers {
			for _, blue := range all {
				for _, green := range all {
					for _, step := range tried.steps {
						s := onePair()
						s.heard(watch)
						answersGiven[answered](s)
						blue.tell(s, "blue-1")
						green.tell(s, "green-1")
						if !admit(s.world(), step) {
							continue
						}
						grants++
						if !mayGrant(s.plan.Steps[step], watch, answered, blue, green) {
							wrong++
							example = fmt.Sprintf("step %d, watch %t, answered %s, blue %s, green %s", step, watch, answered, blue, green)
						}
					}
				}
			}
		}
	}
	return grants, wrong, example
}

// mayGrant is the rule in the words of the facts: what stays must be good in every part; what is attacked or promoted too; nothing is
// deployed to what is answered; but where no release is, none can be lost.
func mayGrant(step drill.Step, watch bool, answered string, blue, green state) bool {
	stays, taken := blue, green
	if step.Environment == "blue" {
		stays, taken = green, blue
	}
	switch {
	case answered == "disagree":
		return false
	case step.Kind == drill.StepDeploy && taken.noRelease():
		return true
	case step.Kind == drill.StepDeploy:
		return watch && stays.good() && answered != step.Environment
	}
	return watch && stays.good() && taken.good() && answered == step.Live
}

func TestAdmitNeverLeavesNothingToGoBackTo(t *testing.T) {
	everything := small{[]bool{false, true}, []string{"blue", "green", "disagree"}, []int{deployGreen, drillGreen, drillBlue, promoteGreen, deployBlue}}
	grants, wrong, example := grantsOf(everything, func(w *World, step int) bool { return Admit(w, step, moment).Granted })
	if wrong > 0 || grants == 0 {
		t.Errorf("of %d grants %d were wrong, as: %s", grants, wrong, example)
	}
}

func TestADeciderThatOverlooksOneFactGrantsWhatItMayNot(t *testing.T) {
	tried := small{[]bool{true}, []string{"blue"}, []int{drillGreen}}
	for name, planted := range map[string]struct {
		tried small
		blind func(*World)
	}{
		"alarms":  {tried, deafToAlarms},
		"hosts":   {tried, blindToHosts},
		"attacks": {tried, blindToAttacks},
		"watch":   {small{[]bool{false}, tried.answers, tried.steps}, func(w *World) { needsNoWatch(w); deafToAlarms(w); blindToHosts(w) }},
		"age":     {tried, seesReleases(func(r *Release) { r.At = moment })},
		"health":  {tried, seesReleases(func(r *Release) { r.Healthy = true })},
		"release": {tried, func(w *World) { w.plan.Deploy = nil }},
		"failures": {tried, seesReleases(func(r *Release) {
			if r.Error != "" {
				*r = Release{Name: "r1", Healthy: true, At: r.At}
			}
		})},
		"answer": {small{tried.watch, []string{"green"}, tried.steps}, asksNoNameServer},
	} {
		_, wrong, _ := grantsOf(planted.tried, func(w *World, step int) bool {
			planted.blind(w)
			return Admit(w, step, moment).Granted
		})
		if wrong == 0 {
			t.Errorf("a decider that overlooks %s is not caught", name)
		}
	}
}
