package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const (
	askMax      = 20 * time.Second // for a child that changes nothing
	termGrace   = 2 * time.Second  // reverting 100,000 addresses takes under 0.1 s
	killGrace   = 5 * time.Second
	lineMax     = 4 << 20
	lastWordMax = 2 << 10
	// clockKind is the kind under which this host's clock means nothing, so that no order's times can be judged.
	clockKind = "time_travel"
)

// task is one order from its acceptance to its end.
type task struct {
	order   fleet.Order
	ctx     context.Context //nolint:containedctx // ends when the order is to end
	cancel  context.CancelCauseFunc
	ahead   chan struct{} // closed when we are told to go
	once    sync.Once
	journal *journal
	begun   bool // its attack is being started, or was; guarded by Agent.mu
}

func (t *task) stop(why string) { t.cancel(errors.New(why)) }

func (t *task) goAhead() { t.once.Do(func() { close(t.ahead) }) }

func (a *Agent) heardOrder(message *nats.Msg) {
	order, err := a.open(message.Data)
	if err != nil {
		a.log.Warn("an order is refused", "error", err) //nolint:sloglint // no context
		return
	}
	if err := a.take(order); err != nil {
		a.refuse(order, err)
	}
}

// absent is why a host has no part in a run: it has nothing of what the attack names.
type absent struct{ error }

// Unwrap returns what the attack said.
func (e absent) Unwrap() error { return e.error }

// refuse says no to an order. It leaves no task and no journal: nothing was done.
func (a *Agent) refuse(order fleet.Order, err error) {
	if none, ok := errors.AsType[absent](err); ok {
		a.log.Info("an order has nothing to hit here", "order", order.ID, "kind", order.Kind, "by", order.By, "why", none.Error()) //nolint:sloglint // no context
		a.answer(fleet.Answer{Order: order.ID, State: fleet.Nothing, Reason: none.Error(), Cure: drill.HintOf(err)})
		return
	}
	a.log.Warn("an order is refused", "order", order.ID, "kind", order.Kind, "by", order.By, "error", err) //nolint:sloglint // no context
	a.answer(fleet.Answer{Order: order.ID, State: fleet.Refused, Reason: err.Error(), Cure: drill.HintOf(err)})
}

func (a *Agent) answer(answer fleet.Answer) {
	if err := a.conn.Publish(fleet.FromAgent(a.id.Key, fleet.WordAnswer), encode(answer)); err != nil {
		a.log.Warn("an answer cannot be said", "order", answer.Order, "error", err) //nolint:sloglint // no context
	}
}

// take accepts an order into the ledger and starts its task, or says why not.
func (a *Agent) take(order fleet.Order) error {
	silent := a.silence()
	a.mu.Lock()
	defer a.mu.Unlock()
	refuse := func(why string) error {
		return &drill.Error{Op: "order " + order.ID, Kind: drill.Refused, Err: errors.New("not attacking: " + why)}
	}
	switch {
	case a.closed:
		return refuse("the agent is being stopped")
	case silent > a.slack():
		return refuse("the control plane was not heard for too long")
	}
	for _, other := range a.tasks {
		if other.order.Kind == clockKind {
			return refuse("an attack on the clock is in force, so the times of an order mean nothing")
		}
	}
	if err := order.Admit(time.Now(), a.self()); err != nil {
		return err
	}
	if err := a.ledger.take(order.ID, order.Expires); err != nil {
		return err
	}
	journal, err := openJournal(a.options.Directory, order.ID)
	if err != nil {
		return err
	}
	t := &task{order: order, ahead: make(chan struct{}), journal: journal}
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(a.ctx))
	a.tasks[order.ID] = t
	a.rouse()
	a.kick() // from now on there is more to tell now and then
	a.working.Go(func() { a.carryOut(t) })
	return nil
}

func (a *Agent) task(order string) *task {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tasks[order]
}

func (a *Agent) heardGo(message *nats.Msg) {
	if word, err := fleet.Decode[fleet.Go](message.Data); err == nil {
		if t := a.task(word.Order); t != nil {
			t.goAhead()
		}
	}
}

