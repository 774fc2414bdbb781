package processkiller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Name is the name of the kind.
const Name = "process_killer"

const (
	signalDefault   = "KILL"
	intervalDefault = "1"
	intervalMin     = 100 * time.Millisecond // a look at all processes of a large host takes a tenth of that
	endWithin       = 2 * time.Second        // a killed process is gone in a millisecond, one that cleans up takes longer
	endLook         = time.Millisecond
	sentenceMax     = 20 // processes named in the evidence; the rest is counted
)

// Kind is the process killer. Its zero value is ready to use.
type Kind struct{ hooks hooks }

// hooks are the crash points and the planted bugs of tests.
type hooks struct {
	mark        func(string) // called before each kill
	spareNobody bool         // what no attack may touch is killed too
	unasked     bool         // as if a person had consented
	boast       bool         // says that it bit without a look
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "state",
		Summary: "Kill processes, and again when they come back; whoever supervises them must restart them",
		Flags: append([]drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "interval", Short: "i", Type: attack.TypeSeconds, Default: intervalDefault, Usage: "seconds between one round of kills and the next",
				Unit: "s", Range: &drill.Range{Min: intervalMin.Seconds(), Max: attack.LengthMax.Seconds()}},
			{Name: "signal", Short: "s", Type: attack.TypeString, Default: signalDefault, Usage: "signal to send, by name or number"},
		}, attack.ProcessFlags()...),
		Remains: string(attack.RemainsOneWay),
		Needs:   []string{"pidfd"},
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	length, err := flags.Length()
	if err != nil {
		return nil, attack.Refuse(Name, "", "%w", err)
	}
	interval, err := drill.ParseSeconds(flags.Text("interval", intervalDefault))
	if err != nil {
		return nil, attack.Refuse(Name, "", "--interval: %w", err)
	}
	if interval.Duration() < intervalMin || interval.Duration() > attack.LengthMax {
		return nil, attack.Refuse(Name, "", "--interval=%s: it must be from %s to 24 hours", flags.Text("interval", ""), intervalMin)
	}
	signal, err := parseSignal(flags.Text("signal", signalDefault))
	if err != nil {
		return nil, attack.Refuse(Name, "write a name, as KILL or TERM, or a number; kill -l lists them", "--signal: %w", err)
	}
	which, err := flags.Processes()
	if err != nil {
		return nil, attack.Refuse(Name, "see: firedrill help attack process_killer", "%w", err)
	}
	return Order{Length: length, Interval: interval.Duration(), Signal: signal, Which: which, hooks: k.hooks}, nil
}

// signalMax is the last signal that Linux has.
const signalMax = 64

// parseSignal reads KILL, SIGKILL, kill or 9. Stopping and continuing are left to the attack pause, which takes it back.
func parseSignal(text string) (unix.Signal, error) {
	number, err := strconv.Atoi(text)
	if err != nil {
		name := strings.ToUpper(text)
		if !strings.HasPrefix(name, "SIG") {
			name = "SIG" + name
		}
		number = int(unix.SignalNum(name))
	}
	signal := unix.Signal(number)
	switch {
	case number < 1 || number > signalMax:
		return 0, fmt.Errorf("%q is not a signal", text)
	case signal == unix.SIGSTOP || signal == unix.SIGTSTP || signal == unix.SIGTTIN || signal == unix.SIGTTOU:
		return 0, fmt.Errorf("%s stops a process for ever: use firedrill attack pause, which lets it go on", text)
	}
	return signal, nil
}

// Order is a process killer as a user asks for it.
type Order struct {
	Length   time.Duration
	Interval time.Duration
	Signal   unix.Signal
	Which    procs.Selector
	hooks    hooks
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Survey implements attack.Surveying.
func (Order) Survey(_ context.Context, facts *attack.Facts) error {
	all, err := procs.Survey()
	facts.Processes = all
	return err
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	facts.Processes = o.exposed(facts.Processes, facts.Consent)
	meant, spared, err := attack.MeantProcesses(Name, o.Which, facts)
	if err != nil {
		return attack.Plan{}, askFor(err, spared)
	}
	s := &step{order: o, consent: facts.Consent, meant: meant, spared: spared}
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length, Steps: []attack.Step{s}}, nil
}

// askFor says that consent would have helped, if so.
func askFor(refusal error, spared []procs.Process) error {
	var told *drill.Error
	if errors.As(refusal, &told) && slices.ContainsFunc(spared, func(p procs.Process) bool { return p.Consent }) {
		told.Hint = "if you mean it, add --yes: it may be your way to this host"
	}
	return refusal
}

// exposed lifts the protection that consent lifts; the planted bug lifts all, or asks nobody.
func (o Order) exposed(all []procs.Process, consent bool) []procs.Process {
	if consent || o.hooks.unasked {
		return procs.Consented(all)
	}
	if !o.hooks.spareNobody {
		return all
	}
	all = slices.Clone(all)
	for i := range all {
		all[i].Protected = ""
	}
	return all
}

