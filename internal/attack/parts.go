package attack

import (
	"bufio"
	"bytes"
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

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack/containers"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const (
	podsMax      = 256              // of one attack; kubelets run 110 by default
	partTimeout  = 60 * time.Second // until a part is planned and its canaries are tried
	partWordsMax = 4 << 10          // bytes that are kept of what a part says to people
	partLineMax  = 64 << 20         // an event with 100,000 addresses
)

// parts is the step of an attack on pods: all of its parts. It is applied when all are in force, and reverted when all are.
type parts struct {
	kind  string
	all   []*running
	ended chan *running
	stay  bool // planted bug: parts are not ended

	mu     sync.Mutex // guards the fields below
	report func(history.Fact)
	early  []history.Fact         // that were seen before there was anybody to report to
	first  []history.AttackTarget // that were hit before the whole was in force
	shown  map[history.AttackTarget]bool
}

// running is a part in its process.
type running struct {
	part    part
	command *exec.Cmd
	gate    *os.File
	input   io.Closer
	words   firstWords
	waiting chan struct{} // closed when it waits at the gate, or is planned where there is no more
	forced  chan struct{} // closed when it is in force
	over    chan struct{} // closed when it has ended

	mu       sync.Mutex // guards the fields below
	opened   bool       // the gate: from then on something may be in force
	looked   bool
	plan     *Shown
	refused  *history.AttackRefused
	hits     history.AttackHits
	reverted *history.AttackReverted
	account  *history.AttackAccount
	left     []string // of one that was killed
}

// lead starts the parts of an attack on pods and makes the plan of the whole out of theirs. Call close in the end, also after an error.
func (i Invocation) lead(ctx context.Context, selector containers.PodSelector) (plan Plan, end func(), err error) {
	end = func() {}
	kind := i.describe().Name
	flags, err := i.Flags.Load(i.describe())
	if err != nil {
		return Plan{}, end, err
	}
	if _, err := i.Kind.Order(flags); err != nil { // once for all parts
		return Plan{}, end, err
	}
	guid, err := i.guid()
	if err != nil {
		return Plan{}, end, err
	}
	pods, err := FindPods(ctx, kind, selector)
	if err != nil {
		return Plan{}, end, err
	}
	if len(pods) > podsMax {
		return Plan{}, end, Refuse(kind, "narrow the selector", "%s: %d pods are more than %d", selector, len(pods), podsMax)
	}
	if err := i.apart(pods); err != nil {
		return Plan{}, end, err
	}
	if i.FirstPodAlone {
		pods = pods[:1]
	}
	host, err := os.Hostname()
	if err != nil {
		return Plan{}, end, fmt.Errorf("attack: %w", err)
	}
	p := &parts{kind: kind, ended: make(chan *running, len(pods)), shown: map[history.AttackTarget]bool{}, stay: i.PartsStay}
	end = p.close
	if err := p.start(guid, pods); err != nil {
		return Plan{}, end, err
	}
	if err := p.await(ctx); err != nil {
		return Plan{}, end, err
	}
	plan = Plan{GUID: guid, Attack: kind, Host: host, Length: p.all[0].plan.Length.Duration(), Steps: []Step{p}}
	for _, pod := range pods {
		plan.Pods = append(plan.Pods, history.AttackPod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID})
	}
	return plan, end, nil
}

// apart refuses pods that share the network of this host.
func (i Invocation) apart(pods []containers.Pod) error {
	for _, pod := range pods {
		op := "attack " + i.describe().Name
		network, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pod.Init.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return cannotEnter(op, pod, err)
		}
		here, err := inNetwork(network)
		_ = unix.Close(network)
		switch {
		case err != nil:
			return cannotEnter(op, pod, err)
		case here && !i.StayOutside:
			return &drill.Error{Op: op, Kind: drill.Refused, Err: fmt.Errorf("%s shares the network of this host, so the whole host would be hit", pod),
				Hint: "select other pods, as with --pod 'app=web,!hostnetwork', or narrow the attack with --cgroup"}
		}
	}
	return nil
}

// start starts a part for each pod.
func (p *parts) start(guid string, pods []containers.Pod) error {
	of, err := uuid.Parse(guid)
	if err != nil {
		return err
	}
	var siblings []string
	for _, pod := range pods {
		siblings = append(siblings, uuid.NewSHA1(of, []byte(pod.Sandbox)).String())
	}
	for at, pod := range pods {
		p.all = append(p.all, &running{part: part{GUID: siblings[at], Of: guid, Siblings: siblings, Pod: pod}, waiting: make(chan struct{}), forced: make(chan struct{}), over: make(chan struct{})})
	}
	for _, r := range p.all {
		if err := r.start(p); err != nil {
			return fmt.Errorf("attack: start the part in %s: %w", r.part.Pod, err)
		}
	}
	return nil
}

