package prove

import (
	"context"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// How long things last that a sabotage does.
const (
	holdFor      = 3 * time.Minute                // at most: it is let go when the case ends
	shortAttack  = 300 * time.Millisecond         // less than any alarm needs
	lateSample   = drill.Seconds(3 * time.Second) // beyond what is tolerated with any interval
	betweenFlaps = 1200 * time.Millisecond        // long enough for every name server to be asked
	meansMax     = 30 * time.Second
)

// holdFirstAlarm holds the first expected alarm once all is well: held before that it would be in whatever state it was.
func holdFirstAlarm(t *Tamper) {
	t.BeforeAttack = func(ctx context.Context) error {
		for _, e := range t.Step().Drill.Expectations {
			if e.Kind == drill.ExpectAlarm {
				return t.Hands.Hold(ctx, []string{e.Alarm}, nil, holdFor)
			}
		}
		return nil // Needs saw to it that there is one
	}
}

func holdNames(t *Tamper) {
	t.BeforeAttack = func(ctx context.Context) error {
		var names []string
		for _, failover := range t.Plan.Failover {
			names = append(names, failover.Name)
		}
		return t.Hands.Hold(ctx, nil, names, holdFor)
	}
}

// holdRaisedAlarm holds the first expected alarm in its state once it is raised.
func holdRaisedAlarm(t *Tamper) {
	var once sync.Once
	t.Seen = func(event history.Event, _ bool, emit func(history.Event)) {
		emit(event)
		fact, is := event.Fact.(*history.Alarm)
		if !is || fact.To != history.AlarmRaised {
			return
		}
		for _, e := range t.Step().Drill.Expectations {
			if e.Kind != drill.ExpectAlarm || e.Alarm != fact.Name {
				continue
			}
			once.Do(func() {
				ctx, cancel := context.WithTimeout(context.Background(), meansMax)
				defer cancel()
				if err := t.Hands.Hold(ctx, []string{fact.Name}, nil, holdFor); err != nil {
					emit(history.New(event.At, "prove", &history.Note{Text: "the sabotage did not work: " + err.Error()}))
				}
			})
		}
	}
}

var within = regexp.MustCompile(` within \S+`)

// impossible allows a millisecond for everything but the way back to a steady state.
func impossible(service *drill.Service) {
	for i := range service.Drills {
		for j, text := range service.Drills[i].Expect {
			if !strings.Contains(text, "of the revert") {
				service.Drills[i].Expect[j] = within.ReplaceAllString(text, " within 1ms")
			}
		}
	}
}

// hurry waits only shortly for a steady state that will not come.
func hurry(service *drill.Service) {
	for i := range service.Drills {
		service.Drills[i].Within = drill.Seconds(3 * time.Second)
	}
}

// nobody is an address that is reserved for documentation: nobody has it.
const nobody = "192.0.2.1"

// aimAtNobody aims every attack that names its targets at nobody.
func aimAtNobody(service *drill.Service) {
	for i := range service.Drills {
		options := service.Drills[i].Attack.Options
		for j := range options {
			switch strings.TrimSuffix(options[j].Name, "s") {
			case "hostname", "ipaddress", "ipaddresse":
				options[j].Name, options[j].Values = "ipaddress", []string{nobody}
			}
		}
	}
}

func withArgs(order drill.Order, change func(string) string) drill.Order {
	args := make([]string, 0, len(order.Args))
	for _, arg := range order.Args {
		args = append(args, change(arg))
	}
	order.Args = args
	return order
}

func replaceAll(text, old, planted string) string { return strings.ReplaceAll(text, old, planted) }

// flap moves the answer back and there again, once it has moved.
func flap(t *Tamper) {
	var once sync.Once
	t.Seen = func(event history.Event, inForce bool, emit func(history.Event)) {
		emit(event)
		if !inForce || answeredBy(t.Plan, event) != t.Other().Name {
			return
		}
		once.Do(func() {
			go func() { // observing must go on meanwhile
				ctx, cancel := context.WithTimeout(context.Background(), meansMax)
				defer cancel()
				for _, to := range []string{t.Step().Environment, t.Other().Name} {
					if err := t.Hands.Switch(ctx, to); err != nil {
						emit(history.New(event.At, "prove", &history.Note{Text: "the sabotage did not work: " + err.Error()}))
					}
					select {
					case <-ctx.Done():
					case <-time.After(betweenFlaps):
					}
				}
			}()
		})
	}
}

// answeredBy returns the environment that a name server was seen to lead to, or "".
func answeredBy(plan drill.Plan, event history.Event) string {
	answer, is := event.Fact.(*history.Answer)
	if !is || answer.Server == "" || len(answer.Addresses) == 0 {
		return ""
	}
	address, err := netip.ParseAddr(answer.Addresses[0])
	if err != nil {
		return ""
	}
	for _, environment := range plan.Environments {
		for _, host := range environment.Hosts {
			if host.Address == address {
				return environment.Name
			}
		}
	}
	return ""
}

// moveFirst moves the answer away before the attack, and waits until that was seen.
func moveFirst(t *Tamper) {
	moved := make(chan struct{})
	var once sync.Once
	t.Seen = func(event history.Event, _ bool, emit func(history.Event)) {
		emit(event)
		if answeredBy(t.Plan, event) == t.Other().Name {
			once.Do(func() { close(moved) })
		}
	}
	t.BeforeAttack = func(ctx context.Context) error {
		if err := t.Hands.Switch(ctx, t.Other().Name); err != nil {
			return err
		}
		select {
		case <-moved:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cacheAnswers repeats what each name server said first.
func cacheAnswers(t *Tamper) {
	first := map[string]history.Answer{}
	t.Seen = func(event history.Event, _ bool, emit func(history.Event)) {
		if answer, is := event.Fact.(*history.Answer); is && answer.Server != "" {
			kept, known := first[answer.Server+" "+answer.Name]
			if !known {
				kept = *answer
				first[answer.Server+" "+answer.Name] = kept
			}
			event.Fact = &kept
		}
		emit(event)
	}
}

func isClient(plan drill.Plan, event history.Event) bool {
	sample, is := event.Fact.(*history.Sample)
	if !is {
		return false
	}
	for _, client := range plan.Clients {
		if client.Name == sample.Probe {
			return true
		}
	}
	return false
}

// cacheSamples repeats the first good answer of each client, for ever.
func cacheSamples(t *Tamper) {
	good := map[string]history.Sample{}
	t.Seen = func(event history.Event, _ bool, emit func(history.Event)) {
		if isClient(t.Plan, event) {
			sample := *event.Fact.(*history.Sample)
			kept, known := good[sample.Probe]
			if !known && sample.OK {
				kept, known = sample, true
				good[sample.Probe] = kept
			}
			if known {
				kept.Scheduled, kept.Lag = sample.Scheduled, sample.Lag
				event.Fact = &kept
			}
		}
		emit(event)
	}
}

// freezeStandby stops the processes of the service on the standby when the attack begins, and lets them go on long after every action of
// a failover is done. Its host lives, its port accepts: nothing but a client notices.
func freezeStandby(t *Tamper) {
	t.InForce = func(ctx context.Context) error {
		// The brackets keep the pattern from matching the shell that reads it.
		const script = `pids=$(pgrep -f "[b]ookstore serve") || exit 1
kill -STOP $pids
(sleep 14; kill -CONT $pids) </dev/null >/dev/null 2>&1 &`
		return t.Hands.Run(ctx, t.Other().Hosts[0], script)
	}
}

// leaveSomething starts a second attack on the attacked host, which outlives the first.
func leaveSomething(t *Tamper) {
	t.AfterAttack = func(ctx context.Context) error {
		const script = `(firedrill attack blackhole --length 45 --ipaddress ` + nobody + ` </dev/null >/dev/null 2>&1 &)
for i in 1 2 3 4 5 6 7 8 9 10; do firedrill status --json | grep -q guid && exit 0; sleep 0.2; done; exit 1`
		return t.Hands.Run(ctx, t.Step().Drill.Hosts[0], script)
	}
}
