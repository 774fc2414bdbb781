//go:build !hostpart

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
)

// refresh is how often the status line of a terminal is drawn anew.
const refresh = 100 * time.Millisecond

// view shows a run while it goes on: plain lines anywhere, and below them on a terminal one line that is drawn anew: elapsed time,
// step, phase, who is answered, which alarms are raised, how the clients fare. With JSON it prints the events themselves.
type view struct {
	plan  drill.Plan
	out   io.Writer
	json  bool
	live  bool // a terminal: draw the status line
	color bool
	done  chan struct{}
	group sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	started  time.Time
	at       time.Time // when what is shown happened; zero while a run goes on: now
	step     string
	phase    string
	answer   string
	raised   []string
	recent   []bool // the last client samples
	hits     uint64
	canaries map[string]bool // last state told, by host, attack, target, flow and time
	drawn    bool
}

// recentMax is how many client samples the status line looks back on: two seconds at ten a second.
const recentMax = 20

func newView(s streams, plan drill.Plan, asJSON bool) *view {
	v := &view{plan: plan, out: s.out, json: asJSON, done: make(chan struct{}), started: time.Now(), answer: plan.Live, canaries: map[string]bool{}}
	v.live = !asJSON && onTerminal(s)
	v.color = v.live && os.Getenv("NO_COLOR") == ""
	if v.live {
		v.group.Go(v.animate)
	}
	return v
}

// onTerminal reports whether somebody sees what is printed, on something that knows colors.
func onTerminal(s streams) bool {
	file, is := s.out.(*os.File)
	return is && os.Getenv("CI") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}

// showAgain shows what was written down before, with the times of then, from the first one on.
func showAgain(s streams, events []history.Event) {
	v := &view{out: s.out, color: onTerminal(s) && os.Getenv("NO_COLOR") == "", started: events[0].At, canaries: map[string]bool{}}
	for _, event := range events {
		v.at = event.At
		v.seen(event)
	}
}

func (v *view) animate() {
	clock := time.NewTicker(refresh)
	defer clock.Stop()
	for {
		select {
		case <-v.done:
			return
		case <-clock.C:
			v.mu.Lock()
			v.draw()
			v.mu.Unlock()
		}
	}
}

func (v *view) close() {
	close(v.done)
	v.group.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.erase()
}

// erase and draw are called with mu held.
func (v *view) erase() {
	if v.drawn {
		fmt.Fprint(v.out, "\r\x1b[K")
		v.drawn = false
	}
}

func (v *view) draw() {
	width := 100
	if file, is := v.out.(*os.File); is {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil {
			width = columns
		}
	}
	good := 0
	for _, ok := range v.recent {
		if ok {
			good++
		}
	}
	parts := []string{fmt.Sprintf("%5.1fs", time.Since(v.started).Seconds()), v.step}
	if v.phase != "" {
		parts = append(parts, v.phase)
	}
	parts = append(parts, "answer "+v.answer)
	if len(v.recent) > 0 {
		parts = append(parts, fmt.Sprintf("clients %d%%", 100*good/len(v.recent)))
	}
	if v.hits > 0 {
		parts = append(parts, fmt.Sprintf("%d packets dropped", v.hits))
	}
	if len(v.raised) > 0 {
		parts = append(parts, "ALARM "+strings.Join(v.raised, ", "))
	}
	line := []rune(strings.Join(parts, " · "))
	if len(line) > width-1 {
		line = append(line[:max(width-2, 0)], '…')
	}
	fmt.Fprint(v.out, "\r\x1b[K"+v.paint("2", string(line)))
	v.drawn = true
}