// start starts the process of a part. Its input and its output are pipes of ours: when we are gone, however that comes, it ends and reverts.
func (r *running) start(p *parts) error {
	command, err := r.part.command()
	if err != nil {
		return err
	}
	gate, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer gate.Close()
	command.ExtraFiles = []*os.File{gate}
	command.Stderr = &r.words
	in, err1 := command.StdinPipe()
	out, err2 := command.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		_ = hold.Close()
		return err
	}
	if err := command.Start(); err != nil {
		_ = hold.Close()
		return err
	}
	r.command, r.gate, r.input = command, hold, in
	go func() {
		r.listen(out, p)
		_ = command.Wait()
		_ = hold.Close()
		close(r.over)
		p.ended <- r
	}()
	return nil
}

// command is this very command line again, as a part.
func (t part) command() (*exec.Cmd, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	command := exec.Command("/proc/self/exe")
	command.Args = slices.Clone(os.Args)
	command.Env = append(os.Environ(), envPart+"="+string(text))
	// A signal to our group is for us: we end the parts, and see to it that they revert.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return command, nil
}

// listen takes what a part says, until it says no more.
func (r *running) listen(out io.Reader, p *parts) {
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 64<<10), partLineMax)
	for lines.Scan() {
		var word partWord
		var event history.Event
		switch {
		case json.Unmarshal(lines.Bytes(), &word) == nil && word.Plan != nil:
			r.mu.Lock()
			r.plan = word.Plan
			r.mu.Unlock()
		case word.Waiting:
			close(r.waiting)
		case word.Looked:
			r.mu.Lock()
			r.left = word.Left
			r.mu.Unlock()
		case json.Unmarshal(lines.Bytes(), &event) == nil:
			if r.heard(event.Fact, p); event.Fact.Kind() == history.KindAttackHits {
				p.tellHits()
			}
		}
	}
	_, _ = io.Copy(io.Discard, out) // a line that is too long must not make it wait for us
}

// heard keeps what matters for the whole, and passes on what others wait for.
func (r *running) heard(fact history.Fact, p *parts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch said := fact.(type) {
	case *history.AttackTarget:
		target := *said
		target.GUID = r.part.Of
		p.target(target)
	case *history.AttackInForce:
		close(r.forced)
	case *history.AttackCanary:
		canary := *said
		canary.GUID, canary.Pod = r.part.Of, r.part.Pod.Namespace+"/"+r.part.Pod.Name
		p.tell(&canary)
	case *history.AttackHits:
		r.hits = *said
	case *history.Note:
		p.tell(&history.Note{Text: r.part.Pod.String() + ": " + said.Text})
	case *history.AttackRefused:
		r.refused = said
	case *history.AttackReverted:
		r.reverted = said
	case *history.AttackAccount:
		r.account = said
	}
}

// tell reports a fact, now or as soon as there is somebody to report to.
func (p *parts) tell(fact history.Fact) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.report == nil {
		p.early = append(p.early, fact)
		return
	}
	p.report(fact)
}

// target tells of an address once, in however many pods it is hit.
func (p *parts) target(target history.AttackTarget) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.shown[target]:
	case p.report == nil:
		p.first = append(p.first, target)
	default:
		p.report(&target)
	}
	p.shown[target] = true
}

// Targets implements Targeting.
func (p *parts) Targets() []history.AttackTarget {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.first)
}

// tellHits reports the sum of all parts.
func (p *parts) tellHits() {
	total := history.AttackHits{GUID: p.all[0].part.Of}
	for _, r := range p.all {
		r.mu.Lock()
		total.Egress += r.hits.Egress
		total.Ingress += r.hits.Ingress
		total.Forward += r.hits.Forward
		total.Addresses = append(total.Addresses, r.hits.Addresses...)
		r.mu.Unlock()
	}
	p.tell(&total)
}

// await waits until each part waits at its gate, or has shown its plan and ended where nothing more is asked. It returns the first reason why not.
func (p *parts) await(ctx context.Context) error {
	late := time.NewTimer(partTimeout)
	defer late.Stop()
	for _, r := range p.all {
		select {
		case <-r.waiting:
		case <-r.over:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return &drill.Error{Op: "attack " + p.kind, Kind: drill.Timeout, Err: fmt.Errorf("%s: its part is not ready after %s", r.part.Pod, partTimeout), Hint: "try again"}
		}
	}
	for _, r := range p.all {
		select {
		case <-r.over:
			if plan := r.plan; plan == nil || r.command.ProcessState.ExitCode() != 0 && plan.Refused == nil {
				return p.failed(r)
			}
		default:
		}
	}
	return nil
}

