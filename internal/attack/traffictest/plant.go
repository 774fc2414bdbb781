package traffictest

import (
	"fmt"
	"slices"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffic"
)

// Plant returns the hooks with a bug planted by its name, "-" for none; step is called before each durable effect.
func Plant(bug string, step func(string)) traffic.Hooks {
	h := traffic.Hooks{Step: step}
	plant := map[string]*bool{
		"no owner": &h.NoOwner, "no gate": &h.NoGate, "no spare": &h.NoSpare, "past end": &h.PastEnd, "plain drop": &h.PlainDrop,
		"resolve once": &h.ResolveOnce, "keep table": &h.KeepTable, "never bites": &h.NeverBites, "drop first": &h.DropFirst,
		"whole host": &h.WholeHost, "no replies": &h.NoReplies,
		"anonymous": &h.Anonymous, "coin": &h.Coin, "forget held": &h.ForgetHeld, "scatter": &h.Scatter, "two minds": &h.TwoMinds, "no ramp": &h.NoRamp, "stuck ramp": &h.StuckRamp,
		"all of them": &h.AllOfThem, "none of them": &h.NoneOfThem, "own refusals": &h.OwnRefusals,
		"keep held": &h.Queue.Keep, "instant": &h.Queue.Instant, "whole": &h.Queue.Whole, "keep root": &h.KeepRoot,
	}
	switch field := plant[bug]; {
	case field != nil:
		*field = true
	case bug == "no owner, no gate":
		h.NoOwner, h.NoGate = true, true
	case bug != "-" && !slices.Contains([]string{at.StaysOutside, at.FirstPodAlone, at.GatesOpen, at.PartsStay}, bug):
		panic(fmt.Sprintf("no such bug: %q", bug))
	}
	return h
}
