package verdict

import (
	"cmp"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// seen is a fact with its time and its sequence number.
type seen[T history.Fact] struct {
	at     time.Time
	seq    int64
	source string
	fact   T
}

// span is the part of the log that belongs to a step.
type span struct {
	started, finished bool
	from, to          time.Time // to is the last known moment when the step has no end
	first, last       int       // positions in the log, last exclusive
	told              *history.StepFinished
}

func (s span) holds(at time.Time) bool { return !at.Before(s.from) && !at.After(s.to) }

// answerPlace is one name on one name server.
type answerPlace struct{ name, server string }

// record is the log, sorted into what the questions need; it is built in one pass and never changed afterwards.
type record struct {
	plan        drill.Plan
	size        int
	first, last time.Time
	run         *seen[*history.RunStarted]
	end         *seen[*history.RunFinished]
	steps       []span
	phases      []seen[*history.Phase]
	permits     []seen[*history.Permit]
	stops       []seen[*history.Stop]
	checks      []seen[*history.Check]
	ledgers     []seen[*history.Ledger]
	deploys     []seen[*history.Deploy]
	promotes    []seen[*history.Promote]
	drained     []seen[*history.Drained]
	alarms      map[string][]seen[*history.Alarm]
	answers     map[answerPlace][]seen[*history.Answer]
	samples     map[string][]sample // of clients, by client
	heartbeats  map[string][]sample // by host
	words       words
	hosts       map[string][]seen[*history.Host]
	clocks      map[string]time.Duration // error bound by source
	inspected   map[string][]seen[*history.Inspected]
	attacks     map[string]*attackFacts // by GUID
	ordered     []seen[*history.AttackOrdered]
	probes      map[string][]sample // of the user's probes, by probe
	followed    map[logFile][]seen[*history.Followed]
	lines       map[logFile][]seen[*history.Line]
	servers     map[string][]seen[*history.Database] // of databases, by database
	moves       map[string][]seen[*history.DatabaseStep]
	refusals    []positioned[*history.AttackRefused]
}

// logFile is a log file, or the journal of a unit, on a host.
type logFile struct{ host, file string }

// positioned is a fact with its position in the log, where times of several clocks would be ambiguous.
type positioned[T history.Fact] struct {
	seen[T]
	position int
}

// attackFacts is everything that was said under one GUID.
type attackFacts struct {
	guid     string
	position int    // of the first event
	source   string // of the first event
	planned  *seen[*history.AttackPlanned]
	inForce  *seen[*history.AttackInForce]
	targets  []seen[*history.AttackTarget]
	hits     []seen[*history.AttackHits]
	canaries []seen[*history.AttackCanary]
	reverted *seen[*history.AttackReverted]
	account  *seen[*history.AttackAccount]
}

func newRecord(plan drill.Plan, log []history.Event) *record {
	rec := emptyRecord(plan)
	for _, event := range log {
		rec.add(event)
	}
	rec.close()
	return rec
}

// emptyRecord is the record of a log before its first event. Events are added in order, then it is closed.
func emptyRecord(plan drill.Plan) *record {
	return &record{
		plan: plan, steps: make([]span, len(plan.Steps)),
		alarms: map[string][]seen[*history.Alarm]{}, answers: map[answerPlace][]seen[*history.Answer]{},
		samples: map[string][]sample{}, heartbeats: map[string][]sample{}, words: words{numbers: map[string]uint32{}},
		hosts: map[string][]seen[*history.Host]{}, inspected: map[string][]seen[*history.Inspected]{}, clocks: map[string]time.Duration{}, attacks: map[string]*attackFacts{},
		servers: map[string][]seen[*history.Database]{}, moves: map[string][]seen[*history.DatabaseStep]{},
		probes: map[string][]sample{}, followed: map[logFile][]seen[*history.Followed]{}, lines: map[logFile][]seen[*history.Line]{},
	}
}

func (rec *record) add(event history.Event) {
	position := rec.size
	rec.size++
	if event.Fact == nil {
		return
	}
	if event.Seq == 0 {
		event.Seq = int64(position) + 1
	}
	if !event.At.IsZero() {
		if rec.first.IsZero() || event.At.Before(rec.first) {
			rec.first = event.At
		}
		if event.At.After(rec.last) {
			rec.last = event.At
		}
	}
	rec.take(position, event)
}

func (rec *record) close() {
	rec.closeSpans(rec.size)
	rec.sort()
}

func of[T history.Fact](event history.Event, fact T) seen[T] {
	return seen[T]{at: event.At, seq: event.Seq, source: event.Source, fact: fact}
}

func one[T history.Fact](event history.Event, fact T) *seen[T] {
	got := of(event, fact)
	return &got
}

// take files one event. Facts that open or close something count only once: a second one cannot change what was already said.
func (rec *record) take(position int, event history.Event) {
	switch fact := event.Fact.(type) {
	case *history.RunStarted:
		if rec.run == nil {
			rec.run = one(event, fact)
		}
	case *history.RunFinished:
		if rec.end == nil {
			rec.end = one(event, fact)
		}
	case *history.StepStarted:
		if fact.Step >= 0 && fact.Step < len(rec.steps) && !rec.steps[fact.Step].started {
			rec.steps[fact.Step] = span{started: true, from: event.At, first: position}
		}
	case *history.StepFinished:
		if fact.Step >= 0 && fact.Step < len(rec.steps) && rec.steps[fact.Step].started && !rec.steps[fact.Step].finished {
			rec.steps[fact.Step].finished, rec.steps[fact.Step].told = true, fact
			rec.steps[fact.Step].to, rec.steps[fact.Step].last = event.At, position+1
		}
	case *history.Phase:
		rec.phases = append(rec.phases, of(event, fact))
	case *history.Permit:
		rec.permits = append(rec.permits, of(event, fact))
	case *history.Stop:
		rec.stops = append(rec.stops, of(event, fact))
	case *history.Check:
		rec.checks = append(rec.checks, of(event, fact))
	case *history.Database:
		rec.servers[fact.Database] = append(rec.servers[fact.Database], of(event, fact))
	case *history.DatabaseStep:
		rec.moves[fact.Database] = append(rec.moves[fact.Database], of(event, fact))
	case *history.Ledger:
		rec.ledgers = append(rec.ledgers, of(event, fact))
	case *history.Deploy:
		rec.deploys = append(rec.deploys, of(event, fact))
	case *history.Promote:
		rec.promotes = append(rec.promotes, of(event, fact))
	case *history.Drained:
		rec.drained = append(rec.drained, of(event, fact))
	case *history.AttackOrdered:
		rec.ordered = append(rec.ordered, of(event, fact))
	default:
		rec.takeObserved(position, event)
	}
}

// takeObserved files what hosts, monitors and clients reported.
func (rec *record) takeObserved(position int, event history.Event) {
	switch fact := event.Fact.(type) {
	case *history.Alarm:
		rec.alarms[fact.Name] = append(rec.alarms[fact.Name], of(event, fact))
	case *history.Answer:
		if !fact.Decided && fact.Server != "" {
			place := answerPlace{fact.Name, withPort(fact.Server)}
			rec.answers[place] = append(rec.answers[place], of(event, fact))
		}
	case *history.Followed:
		file := logFile{fact.Host, fact.File}
		rec.followed[file] = append(rec.followed[file], of(event, fact))
	case *history.Line:
		file := logFile{fact.Host, fact.File}
		rec.lines[file] = append(rec.lines[file], of(event, fact))
	case *history.Sample:
		if slices.ContainsFunc(rec.plan.Probes, func(p drill.Probe) bool { return p.Name == fact.Probe }) {
			rec.probes[fact.Probe] = append(rec.probes[fact.Probe], rec.compact(event.Seq, fact))
			return
		}
		if client, ok := clientOf(rec.plan, event.Source, fact); ok {
			rec.samples[client] = append(rec.samples[client], rec.compact(event.Seq, fact))
		} else if fact.Probe == "heartbeat" || fact.Probe == "status-check" {
			rec.heartbeats[fact.Host] = append(rec.heartbeats[fact.Host], rec.compact(event.Seq, fact))
		}
	case *history.Host:
		rec.hosts[fact.Host] = append(rec.hosts[fact.Host], of(event, fact))
	case *history.Inspected:
		rec.inspected[fact.Host] = append(rec.inspected[fact.Host], of(event, fact))
	case *history.Clock:
		rec.clocks[fact.Host] = fact.Error.Duration()
	case *history.AttackRefused:
		rec.refusals = append(rec.refusals, positioned[*history.AttackRefused]{of(event, fact), position})
	case *history.AttackPlanned:
		if attack := rec.attack(fact.GUID, position, event); attack.planned == nil {
			attack.planned = one(event, fact)
		}
	case *history.AttackInForce:
		if attack := rec.attack(fact.GUID, position, event); attack.inForce == nil {
			attack.inForce = one(event, fact)
		}
	case *history.AttackTarget:
		attack := rec.attack(fact.GUID, position, event)
		attack.targets = append(attack.targets, of(event, fact))
	case *history.AttackHits:
		attack := rec.attack(fact.GUID, position, event)
		attack.hits = append(attack.hits, of(event, fact))
	case *history.AttackCanary:
		attack := rec.attack(fact.GUID, position, event)
		attack.canaries = append(attack.canaries, of(event, fact))
	case *history.AttackReverted:
		rec.attack(fact.GUID, position, event).reverted = one(event, fact)
	case *history.AttackAccount:
		rec.attack(fact.GUID, position, event).account = one(event, fact)
	}
}

func (rec *record) attack(guid string, position int, event history.Event) *attackFacts {
	known, ok := rec.attacks[guid]
	if !ok {
		known = &attackFacts{guid: guid, position: position, source: event.Source}
		rec.attacks[guid] = known
	}
	return known
}

// closeSpans ends the steps whose end the log does not hold: at the begin of the next one, or with the log.
func (rec *record) closeSpans(size int) {
	for i := range rec.steps {
		step := &rec.steps[i]
		if !step.started || step.finished {
			continue
		}
		step.to, step.last = rec.last, size
		for _, next := range rec.steps[i+1:] {
			if next.started {
				step.to, step.last = next.from, next.first
				break
			}
		}
	}
}

// sort puts observations of several clocks and connections in the order in which they happened; equal times keep the log's order.
func (rec *record) sort() {
	for _, list := range rec.alarms {
		sortByTime(list)
	}
	for _, list := range rec.answers {
		sortByTime(list)
	}
	for _, list := range rec.hosts {
		sortByTime(list)
	}
	for _, list := range rec.inspected {
		sortByTime(list)
	}
	bySchedule := func(a, b sample) int { return cmp.Compare(a.at, b.at) }
	for _, byName := range []map[string][]sample{rec.samples, rec.probes, rec.heartbeats} {
		for _, list := range byName {
			slices.SortStableFunc(list, bySchedule)
		}
	}
	for _, list := range rec.lines {
		sortByTime(list)
	}
	for _, list := range rec.servers {
		sortByTime(list)
	}
	for _, list := range rec.moves {
		sortByTime(list)
	}
	for _, list := range rec.followed {
		sortByTime(list)
	}
	sortByTime(rec.checks)
}

func sortByTime[T history.Fact](list []seen[T]) {
	slices.SortStableFunc(list, func(a, b seen[T]) int { return a.at.Compare(b.at) })
}

// lastBefore returns the latest of a sorted list at or before at.
func lastBefore[T history.Fact](list []seen[T], at time.Time) (seen[T], bool) {
	for i := len(list) - 1; i >= 0; i-- {
		if !list[i].at.After(at) {
			return list[i], true
		}
	}
	return seen[T]{}, false
}

// within returns the part of a sorted list in the half-open span (from, to].
func within[T history.Fact](list []seen[T], from, to time.Time) []seen[T] {
	low, _ := slices.BinarySearchFunc(list, from, func(s seen[T], t time.Time) int {
		if s.at.After(t) {
			return 1
		}
		return -1
	})
	high := low
	for high < len(list) && !list[high].at.After(to) {
		high++
	}
	return list[low:high]
}

// refusal returns why a safeguard did not let step start, or "". A permit that was granted later counts.
func (rec *record) refusal(step int) string {
	reason := ""
	for _, permit := range rec.permits {
		if permit.fact.Step == step {
			reason = ""
			if !permit.fact.Granted {
				reason = sentence(permit.fact.Reason)
			}
		}
	}
	return reason
}

// clientOf says which client a sample belongs to.
func clientOf(plan drill.Plan, source string, sample *history.Sample) (string, bool) {
	for _, client := range plan.Clients {
		if sample.Probe == client.Name || sample.Host == client.Name {
			return client.Name, true
		}
	}
	if sample.Probe != "client" {
		return "", false
	}
	for _, client := range plan.Clients {
		if source == client.Name {
			return client.Name, true
		}
	}
	if len(plan.Clients) == 1 {
		return plan.Clients[0].Name, true
	}
	return source, true
}

// withPort makes two ways of writing the same name server equal. What is asked by a URL has only one.
func withPort(server string) string {
	if strings.Contains(server, "://") {
		return server
	}
	if server == "" {
		return ""
	}
	if host, port, err := net.SplitHostPort(server); err == nil {
		return net.JoinHostPort(host, port)
	}
	return net.JoinHostPort(server, "53")
}

// samePlan compares plans by what is written of them, because that is all that a log keeps.
func samePlan(a, b drill.Plan) bool {
	textA, errA := json.Marshal(a)
	textB, errB := json.Marshal(b)
	return errA == nil && errB == nil && string(textA) == string(textB)
}

// environmentOf returns the environment that an answer leads to, "" when it leads to none or to several.
func (rec *record) environmentOf(answer *history.Answer) string {
	if answer.Error != "" {
		return ""
	}
	if answer.Environment != "" || len(answer.Addresses) == 0 {
		return answer.Environment
	}
	found := ""
	for _, address := range answer.Addresses {
		owner := ""
		for _, environment := range rec.plan.Environments {
			for _, host := range environment.Hosts {
				if host.Address.String() == address {
					owner = environment.Name
				}
			}
		}
		if owner == "" || found != "" && found != owner {
			return ""
		}
		found = owner
	}
	return found
}
