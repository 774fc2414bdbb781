package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
	"firedrill/internal/schedule"
)

const (
	runsShown     = 50
	runHostsShown = 100
	lanesMax      = 30 // hosts with a row of their own in the picture of a run
	toldMax       = 40 // lines of journals that are shown
	frontRuns     = 12
)

func notThere(what, name string) error {
	return &drill.Error{Op: what, Kind: drill.Invalid, Err: fmt.Errorf("there is no %s %q", what, name)}
}

// front is the page that is seen first: what is going on, and what was.
func (s *server) front(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "front", "Overview", 500*time.Millisecond, func(context.Context) (any, error) {
		counts := map[string]int{}
		hosts := s.Control.Hosts()
		for _, h := range hosts {
			counts[conditionOf(h)]++
		}
		runs, all := s.Control.Runs("", frontRuns, nil)
		late := slices.DeleteFunc(s.Control.Cadences(time.Now()), func(one fleet.Cadence) bool { return one.State == schedule.CadenceKept })
		return map[string]any{"Hosts": len(hosts), "Counts": counts, "Runs": runs, "All": all, "Late": late}, nil
	})
}

// runs lists runs, the newest first.
func (s *server) runs(w http.ResponseWriter, r *http.Request, v *visit) {
	q := r.URL.Query()
	filter := map[string]string{}
	for _, name := range []string{"service", "kind", "state", "by"} {
		filter[name] = q.Get(name)
	}
	fits := func(run fleet.Run) bool {
		return (filter["service"] == "" || slices.Contains(run.Services, filter["service"])) && (filter["kind"] == "" || run.Kind == filter["kind"]) &&
			(filter["state"] == "" || outcomeOf(run).Word == filter["state"] || run.State == filter["state"]) && (filter["by"] == "" || run.By == filter["by"])
	}
	before := q.Get("before")
	s.show(w, r, v, "runs", "Runs", lookedThrough(filter["service"]+filter["kind"]+filter["state"]+filter["by"]+before), func(context.Context) (any, error) {
		runs, all, rest := s.Control.LookRuns(before, runsShown+1, fits)
		next := ""
		if rest != "" {
			next = address("/runs", "service", filter["service"], "kind", filter["kind"], "state", filter["state"], "by", filter["by"], "before", rest)
		}
		if len(runs) > runsShown {
			runs = runs[:runsShown]
			next = address("/runs", "service", filter["service"], "kind", filter["kind"], "state", filter["state"], "by", filter["by"], "before", runs[runsShown-1].ID)
		}
		return map[string]any{"Runs": runs, "All": all, "Next": next, "Further": rest != "", "Filter": filter, "Before": before}, nil
	})
}

// outcome is how a run ended, or stands, in a word.
type outcome struct{ Word, Class string }

// outcomes are the words of outcomeOf.
var outcomes = []string{fleet.RunStarting, fleet.RunRunning, "it bit, reverted", "unproven", "lost", notReverted, "refused"}

// notReverted outranks every other word.
const notReverted = "not reverted"

// outcomeOf sums up the hosts of a run. What did not revert outranks everything; what bit nowhere proves nothing.
func outcomeOf(run fleet.Run) outcome {
	if !run.Done() {
		return outcome{run.State, "going"}
	}
	if run.State == fleet.RunCancelled {
		return outcome{"refused", "open"}
	}
	lost, unproven := false, false
	for _, h := range run.Hosts {
		switch {
		case h.State == fleet.HostEnded && !h.Reverted:
			return outcome{notReverted, "failed"}
		case h.State == fleet.HostNothing: // it had no part
		case h.State == fleet.HostLost:
			lost = true
		case !h.Bit || h.Chain != "whole":
			unproven = true
		}
	}
	switch {
	case lost:
		return outcome{"lost", "failed"}
	case unproven:
		return outcome{"unproven", "open"}
	}
	return outcome{"it bit, reverted", "passed"}
}

