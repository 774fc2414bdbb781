package prove

import (
	"slices"
	"time"

	"firedrill/internal/drill"
)

// LabDrill is the drill that has to notice in the lab: short, and with every kind of expectation that a sabotage is about.
const LabDrill = "prove"

// Limits of the lab's drill: what the Bookstore needs there (alarms after 2 to 3 s, clients back after 3), and as much again for a busy machine.
const (
	labRTO    = drill.Seconds(12 * time.Second)
	labSteady = drill.Seconds(time.Second)
	labWithin = drill.Seconds(15 * time.Second)
)

// AddLabDrill adds the lab's drill to the Bookstore's service file, and returns its name.
func AddLabDrill(service *drill.Service) string {
	service.Objectives.RTO = labRTO
	for _, known := range service.Drills {
		if known.Attack.Kind != "blackhole" {
			continue
		}
		// Only the attack is taken over.
		known.Name, known.On, known.Until = LabDrill, "active environment", "decided"
		known.Steady, known.Within = labSteady, labWithin
		known.Attack.Options = shorter(known.Attack.Options)
		known.Expect = []string{
			`alarm "{host}-db-connectivity-failed" within 7s`,
			`alarm "{host}-cdn-connectivity-failed" within 7s`,
			"no other alarm",
			"answer moves to the other environment within 8s",
			"clients recover within 10s",
			"no acknowledged write is lost",
			"both environments run the same release",
			"steady state within 15s of the revert",
		}
		service.Drills = append(service.Drills, known)
		break
	}
	return LabDrill
}

// labLength is how long the attack lasts when nothing is ever decided: longer than any of the limits.
const labLength = "13s"

func shorter(options []drill.Option) []drill.Option {
	options = slices.Clone(options)
	for i := range options {
		if options[i].Name == "length" {
			options[i].Values = []string{labLength}
		}
	}
	return options
}