// leads returns the step of an attack on pods.
func leads(plan Plan) (*parts, bool) {
	if len(plan.Steps) != 1 {
		return nil, false
	}
	p, ok := plan.Steps[0].(*parts)
	return p, ok
}

// refused is what the host's policy says to the parts of a dry run.
func (p *parts) refused() error {
	for _, r := range p.all {
		if why := r.plan.Refused; why != nil {
			return &drill.Error{Kind: drill.Refused, Err: errors.New(why.Reason), Hint: why.Cure}
		}
	}
	return nil
}

// kindOfExit tells by the exit code of a part how to react to its end.
var kindOfExit = map[int]drill.ErrorKind{2: drill.Invalid, 3: drill.Unproven, 4: drill.Refused, 5: drill.NotReverted, 70: drill.Internal}

// failed says why a part has ended.
func (p *parts) failed(r *running) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	code := r.command.ProcessState.ExitCode()
	kind, known := kindOfExit[code]
	if !known {
		kind = drill.Failed
	}
	failed := &drill.Error{Op: "attack " + p.kind, Kind: kind}
	switch {
	case r.reverted != nil && r.reverted.Why == errHalted.Why:
		return errHalted
	case r.refused != nil:
		// It says what was being done, as we do.
		failed.Err = fmt.Errorf("%s: %s", r.part.Pod, strings.TrimPrefix(r.refused.Reason, failed.Op+": "))
		failed.Hint = r.refused.Cure
	case r.reverted != nil:
		failed.Err = fmt.Errorf("%s: %s", r.part.Pod, r.reverted.Why)
	default:
		failed.Err = fmt.Errorf("%s: its part has ended (%s): %s", r.part.Pod, r.command.ProcessState, strings.TrimSpace(r.words.String()))
	}
	return failed
}

// Lines implements Step.
func (p *parts) Lines() []string {
	var lines []string
	for _, r := range p.all {
		lines = append(lines, fmt.Sprintf("%s (uid %s, %s):", r.part.Pod, r.part.Pod.UID, r.part.Pod.Container()))
		for _, line := range r.plan.Steps {
			lines = append(lines, "  "+line)
		}
	}
	return lines
}

// Remains implements Step.
func (p *parts) Remains() Remains {
	rank := []Remains{RemainsNothing, RemainsUntilDeadline, RemainsUntilStart, RemainsOneWay}
	worst := 0
	for _, r := range p.all {
		worst = max(worst, slices.Index(rank, r.plan.Remains))
	}
	return rank[worst]
}

// Wording implements Worded.
func (p *parts) Wording() string { return p.all[0].plan.Wording }