// run shows one run while it happens and afterwards.
func (s *server) run(w http.ResponseWriter, r *http.Request, v *visit) {
	id := r.PathValue("run")
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	s.show(w, r, v, "run", "Run "+shortID(id), 250*time.Millisecond, func(ctx context.Context) (any, error) {
		run, err := s.Control.FindRun(id)
		if err != nil {
			return nil, err
		}
		lanes, told, err := s.lanes(ctx, run)
		if err != nil {
			return nil, err
		}
		from := min(max(from, 0), len(run.Hosts))
		hosts := run.Hosts[from:min(from+runHostsShown, len(run.Hosts))]
		next := 0
		if from+len(hosts) < len(run.Hosts) {
			next = from + len(hosts)
		}
		return map[string]any{"Run": run, "Outcome": outcomeOf(run), "Hosts": hosts, "Next": next, "From": from, "Picture": drawRun(run, lanes, time.Now()), "Told": told, "Said": sayRun(run)}, nil
	})
}

// sayRun is a run in a sentence, for who hears the page.
func sayRun(run fleet.Run) string {
	counts := map[string]int{}
	for _, h := range run.Hosts {
		counts[h.State]++
	}
	var parts []string
	for _, state := range []string{fleet.HostOrdered, fleet.HostAccepted, fleet.HostEnded, fleet.HostRefused, fleet.HostNothing, fleet.HostSilent, fleet.HostLost} {
		if counts[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	return fmt.Sprintf("%s: %s. Of %s, %s", run.Kind, outcomeOf(run).Word, counted(len(run.Hosts), "host"), strings.Join(parts, ", "))
}

// lane is what one host did in a run, as its journal tells.
type lane struct {
	Host           string
	State          string
	InForce, Ended time.Time
	Bit, Reverted  bool
}

// toldLine is a line of a journal, in words.
type toldLine struct {
	At         time.Time
	Host, Text string
}

// lanes reads the journals of the first hosts of a run.
func (s *server) lanes(ctx context.Context, run fleet.Run) (lanes []lane, told []toldLine, err error) {
	for _, h := range run.Hosts[:min(lanesMax, len(run.Hosts))] {
		l := lane{Host: h.Name, State: h.State, Bit: h.Bit, Reverted: h.Reverted}
		text, err := s.Control.JournalText(ctx, h)
		if err != nil {
			told = append(told, toldLine{At: run.Start, Host: h.Name, Text: "its journal is not whole: " + err.Error()})
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var event history.Event
			if json.Unmarshal(lines.Bytes(), &event) != nil {
				continue
			}
			switch fact := event.Fact.(type) {
			case *history.AttackInForce:
				l.InForce = event.At
			case *history.AttackReverted:
				l.Ended = event.At
			case *history.AttackAccount:
				l.Bit, l.Reverted = fact.Bit, fact.Reverted
			}
			if words := sayEvent(event); words != "" {
				told = append(told, toldLine{At: event.At, Host: h.Name, Text: words})
			}
		}
		lanes = append(lanes, l)
	}
	slices.SortStableFunc(told, func(a, b toldLine) int { return b.At.Compare(a.At) })
	return lanes, told[:min(toldMax, len(told))], nil
}

// sayEvent is an event of an attack in words; empty: it is not for people.
func sayEvent(event history.Event) string {
	switch fact := event.Fact.(type) {
	case *history.AttackPlanned:
		return fmt.Sprintf("plans %s in %d steps", fact.Attack, len(fact.Steps))
	case *history.AttackInForce:
		return "in force until " + fact.Until.UTC().Format(time.TimeOnly)
	case *history.AttackTarget:
		return fact.Verb + "s " + fact.Address
	case *history.AttackReverted:
		if len(fact.Residue) > 0 {
			return fmt.Sprintf("NOT REVERTED (%s): %s", fact.Why, strings.Join(fact.Residue, ", "))
		}
		return "reverted: " + fact.Why
	case *history.AttackRefused:
		return "refused: " + fact.Reason
	case *history.AttackAccount:
		if fact.Bit {
			return "it bit. " + strings.Join(fact.Evidence, " ")
		}
		return "nothing shows that it bit. " + strings.Join(fact.Evidence, " ")
	case *history.Note:
		return fact.Text
	}
	return ""
}

// stop ends one run.
func (s *server) stop(r *http.Request, v *visit) (string, error) {
	id := r.PathValue("run")
	_, err := s.call(r.Context(), v, "stop", id)
	return "/runs/" + id, err
}