// kill is one signal that was sent.
type kill struct {
	procs.Process
	ended bool
}

// step is the one step.
type step struct {
	order   Order
	consent bool            // to what no attack may touch without
	meant   []procs.Process // at the time of the plan
	spared  []procs.Process

	mu    sync.Mutex // guards kills
	kills []kill
}

// Lines implements attack.Step.
func (s *step) Lines() []string {
	var lines []string
	for _, p := range s.meant {
		lines = append(lines, fmt.Sprintf("send %s to %s", unix.SignalName(s.order.Signal), p))
	}
	for _, p := range s.spared {
		lines = append(lines, fmt.Sprintf("spare %s: %s", p, p.Protected))
	}
	return append(lines, fmt.Sprintf("again every %s to what matches then", s.order.Interval), "what was killed is not brought back: that is for its supervisor")
}

// Remains implements attack.Step.
func (*step) Remains() attack.Remains { return attack.RemainsOneWay }

// Apply implements attack.Step: the first round. What matched in the plan may be gone by now; then it is the next rounds' turn.
func (s *step) Apply(ctx context.Context, deadline time.Time) error { return s.round(ctx, deadline) }

// Tend implements attack.Tended: the other rounds.
func (s *step) Tend(ctx context.Context, report func(history.Fact)) error {
	deadline, _ := ctx.Deadline()
	tick := time.NewTicker(s.order.Interval)
	defer tick.Stop()
	told := 0
	for {
		s.mu.Lock()
		for _, k := range s.kills[told:] {
			report(&history.Note{Text: fmt.Sprintf("Sent %s to %s", unix.SignalName(s.order.Signal), k.Process)})
		}
		told = len(s.kills)
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.round(ctx, deadline); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// round sends the signal to all that match now, and looks whether they end.
func (s *step) round(ctx context.Context, deadline time.Time) error {
	all, err := procs.Survey()
	if err != nil {
		return err
	}
	meant, _ := s.order.Which.Select(s.order.exposed(all, s.consent))
	s.mu.Lock()
	first := len(s.kills)
	s.mu.Unlock()
	for _, p := range meant {
		if s.order.hooks.mark != nil {
			s.order.hooks.mark("kill " + p.String())
		}
		// A process that was frozen in the middle of a round must not go on with it when the attack is over.
		if ctx.Err() != nil || !time.Now().Before(deadline) {
			return ctx.Err()
		}
		err := procs.Signal(p.ID, s.order.Signal)
		switch {
		case errors.Is(err, procs.ErrGone):
			continue
		case errors.Is(err, unix.EPERM):
			return &drill.Error{Op: "attack " + Name, Kind: drill.Unsupported, Err: fmt.Errorf("signal %s: %w", p, err), Hint: "run it as root, or as the user of the process"}
		case err != nil:
			return fmt.Errorf("signal %s: %w", p, err)
		}
		s.mu.Lock()
		s.kills = append(s.kills, kill{Process: p})
		s.mu.Unlock()
	}
	s.look(ctx, first)
	return nil
}

// look waits until the kernel says of each that it has ended, or until it has had its time.
func (s *step) look(ctx context.Context, first int) {
	s.mu.Lock()
	sent := slices.Clone(s.kills[first:])
	s.mu.Unlock()
	until := time.Now().Add(min(endWithin, s.order.Interval))
	for i, k := range sent {
		for {
			if _, err := procs.Find(k.ID); errors.Is(err, procs.ErrGone) {
				s.mu.Lock()
				s.kills[first+i].ended = true
				s.mu.Unlock()
				break
			}
			if ctx.Err() != nil || time.Now().After(until) {
				break
			}
			<-time.After(endLook)
		}
	}
}

// Evidence implements attack.Evidencing. A signal that was sent proves nothing: only a process that has ended does.
func (s *step) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := 0
	for i, k := range s.kills {
		// One that took its time may be gone by now.
		if !k.ended {
			_, err := procs.Find(k.ID)
			k.ended = errors.Is(err, procs.ErrGone)
		}
		outcome := "and it did not end"
		if k.ended {
			ended++
			outcome = "and it ended"
		}
		if i < sentenceMax {
			sentences = append(sentences, fmt.Sprintf("%s was sent to %s, %s", unix.SignalName(s.order.Signal), k.Process, outcome))
		}
	}
	sentences = append(sentences, fmt.Sprintf("%d signals were sent, and %d processes ended", len(s.kills), ended))
	return ended > 0 || s.order.hooks.boast, sentences
}

// Revert implements attack.Step: nothing of ours is in force between two kills.
func (*step) Revert(context.Context) error { return nil }