func (a *Agent) heardCancel(message *nats.Msg) {
	if word, err := fleet.Decode[fleet.Cancel](message.Data); err == nil {
		if t := a.task(word.Order); t != nil {
			t.stop("cancelled: " + word.Reason)
		}
		a.mu.Lock()
		s := a.samplings[word.Order]
		a.mu.Unlock()
		if s != nil {
			s.cancel(errors.New("cancelled: " + word.Reason))
		}
	}
}

// carryOut sees an order through: tried without doing it, answered, waited for, done, and accounted for.
func (a *Agent) carryOut(t *task) {
	t.journal.note("order %s of run %s by %s: %s %q, until %s at the latest", t.order.ID, t.order.Run, t.order.By, t.order.Kind, t.order.Args, t.order.Deadline.Format(time.RFC3339))
	// Bound by the host's own clock from here on: what it counts is not moved when the clock is set.
	deadline := time.AfterFunc(time.Until(t.order.Deadline), func() { t.stop("deadline of the order") })
	end := a.lead(t)
	deadline.Stop()
	t.cancel(nil)
	if err := t.journal.end(end); err != nil {
		a.log.Error("the end of a journal cannot be written", "order", t.order.ID, "error", err) //nolint:sloglint // no context
	}
	a.mu.Lock()
	delete(a.tasks, t.order.ID)
	a.mu.Unlock()
	a.log.Info("an order has ended", "order", t.order.ID, "kind", t.order.Kind, "why", end.Why, "reverted", end.Reverted) //nolint:sloglint // no context
	a.kick()
	a.present()
}

// lead is carryOut up to the end.
func (a *Agent) lead(t *task) fleet.End {
	if err := a.rehearse(t); err != nil {
		a.refuse(t.order, err)
		return fleet.End{Why: "refused: " + err.Error(), Reverted: true, Code: -1}
	}
	a.answer(fleet.Answer{Order: t.order.ID, State: fleet.Accepted})
	if why := a.awaitStart(t); why != "" {
		return fleet.End{Why: "not begun: " + why, Reverted: true, Code: -1}
	}
	return a.attack(t)
}

// rehearse tries the attack as a dry run: the same program and flags, so that a mistake in them and the host's policy are heard before the
// start. Its length must lie within the order's.
func (a *Agent) rehearse(t *task) error {
	ctx, cancel := context.WithTimeout(t.ctx, askMax)
	defer cancel()
	out, words, err := a.child(ctx, t, "--dry-run")
	var shown struct {
		Length  drill.Seconds          `json:"length_seconds"`
		Delay   drill.Seconds          `json:"delay_seconds"`
		Refused *history.AttackRefused `json:"refused"`
	}
	decodeErr := json.Unmarshal(out, &shown)
	refuse := func(cure, format string, args ...any) error {
		return &drill.Error{Kind: drill.Refused, Hint: cure, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case context.Cause(t.ctx) != nil:
		return refuse("", "%w", context.Cause(t.ctx))
	case decodeErr == nil && shown.Refused != nil:
		return refuse(shown.Refused.Cure, "%s", shown.Refused.Reason)
	case err != nil:
		// Refusals before there is a plan are printed as an event.
		var event history.Event
		if json.Unmarshal(firstLine(out), &event) == nil {
			if refused, ok := event.Fact.(*history.AttackRefused); ok {
				err := refuse(refused.Cure, "%s", refused.Reason)
				if refused.Absent {
					err = absent{err}
				}
				return err
			}
		}
		return refuse("", "%s", strings.TrimSpace(words))
	case decodeErr != nil:
		return refuse("", "the plan is not understood: %w", decodeErr)
	}
	if room := t.order.Deadline.Sub(t.order.Start); time.Duration(shown.Length)+time.Duration(shown.Delay) > room {
		return refuse("ask for a shorter attack, or for more with --most", "not attacking: it would last for %s, and the order ends after %s", shown.Length, drill.Seconds(room))
	}
	return nil
}

func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return line
}