// Apply implements Step: it opens all gates, and waits until all parts are in force.
func (p *parts) Apply(ctx context.Context, deadline time.Time) error {
	now, err := SinceBoot()
	if err != nil {
		return err
	}
	line := fmt.Sprintf("%d\n", now+int64(time.Until(deadline)))
	for _, r := range p.all {
		r.mu.Lock()
		r.opened = true
		r.mu.Unlock()
		_, _ = r.gate.WriteString(line) // one that has ended is seen below
	}
	for _, r := range p.all {
		select {
		case <-r.forced:
		case <-r.over:
			return p.failed(r)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Tend implements Tended: it passes on what the parts see, until one of them ends before its time.
func (p *parts) Tend(ctx context.Context, report func(history.Fact)) error {
	p.mu.Lock()
	p.report = report
	for _, fact := range p.early {
		report(fact)
	}
	p.early = nil
	p.mu.Unlock()
	for {
		select {
		case r := <-p.ended:
			r.mu.Lock()
			inTime := r.reverted != nil && r.reverted.Why == reason(nil)
			r.mu.Unlock()
			if !inTime {
				return p.failed(r)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Revert implements Step: it ends all parts, each of which takes back its own.
func (p *parts) Revert(ctx context.Context) error {
	errs := make([]error, len(p.all))
	var wait sync.WaitGroup
	for i, r := range p.all {
		if r.command != nil && !p.stay {
			wait.Go(func() { errs[i] = r.end(ctx) })
		}
	}
	wait.Wait()
	return errors.Join(errs...)
}

// end ends a part: by SIGTERM, and when it does not heed that, by SIGKILL, after which what is left in its pod is taken back by another process.
func (r *running) end(ctx context.Context) error {
	for _, try := range []struct {
		signal unix.Signal
		grace  time.Duration
	}{{unix.SIGTERM, haltGrace}, {unix.SIGKILL, killTimeout}} {
		if r.isOver() {
			break
		}
		_ = r.command.Process.Signal(try.signal)
		select {
		case <-r.over:
		case <-time.After(try.grace):
		case <-ctx.Done():
		}
	}
	if !r.isOver() {
		return fmt.Errorf("%s: its part, process %d, does not end", r.part.Pod, r.command.Process.Pid)
	}
	r.mu.Lock()
	died := r.opened && r.account == nil && !r.looked
	r.looked = r.looked || died
	r.mu.Unlock()
	if died {
		return r.look()
	}
	return nil
}

func (r *running) isOver() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// look has what a part left taken back in its pod. Where the pod is gone too, so is its network with all that was in it.
func (r *running) look() error {
	t := r.part
	t.Look = true
	command, err := t.command()
	if err != nil {
		return err
	}
	var out, words bytes.Buffer
	command.Stdout, command.Stderr = &out, &words
	runErr := command.Run()
	var word partWord
	if err := json.Unmarshal(out.Bytes(), &word); err == nil && word.Looked {
		r.mu.Lock()
		r.left = word.Left
		r.mu.Unlock()
		return nil
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", t.Pod.Init.PID)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s: its part was killed, and nobody could look there: %w: %s", t.Pod, runErr, strings.TrimSpace(words.String()))
}

// Residue implements Verified.
func (p *parts) Residue(context.Context) ([]string, error) {
	var left []string
	for _, r := range p.all {
		r.mu.Lock()
		residue := r.left
		if r.account != nil && !r.account.Reverted {
			residue = append(residue, "its part was not reverted")
		}
		if r.reverted != nil {
			residue = append(residue, r.reverted.Residue...)
		}
		for _, what := range residue {
			left = append(left, r.part.Pod.String()+": "+what)
		}
		r.mu.Unlock()
	}
	return left, nil
}

// Evidence implements Evidencing: what each part can show.
func (p *parts) Evidence() (bit bool, sentences []string) {
	bit = true
	for _, r := range p.all {
		r.mu.Lock()
		if r.account == nil {
			bit, sentences = false, append(sentences, r.part.Pod.String()+": its part gave no account")
		} else {
			bit = bit && r.account.Bit
			for _, sentence := range r.account.Evidence {
				sentences = append(sentences, r.part.Pod.String()+": "+sentence)
			}
		}
		r.mu.Unlock()
	}
	return bit, sentences
}

// Conclude implements Concluding: the account names every pod, and an attack that did not bite in one of them did not bite as a whole.
func (p *parts) Conclude(account *history.AttackAccount) (lost bool) {
	for _, r := range p.all {
		r.mu.Lock()
		pod := history.AttackPod{Namespace: r.part.Pod.Namespace, Name: r.part.Pod.Name, UID: r.part.Pod.UID}
		if a := r.account; a != nil {
			bit, reverted := a.Bit, a.Reverted
			pod.InForceAt, pod.Bit, pod.Reverted, pod.Packets = a.InForceAt, &bit, &reverted, a.Packets
			account.Packets += a.Packets
			account.FirstHit = extreme(account.FirstHit, a.FirstHit, time.Time.Before)
			account.LastHit = extreme(account.LastHit, a.LastHit, time.Time.After)
			lost = lost || a.Bit && a.Reverted && r.command.ProcessState.ExitCode() == exitUnproven
		}
		account.Pods = append(account.Pods, pod)
		r.mu.Unlock()
	}
	return lost
}

// exitUnproven is the exit code of a part that does not prove enough: one that bit and says so lost a canary for good.
const exitUnproven = 3

// extreme returns the one of two times that wins; either may be missing.
func extreme(a, b *time.Time, wins func(time.Time, time.Time) bool) *time.Time {
	if a == nil || b != nil && wins(*b, *a) {
		return b
	}
	return a
}

// close ends what still runs, and waits for it.
func (p *parts) close() {
	_ = p.Revert(context.Background())
	for _, r := range p.all {
		if r.input != nil {
			_ = r.input.Close()
		}
	}
}

// firstWords keeps the begin of what is written to it.
type firstWords struct {
	mu   sync.Mutex // guards text
	text []byte
}

// Write implements io.Writer.
func (w *firstWords) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text[:min(len(text), partWordsMax-len(w.text))]...)
	return len(text), nil
}

func (w *firstWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}
