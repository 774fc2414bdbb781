//go:build !attackpart

package drill

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The sentences of `expect:`. Each pattern is a whole sentence; the order does not matter.
var expectPatterns = []struct {
	kind    string
	pattern func() *regexp.Regexp
	example string
}{
	{ExpectAlarm, Pattern(`^alarm "([^"]+)" within (\S+)$`), `alarm "{host}-db-connectivity-failed" within 20s`},
	{ExpectAlarmOK, Pattern(`^alarm "([^"]+)" stays OK$`), `alarm "{host}-StatusCheckFailed" stays OK`},
	{ExpectNoOther, Pattern(`^no other alarm$`), `no other alarm`},
	{ExpectMoves, Pattern(`^answer moves to the other environment within (\S+)$`), `answer moves to the other environment within 30s`},
	{ExpectStays, Pattern(`^answer stays$`), `answer stays`},
	{ExpectRecover, Pattern(`^(?:(new-connection|keep-alive) )?clients recover within (\S+)$`), `clients recover within 30s`},
	{ExpectNoFailure, Pattern(`^(?:(new-connection|keep-alive) )?clients see no failure$`), `clients see no failure`},
	{ExpectAvailable, Pattern(`^availability at least (\S+)$`), `availability at least 99%`},
	{ExpectSteadyAfter, Pattern(`^steady state within (\S+) of the revert$`), `steady state within 60s of the revert`},
	{ExpectMovesBack, Pattern(`^answer moves back within (\S+) of the revert$`), `answer moves back within 60s of the revert`},
	{ExpectLatency, Pattern(`^(\S+) of requests answered within (\S+)$`), `95% of requests answered within 300ms`},
	{ExpectSameRelease, Pattern(`^both environments run the same release$`), `both environments run the same release`},
	{ExpectLine, Pattern(`^line "(.+)" in (journal of \S+|/\S+) within (\S+)$`), `line "connection refused" in /var/log/shop.log within 20s`},
	{ExpectNoLine, Pattern(`^no line "(.+)" in (journal of \S+|/\S+)$`), `no line "panic" in journal of shop`},
	{ExpectProbeFails, Pattern(`^probe "([^"]+)" fails within (\S+)$`), `probe "orders" fails within 20s`},
	{ExpectProbeBack, Pattern(`^probe "([^"]+)" recovers within (\S+)$`), `probe "orders" recovers within 60s`},
	{ExpectProbeGood, Pattern(`^probe "([^"]+)" stays good$`), `probe "queue" stays good`},
	{ExpectDatabase, Pattern(`^database "([^"]+)" fails over within (\S+)$`), `database "books" fails over within 30s`},
	{ExpectFenced, Pattern(`^old primary of "([^"]+)" takes no writes$`), `old primary of "books" takes no writes`},
	{ExpectNoDouble, Pattern(`^no write is duplicated$`), `no write is duplicated`},
	{ExpectNoStale, Pattern(`^no read is stale$`), `no read is stale`},
	{ExpectInDoubt, Pattern(`^at most (\d{1,9}) writes in doubt$`), `at most 20 writes in doubt`},
	{ExpectNoLoss, Pattern(`^no acknowledged write is lost$`), `no acknowledged write is lost`},
}

// ExpectPatterns returns the regular expressions of the sentences of `expect:`, for the schema.
func ExpectPatterns() []string {
	var all []string
	for _, known := range expectPatterns {
		all = append(all, known.pattern().String())
	}
	return all
}

// parseExpectation reads one sentence of `expect:`.
func parseExpectation(text string) (Expectation, error) {
	text = strings.Join(strings.Fields(text), " ")
	for _, known := range expectPatterns {
		groups := known.pattern().FindStringSubmatch(text)
		if groups == nil {
			continue
		}
		expectation := Expectation{Kind: known.kind, Text: text}
		var err error
		switch known.kind {
		case ExpectAlarm:
			expectation.Alarm = groups[1]
			expectation.Within, err = ParseSeconds(groups[2])
		case ExpectAlarmOK:
			expectation.Alarm = groups[1]
		case ExpectDatabase:
			expectation.Database = groups[1]
			expectation.Within, err = ParseSeconds(groups[2])
		case ExpectFenced:
			expectation.Database = groups[1]
		case ExpectInDoubt:
			expectation.Value, err = strconv.ParseFloat(groups[1], 64)
		case ExpectRecover:
			expectation.Clients = groups[1]
			expectation.Within, err = ParseSeconds(groups[2])
		case ExpectNoFailure:
			expectation.Clients = groups[1]
		case ExpectMoves, ExpectSteadyAfter, ExpectMovesBack:
			expectation.Within, err = ParseSeconds(groups[1])
		case ExpectLine, ExpectNoLine:
			expectation.Line, expectation.File = groups[1], groups[2]
			if _, err = regexp.Compile(groups[1]); err == nil && known.kind == ExpectLine {
				expectation.Within, err = ParseSeconds(groups[3])
			}
		case ExpectProbeFails, ExpectProbeBack:
			expectation.Probe = groups[1]
			expectation.Within, err = ParseSeconds(groups[2])
		case ExpectProbeGood:
			expectation.Probe = groups[1]
		case ExpectAvailable:
			expectation.Value, err = parseShare(groups[1])
		case ExpectLatency:
			if expectation.Value, err = parseShare(groups[1]); err == nil {
				expectation.Within, err = ParseSeconds(groups[2])
			}
		}
		if err != nil {
			return Expectation{}, err
		}
		return expectation, nil
	}
	var examples []string
	for _, known := range expectPatterns {
		examples = append(examples, known.example)
	}
	return Expectation{}, fmt.Errorf("%q is not an expectation; write one of: %s", text, strings.Join(examples, "; "))
}