// child runs the attack's command to its end, and returns what it printed.
func (a *Agent) child(ctx context.Context, t *task, more ...string) (out []byte, words string, err error) {
	command := a.command(ctx, t, more...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err = command.Run()
	return stdout.Bytes(), stderr.String(), err
}

func (a *Agent) command(ctx context.Context, t *task, more ...string) *exec.Cmd {
	args := append(slices.Clone(a.options.Program[1:]), "attack", t.order.Kind, "--guid", t.order.ID, "--json")
	if t.order.Consent {
		args = append(args, "--yes")
	}
	args = append(append(args, more...), t.order.Args...)
	command := exec.CommandContext(ctx, a.options.Program[0], args...)
	command.Env = os.Environ()
	if connection := a.controlConnection(); connection != "" {
		command.Env = append(command.Env, connection)
	}
	// A signal to our group is for us: we end the attack, and see to it that it reverts.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return command
}

// awaitStart waits for the word to go and for the start, and returns why there is none.
func (a *Agent) awaitStart(t *task) string {
	late := time.NewTimer(time.Until(t.order.Expires))
	defer late.Stop()
	select {
	case <-t.ahead:
	case <-late.C:
		return "nobody said go"
	case <-t.ctx.Done():
		return context.Cause(t.ctx).Error()
	}
	if !sleep(t.ctx, time.Until(t.order.Start)) {
		return context.Cause(t.ctx).Error()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := t.order.Admit(time.Now(), a.self()); err != nil {
		return err.Error()
	}
	return ""
}

// attack runs the attack as a child. Its input and its output are pipes of ours: when we are gone, however that comes, it ends and reverts.
func (a *Agent) attack(t *task) fleet.End {
	command := a.command(context.WithoutCancel(t.ctx), t)
	in, err1 := command.StdinPipe()
	out, err2 := command.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return fleet.End{Why: "not begun: " + err.Error(), Reverted: true, Code: -1}
	}
	defer in.Close()
	var words lastWords
	command.Stderr = &words
	a.mu.Lock()
	t.begun = true
	a.mu.Unlock()
	if err := command.Start(); err != nil {
		return fleet.End{Why: "not begun: " + err.Error(), Reverted: true, Code: -1}
	}
	a.present()
	ended := make(chan struct{})
	var ending sync.WaitGroup
	ending.Go(func() { endChild(t.ctx, command.Process, ended) })
	account := t.follow(out, a.kick, a.present)
	err := command.Wait()
	close(ended)
	ending.Wait()
	end := fleet.End{Why: "the attack has ended", Code: command.ProcessState.ExitCode()}
	if cause := context.Cause(t.ctx); cause != nil {
		end.Why = cause.Error()
	}
	if text := strings.TrimSpace(words.String()); text != "" && err != nil {
		t.journal.note("the attack said: %s", text)
	}
	switch {
	case account != nil:
		end.Reverted = account.Reverted
	default:
		// It gave no account: what is there now is looked at.
		left, err := a.leftOf(t.order.ID)
		end.Reverted = err == nil && len(left) == 0
		t.journal.note("it gave no account; left of it: %v %v", left, err)
	}
	return end
}

// endChild asks the attack to end when the order is to end, and then makes it. With the process the kernel takes the impact back, and what the
// kernel does not take back is its guardian's.
func endChild(ctx context.Context, process *os.Process, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	_ = process.Signal(syscall.SIGTERM) // it may be gone already
	grace := time.NewTimer(termGrace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		_ = process.Kill()
	}
}

// follow writes down what the attack says of itself, and returns its account, if it gave one. What others wait for is told soon; that it is in force
// is to be seen at once, and not when a host speaks the next time.
func (t *task) follow(out io.Reader, soon, inForce func()) *history.AttackAccount {
	var account *history.AttackAccount
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 64<<10), lineMax)
	for lines.Scan() {
		var event history.Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.journal.note("the attack said: %s", bytes.ToValidUTF8(lines.Bytes(), []byte("?")))
			continue
		}
		t.journal.append(event)
		switch said := event.Fact.(type) {
		case *history.AttackAccount:
			account = said
			soon()
		case *history.AttackInForce:
			soon()
			inForce()
		case *history.AttackReverted, *history.AttackCanary:
			soon()
		}
	}
	if err := lines.Err(); err != nil {
		t.journal.note("what the attack says cannot be read any more: %v", err)
		t.stop("what the attack says cannot be read any more")
		_, _ = io.Copy(io.Discard, out) // or it would wait for us
	}
	return account
}