func (v *view) paint(code, text string) string {
	if !v.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (v *view) line(code, format string, args ...any) {
	v.erase()
	at := v.at
	if at.IsZero() {
		at = time.Now()
	}
	elapsed := fmt.Sprintf("%6.1fs ", at.Sub(v.started).Seconds())
	fmt.Fprintln(v.out, v.paint("2", elapsed)+v.paint(code, fmt.Sprintf(format, args...)))
}

// output is where exec commands on hosts print.
func (v *view) output() io.Writer { return &viewOutput{view: v} }

type viewOutput struct {
	view    *view
	pending []byte
}

// Write passes whole lines on.
func (o *viewOutput) Write(piece []byte) (int, error) {
	o.view.mu.Lock()
	defer o.view.mu.Unlock()
	o.pending = append(o.pending, piece...)
	for {
		line, rest, found := strings.Cut(string(o.pending), "\n")
		if !found {
			return len(piece), nil
		}
		o.pending = []byte(rest)
		if !o.view.json {
			o.view.line("2", "    | %s", strings.TrimRight(line, "\r"))
		}
	}
}

// seen shows one event.
func (v *view) seen(event history.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.json {
		if text, err := json.Marshal(event); err == nil {
			fmt.Fprintf(v.out, "%s\n", text)
		}
		return
	}
	switch fact := event.Fact.(type) {
	case *history.StepStarted, *history.StepFinished, *history.Phase, *history.Permit, *history.Stop, *history.Check, *history.Promote, *history.Drained, *history.Note:
		v.course(fact)
	case *history.AttackPlanned, *history.AttackTarget, *history.AttackInForce, *history.AttackHits, *history.AttackCanary, *history.AttackReverted, *history.AttackAccount, *history.AttackRefused:
		v.attack(event.Source, fact)
	case *history.Sample:
		if slices.ContainsFunc(v.plan.Clients, func(c drill.Client) bool { return c.Name == fact.Probe }) {
			v.recent = append(v.recent, fact.OK)
			v.recent = v.recent[max(0, len(v.recent)-recentMax):]
		}
	case *history.Alarm:
		v.alarm(fact)
	case *history.Answer:
		if fact.Server != "" && fact.Environment != "" && fact.Environment != v.answer {
			v.line("36", "answer     %s leads to %s, says %s", fact.Name, fact.Environment, fact.Server)
			v.answer = fact.Environment
		}
	case *history.Host:
		if fact.Host != guard.WatchHost {
			v.line("36", "host       %s is %s", fact.Host, map[bool]string{true: "up", false: "down"}[fact.Up])
		}
	case *history.Deploy:
		v.deploy(fact)
	case *history.Ledger:
		v.line("", "ledger     %d writes acknowledged, %d lost, %d in doubt", fact.Acked, fact.Lost, fact.InDoubt)
	}
}

func (v *view) course(fact history.Fact) {
	switch fact := fact.(type) {
	case *history.StepStarted:
		v.step, v.phase, v.hits = fact.Name, "", 0
		v.erase()
		fmt.Fprintf(v.out, "\n%s\n", v.paint("1", fmt.Sprintf("── %d/%d %s", len(v.plan.Proven)+fact.Step+1, len(v.plan.Proven)+len(v.plan.Steps), fact.Name)))
	case *history.StepFinished:
		code := "32"
		if fact.Outcome != history.Passed {
			code = "31"
		}
		v.line(code, "%-10s %s", fact.Outcome, fact.Reason)
	case *history.Phase:
		v.phase = fact.Phase
		v.line("2", "phase      %s", fact.Phase)
	case *history.Permit:
		if fact.Granted {
			v.line("", "permit     %s", fact.Reason)
		} else {
			v.line("31", "refused    %s; %s", fact.Reason, fact.Cure)
		}
	case *history.Stop:
		v.line("31", "stop       %s: %s", fact.Condition, fact.Detail)
	case *history.Check:
		mark, code := "ok", ""
		if !fact.OK {
			mark, code = "NOT OK", "31"
		}
		text := fmt.Sprintf("check      %s: %s", fact.Name, mark)
		if fact.Detail != "" {
			text += ", " + fact.Detail
		}
		v.line(code, "%s", text)
	case *history.Promote:
		v.line("36", "promoted   %s from %s to %s", fact.Name, fact.From, fact.To)
	case *history.Drained:
		word, code := "drained", "36"
		if !fact.Ended {
			word, code = "NOT DRAINED", "33"
		}
		v.line(code, "%-10s %s after %s: %s", word, fact.Environment, fact.Waited, fact.Detail)
	case *history.Note:
		v.line("2", "note       %s", fact.Text)
	}
}

func (v *view) attack(host string, fact history.Fact) {
	switch fact := fact.(type) {
	case *history.AttackPlanned:
		v.line("2", "attack     %s planned on %s; if all of us die, what remains: %s", fact.Attack, fact.Host, fact.Remains)
	case *history.AttackTarget:
		if fact.Verb == "drop" && fact.Direction == "egress" {
			v.line("33", "cut        %s from %s %s", host, fact.Address, fact.Name)
		}
	case *history.AttackInForce:
		v.line("33", "in force   on %s until %s at the latest", host, fact.Until.Local().Format(time.TimeOnly))
	case *history.AttackHits:
		v.hits = fact.Egress + fact.Ingress + fact.Forward
	case *history.AttackCanary:
		v.canary(host, fact)
	case *history.AttackReverted:
		if len(fact.Residue) == 0 {
			v.line("32", "reverted   on %s (%s); nothing is left", host, fact.Why)
		} else {
			v.line("31", "NOT REVERTED on %s: %s", host, strings.Join(fact.Residue, ", "))
		}
	case *history.AttackAccount:
		v.line("2", "account    bit: %s", map[bool]string{true: "yes", false: "NOT PROVEN"}[fact.Bit])
		for _, sentence := range fact.Evidence {
			v.line("2", "           %s", sentence)
		}
	case *history.AttackRefused:
		v.line("31", "refused    %s: %s; %s", host, fact.Reason, fact.Cure)
	}
}

// canary shows the first try of each kind and every change; the log has all of them.
func (v *view) canary(host string, fact *history.AttackCanary) {
	key := strings.Join([]string{host, fact.GUID, fact.Target, fact.Flow, fact.When}, " ")
	if before, told := v.canaries[key]; told && before == fact.Through {
		return
	}
	v.canaries[key] = fact.Through
	v.line("2", "canary     %s, %s flow, %s: %s", fact.Target, fact.Flow, fact.When, map[bool]string{true: "through", false: "held off"}[fact.Through])
}

func (v *view) alarm(fact *history.Alarm) {
	v.raised = slices.DeleteFunc(v.raised, func(name string) bool { return name == fact.Name })
	if fact.To == history.AlarmRaised {
		v.raised = append(v.raised, fact.Name)
	}
	if fact.From == "" {
		return // the state at the begin, not a change
	}
	code := map[string]string{history.AlarmRaised: "31", history.AlarmOK: "32"}[fact.To]
	v.line(code, "alarm      %s: %s to %s", fact.Name, fact.From, fact.To)
}

func (v *view) deploy(fact *history.Deploy) {
	text := fmt.Sprintf("deploy     %s %s", fact.Stage, fact.Host)
	if fact.Release != "" {
		text += " " + fact.Release
	}
	if fact.Files > 0 {
		text += fmt.Sprintf(" (%d files, %d bytes)", fact.Files, fact.Bytes)
	}
	if fact.Detail != "" {
		text += ": " + fact.Detail
	}
	code := ""
	if fact.Stage == history.DeployFailed {
		code = "31"
	}
	v.line(code, "%s", text)
}

// runEnd is the last line of a run in JSON.
type runEnd struct {
	Directory string          `json:"directory"` // of the log and the reports
	Verdict   verdict.Verdict `json:"verdict"`
}

// verdict prints the end: what was found, and where the reports lie.
func (v *view) verdict(judged verdict.Verdict, log []history.Event, directory string) {
	if v.json {
		if text, err := json.Marshal(runEnd{Directory: directory, Verdict: judged}); err == nil {
			fmt.Fprintf(v.out, "%s\n", text)
		}
		return
	}
	fmt.Fprintln(v.out)
	if err := report.Write(v.out, report.Text, report.Input{Plan: v.plan, Log: log, Verdict: judged, Color: v.color}); err != nil {
		fmt.Fprintf(v.out, "the summary cannot be shown: %v\n", err)
	}
	if os.Getenv(demoVariable) == "" { // the demo copies the report out of the lab and says where to
		fmt.Fprintf(v.out, "\nReport: %s/%s\n", directory, htmlName)
	}
}