func parseShare(text string) (float64, error) {
	share, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || share < 0 || share > 100 {
		return 0, fmt.Errorf("%q is not a share from 0%% to 100%%", text)
	}
	return share, nil
}

// The places that a step may name instead of an environment.
const (
	placeIdle   = "idle"
	placeActive = "active"
	placeOther  = "other"
)

// placePrimary is followed by the name of a database: its primary is attacked, whichever host that is when the plan is made.
const placePrimary = "primary of "

// parsePlace reads "idle environment", "idle", "active", the name of an environment, or one of the further words.
func parsePlace(text string, s *Service, more ...string) (string, error) {
	word := strings.TrimSuffix(strings.TrimSpace(text), " environment")
	known := append([]string{placeIdle, placeActive}, names(s.Environments, func(e Environment) string { return e.Name })...)
	known = append(known, more...)
	for _, d := range s.Databases {
		known = append(known, placePrimary+d.Name)
	}
	for _, place := range known {
		if word == place {
			return place, nil
		}
	}
	return "", fmt.Errorf("%q is no place; %s", text, Suggest(word, known))
}

type item struct {
	kind  string
	drill string
	place string // empty: the default of the kind
}

// parseItem reads one item of `pipeline:`, such as "deploy idle", "drill lose-host on active" or "promote".
func parseItem(text string, s *Service) (item, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return item{}, fmt.Errorf("is empty; write deploy PLACE, drill NAME, or promote")
	}
	switch words[0] {
	case StepDeploy:
		return deployItem(words[1:], s)
	case StepPromote:
		if len(words) == 1 {
			return item{kind: StepPromote, place: placeIdle}, nil
		}
		place, err := parsePlace(strings.Join(words[1:], " "), s)
		return item{kind: StepPromote, place: place}, err
	case StepRollback:
		if s.Deploy == nil {
			return item{}, fmt.Errorf("the file says nothing of how to deploy; add deploy:")
		}
		place, err := parsePlace(strings.Join(words[1:], " "), s)
		return item{kind: StepRollback, place: place}, err
	case StepDrill:
		return drillItem(words[1:], s)
	}
	return item{}, fmt.Errorf("%q is not a step; %s", words[0], Suggest(words[0], []string{StepDeploy, StepDrill, StepPromote}))
}

func deployItem(words []string, s *Service) (item, error) {
	if s.Deploy == nil {
		return item{}, fmt.Errorf("the file says nothing of how to deploy; add deploy:")
	}
	text := strings.Join(words, " ")
	if text == "" || text == placeIdle {
		return item{kind: StepDeploy, place: placeIdle}, nil
	}
	place, err := parsePlace(text, s, placeOther)
	if err == nil && place == placeActive {
		err = fmt.Errorf("deploys to the environment that is answered; deploy to the idle one and promote it")
	}
	return item{kind: StepDeploy, place: place}, err
}

func drillItem(words []string, s *Service) (item, error) {
	known := names(s.Drills, func(d Drill) string { return d.Name })
	if len(words) == 0 {
		return item{}, fmt.Errorf("names no drill; %s", Suggest("", known))
	}
	for _, d := range s.Drills {
		if d.Name != words[0] {
			continue
		}
		on := d.On
		if len(words) > 2 && words[1] == "on" {
			on = strings.Join(words[2:], " ")
		} else if len(words) > 1 {
			return item{}, fmt.Errorf("%q after the drill's name; write on idle, on active, or on ENVIRONMENT", strings.Join(words[1:], " "))
		}
		place, err := parsePlace(on, s)
		return item{kind: StepDrill, drill: d.Name, place: place}, err
	}
	return item{}, fmt.Errorf("no drill %q; %s", words[0], Suggest(words[0], known))
}