// hostStatus is what "firedrill status --json" prints.
type hostStatus struct {
	Running []struct {
		GUID   string `json:"guid"`
		PartOf string `json:"part_of"` // an attack on several pods has parts, each with a name of its own
	} `json:"running"`
	Residue []string `json:"residue"`
	Unseen  string   `json:"unseen"`
}

// leftOf lists what is left of an order here; "" is of any. Looking takes back what dead attacks left.
func (a *Agent) leftOf(order string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), askMax)
	defer cancel()
	out, err := exec.CommandContext(ctx, a.options.Program[0], append(slices.Clone(a.options.Program[1:]), "status", "--json")...).Output()
	var status hostStatus
	if decodeErr := json.Unmarshal(out, &status); decodeErr != nil {
		return nil, errors.Join(err, decodeErr)
	}
	if status.Unseen != "" {
		return nil, errors.New(status.Unseen)
	}
	var left []string
	for _, r := range status.Running {
		if order == "" || r.GUID == order || r.PartOf == order {
			left = append(left, "attack "+r.GUID)
		}
	}
	for _, what := range status.Residue {
		if order == "" || strings.Contains(what, order) {
			left = append(left, what)
		}
	}
	return left, err
}

// heardHalt ends everything on this host, whoever began it, and says what became of it. It is said again when it is asked again.
func (a *Agent) heardHalt(message *nats.Msg) {
	halt, err := fleet.Decode[fleet.Halt](message.Data)
	if err != nil {
		a.log.Warn("a halt is not understood, and ends everything all the same", "error", err) //nolint:sloglint // no context
	}
	a.mu.Lock()
	a.epoch, a.halted = max(a.epoch, halt.Epoch), true
	answered, known := a.halts[halt.ID]
	a.mu.Unlock()
	if known {
		_ = a.conn.Publish(fleet.FromAgent(a.id.Key, fleet.WordHalted), encode(answered))
		return
	}
	begun := a.stopAll("halt by " + halt.By)
	result := a.haltHere(halt, begun)
	a.mu.Lock()
	a.halts[halt.ID] = &result
	a.mu.Unlock()
	a.log.Info("halted", "by", halt.By, "reason", halt.Reason, "ended", result.Ended, "left", len(result.Left), "error", result.Error) //nolint:sloglint // no context
	_ = a.conn.Publish(fleet.FromAgent(a.id.Key, fleet.WordHalted), encode(result))
	a.present()
}

// haltHere runs "firedrill halt", as a person would. Orders that were told to end just before count as ended by it, though it may not see them any more.
func (a *Agent) haltHere(halt fleet.Halt, told []string) fleet.Halted {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), askMax)
	defer cancel()
	command := exec.CommandContext(ctx, a.options.Program[0], append(slices.Clone(a.options.Program[1:]), "halt", "--json")...)
	var stdout bytes.Buffer
	var words lastWords
	command.Stdout, command.Stderr = &stdout, &words
	err := command.Run()
	var said struct {
		Ended []struct {
			GUID   string `json:"guid"`
			PartOf string `json:"part_of"`
		} `json:"ended"`
		Left []string `json:"left"`
	}
	decodeErr := json.Unmarshal(stdout.Bytes(), &said)
	for _, one := range said.Ended {
		told = append(told, cmp.Or(one.PartOf, one.GUID))
	}
	slices.Sort(told)
	result := fleet.Halted{ID: halt.ID, Ended: len(slices.Compact(told)), Left: said.Left}
	if err != nil || decodeErr != nil {
		result.Error = strings.TrimSpace(fmt.Sprintf("%v %s", errors.Join(err, decodeErr), words.String()))
	}
	return result
}

// lastWords keeps the begin of what is written to it.
type lastWords struct {
	mu   sync.Mutex // guards text
	text []byte
}

// Write implements io.Writer.
func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := lastWordMax - len(w.text); room > 0 {
		w.text = append(w.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}
