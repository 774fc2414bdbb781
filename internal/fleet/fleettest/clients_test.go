package fleettest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
	"firedrill/internal/fleet/control"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// shop is what is sampled.
type shop struct {
	*httptest.Server
	hits atomic.Int64
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.hits.Add(1) }))
	t.Cleanup(s.Close)
	return s
}

// more waits until it was asked some more often.
func (s *shop) more(count int64) func() error {
	wanted := s.hits.Load() + count
	return func() error {
		if now := s.hits.Load(); now < wanted {
			return fmt.Errorf("asked %d times, and not %d", now, wanted)
		}
		return nil
	}
}

// director orders an agent as the control plane would, and hears what it says of what it samples.
type director struct {
	w    *world
	h    *host
	conn *nats.Conn

	mu      sync.Mutex // guards the fields below
	deaf    func(fleet.Sampled) bool
	heard   []history.Event
	ended   map[string]string
	answers map[string]fleet.Answer
	next    map[string]int
}

// direct is a world with one agent, whose engine lets the director speak for the control plane.
func direct(t *testing.T, change func(*agent.Options)) *director {
	t.Helper()
	w := newWorld(t, func(o *control.Options) { o.OpenGate = true })
	d := &director{w: w, h: w.join("eye", nil, change), ended: map[string]string{}, answers: map[string]fleet.Answer{}, next: map[string]int{}}
	w.welcomed("eye")
	d.conn = w.intruder(d.h)
	for word, hear := range map[string]nats.MsgHandler{fleet.WordAnswer: d.hearAnswer, fleet.WordSampled: d.hearSamples} {
		if _, err := d.conn.Subscribe(fleet.FromAgent(d.h.key, word), hear); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return d
}

// welcomed waits until the agent of a host has heard the control plane: before that it takes nothing.
func (w *world) welcomed(name string) {
	w.t.Helper()
	w.await("the welcome of "+name, func() error { return w.said(`msg="the control plane knows us" of=` + name) })
}

func (d *director) hearAnswer(message *nats.Msg) {
	if answer, err := fleet.Decode[fleet.Answer](message.Data); err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.answers[answer.Order] = answer
	}
}

func (d *director) hearSamples(message *nats.Msg) {
	part, err := fleet.Decode[fleet.Sampled](message.Data)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil || d.deaf != nil && d.deaf(part) || part.From > d.next[part.ID] {
		return
	}
	for _, line := range part.Lines[min(d.next[part.ID]-part.From, len(part.Lines)):] {
		var event history.Event
		if json.Unmarshal([]byte(line), &event) == nil {
			d.heard = append(d.heard, event)
		}
	}
	d.next[part.ID] = max(d.next[part.ID], part.From+len(part.Lines))
	if part.End != "" {
		d.ended[part.ID] = part.End
	}
	reply, _ := json.Marshal(fleet.Kept{Lines: d.next[part.ID], End: part.End != ""})
	_ = message.Respond(reply)
}

// order makes an order to sample that is carried out.
func (d *director) order(target string, change func(*fleet.Sampling)) fleet.Sampling {
	d.w.t.Helper()
	id, err := agent.LoadIdentity(d.h.state)
	if err != nil {
		d.w.t.Fatal(err)
	}
	now := time.Now()
	s := fleet.Sampling{ID: uuid.NewString(), Drill: uuid.NewString(), Service: "shop", Fleet: id.Fleet, Host: d.h.key, By: "somebody", Client: "far", URL: target,
		Every: drill.Seconds(20 * time.Millisecond), Timeout: drill.Seconds(5 * time.Second), Within: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Issued: now, Expires: now.Add(time.Minute), Deadline: now.Add(5 * time.Minute)}
	if change != nil {
		change(&s)
	}
	return s
}

// say sends an order, signed by a key.
func (d *director) say(s fleet.Sampling, key ed25519.PrivateKey) {
	d.w.t.Helper()
	text, err := fleet.SignSampling(s, key)
	if err == nil {
		err = errors.Join(d.conn.Publish(fleet.ToAgent(d.h.key, fleet.WordSample), text), d.conn.Flush())
	}
	if err != nil {
		d.w.t.Fatal(err)
	}
}

func (d *director) answer(order string) fleet.Answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.answers[order]
}

// answered waits for what the host says to an order.
func (d *director) answered(s fleet.Sampling) fleet.Answer {
	d.w.t.Helper()
	d.w.await("an answer", func() error {
		if d.answer(s.ID).State == "" {
			return errors.New("nothing is said")
		}
		return nil
	})
	return d.answer(s.ID)
}

func (d *director) cancel(s fleet.Sampling) {
	text, _ := json.Marshal(fleet.Cancel{Order: s.ID, Reason: "enough"})
	if err := errors.Join(d.conn.Publish(fleet.ToAgent(d.h.key, fleet.WordCancel), text), d.conn.Flush()); err != nil {
		d.w.t.Fatal(err)
	}
}

// end waits until the host has said how a sampling ended.
func (d *director) end(s fleet.Sampling) func() error {
	return func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.ended[s.ID] == "" {
			return errors.New("it has not ended")
		}
		return nil
	}
}

// samples are what was heard of a client, in the order of their schedule.
func (d *director) samples() []history.Sample {
	d.mu.Lock()
	defer d.mu.Unlock()
	return samplesOf(d.heard, "far")
}

func samplesOf(events []history.Event, client string) (all []history.Sample) {
	for _, event := range events {
		if sample, ok := event.Fact.(*history.Sample); ok && sample.Probe == client {
			all = append(all, *sample)
		}
	}
	slices.SortFunc(all, func(a, b history.Sample) int { return a.Scheduled.Compare(b.Scheduled) })
	return all
}

func TestAHostThatSamplesKeepsToItsBounds(t *testing.T) {
	t.Parallel()
	target := newShop(t)
	d := direct(t, func(o *agent.Options) {
		o.Leash = 20 * leash
		o.MaySample = func(s fleet.Sampling) ([]netip.Prefix, error) {
			if strings.Contains(s.URL, "forbidden") {
				return nil, errors.New("not sampling: the policy of this host")
			}
			return s.Within, nil
		}
	})
	key := d.w.orderKey()
	_, forged, _ := ed25519.GenerateKey(nil)
	for name, row := range map[string]struct {
		change func(*fleet.Sampling)
		says   string
	}{
		"for another host": {func(s *fleet.Sampling) { s.Host = "U" + strings.Repeat("A", 55) }, "for another host"},
		"of another fleet": {func(s *fleet.Sampling) { s.Fleet = uuid.NewString() }, "of another fleet"},
		"that expired": {func(s *fleet.Sampling) {
			s.Issued, s.Expires = s.Issued.Add(-2*time.Minute), s.Issued.Add(-time.Minute)
		}, "it expired at"},
		"of another epoch":                          {func(s *fleet.Sampling) { s.Epoch = 7 }, "in epoch 7"},
		"that policy forbids":                       {func(s *fleet.Sampling) { s.URL = "http://forbidden.test/" }, "the policy of this host"},
		"with a resolver that is not the service's": {func(s *fleet.Sampling) { s.Resolver = "127.0.0.53" }, "is not one of the service's"},
	} {
		s := d.order(target.URL, row.change)
		d.say(s, key)
		if answer := d.answered(s); answer.State != fleet.Refused || !strings.Contains(answer.Reason, row.says) {
			t.Errorf("an order %s is answered with %+v", name, answer)
		}
	}
	d.say(d.order(target.URL, nil), forged)
	first := d.order(target.URL, func(s *fleet.Sampling) { s.Every = drill.Seconds(16 * time.Millisecond) })
	d.say(first, key)
	if answer := d.answered(first); answer.State != fleet.Accepted {
		t.Fatalf("%+v", answer)
	}
	if !strings.Contains(d.w.log.String(), "the signature is not that of the control plane") {
		t.Error("an order that was signed by another is not refused")
	}
	second := d.order(target.URL, func(s *fleet.Sampling) { s.Every = drill.Seconds(16 * time.Millisecond) })
	d.say(second, key)
	if answer := d.answered(second); answer.State != fleet.Refused || !strings.Contains(answer.Reason, "125 samples a second") {
		t.Errorf("more than an agent samples is answered with %+v", answer)
	}
	d.w.await("samples", target.more(10))
	d.cancel(first)
	d.w.await("the end", func() error { return d.w.said("sampling has ended") })
	// Taken once: the same order again begins nothing.
	d.mu.Lock()
	delete(d.answers, first.ID)
	d.mu.Unlock()
	d.say(first, key)
	if answer := d.answered(first); answer.State != fleet.Refused || !strings.Contains(answer.Reason, "it was taken before") {
		t.Errorf("an order that was taken is answered with %+v", answer)
	}
}

// lookedElsewhere has a host sample at an address that is not the service's, and says how often that was asked and what the host makes of it.
func lookedElsewhere(t *testing.T, unbounded bool) (hits int64, samples []history.Sample) {
	t.Helper()
	target := newShop(t)
	d := direct(t, func(o *agent.Options) { o.Leash, o.Unbounded = 20*leash, unbounded })
	s := d.order(target.URL, func(s *fleet.Sampling) { s.Within = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")} })
	d.say(s, d.w.orderKey())
	d.w.await("samples", func() error {
		if len(d.samples()) < 5 {
			return errors.New("there are few")
		}
		return nil
	})
	d.cancel(s)
	d.w.await("the end", d.end(s))
	return target.hits.Load(), d.samples()
}

func TestNothingIsSentToWhatIsNotTheServices(t *testing.T) {
	t.Parallel()
	hits, samples := lookedElsewhere(t, false)
	if hits > 0 {
		t.Errorf("it was asked %d times", hits)
	}
	for _, sample := range samples {
		if sample.OK || sample.Cause != history.CauseProber {
			t.Fatalf("a sample that was never sent is %+v", sample)
		}
	}
	if hits, _ = lookedElsewhere(t, true); hits == 0 {
		t.Error("a host that looks anywhere is not noticed")
	}
}

// holes has a host tell its samples to somebody who hears each part only when it is told again, and counts the moments that are missing.
func holes(t *testing.T, careless bool) (missing int) {
	t.Helper()
	target := newShop(t)
	d := direct(t, func(o *agent.Options) { o.Leash, o.Careless = 100*leash, careless })
	seen := map[int]bool{}
	d.deaf = func(part fleet.Sampled) bool {
		first := !seen[part.From] && len(seen) < 2 && len(part.Lines) > 0
		seen[part.From] = seen[part.From] || len(part.Lines) > 0
		return first
	}
	s := d.order(target.URL, nil)
	d.say(s, d.w.orderKey())
	d.w.await("what was told", func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(seen) < 3 {
			return errors.New("too little was told")
		}
		return nil
	})
	d.cancel(s)
	d.w.await("the end", func() error { return d.w.said("sampling has ended") })
	all := d.samples()
	if len(all) == 0 {
		return 1
	}
	for i := 1; i < len(all); i++ {
		missing += int(all[i].Scheduled.Sub(all[i-1].Scheduled)/s.Every.Duration()) - 1
	}
	if int64(len(all)) < target.hits.Load() {
		missing++
	}
	return missing
}

func (w *world) said(text string) error {
	if !strings.Contains(w.log.String(), text) {
		return fmt.Errorf("no line says %q", text)
	}
	return nil
}

func TestWhatWasNotHeardIsToldAgain(t *testing.T) {
	t.Parallel()
	if missing := holes(t, false); missing != 0 {
		t.Errorf("%d samples are missing", missing)
	}
	if holes(t, true) == 0 {
		t.Error("a host that tells everything once is not noticed")
	}
}

// deserted says whether a host stops sampling by itself when what it says is heard no more, and when the control plane is gone.
func deserted(t *testing.T, unleashed, gone bool) error {
	t.Helper()
	target := newShop(t)
	// Long enough that a busy machine does not end it before it is deserted.
	d := direct(t, func(o *agent.Options) { o.Unleashed, o.Leash = unleashed, 4*leash })
	s := d.order(target.URL, nil)
	d.say(s, d.w.orderKey())
	d.w.await("samples", target.more(10))
	if gone {
		d.h.proxy.set(true)
	} else {
		d.mu.Lock()
		d.deaf = func(fleet.Sampled) bool { return true }
		d.mu.Unlock()
	}
	err := awaited(func() error { return d.w.said("sampling has ended") }, map[bool]time.Duration{false: 2 * patience, true: 6 * leash}[unleashed])
	if err == nil {
		asked := target.hits.Load()
		if more := awaited(target.more(1), time.Second/2); more == nil {
			return fmt.Errorf("it has ended, and was asked %d times more", target.hits.Load()-asked)
		}
	}
	d.h.proxy.set(false)
	return err
}

func TestAHostThatIsNotHeardStopsSamplingByItself(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]bool{"nobody takes what it saw": false, "the way is cut": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := deserted(t, false, gone); err != nil {
				t.Error(err)
			}
			if deserted(t, true, gone) == nil {
				t.Error("a host that goes on for ever is not noticed")
			}
		})
	}
}

// withClient is the service file of a stage with a client that is an agent.
func withClient(endpoint, agent string) string {
	at, _ := url.Parse(endpoint)
	text := strings.ReplaceAll(stageFile, "steady_for: 200ms", "steady_for: 3s")
	text = strings.Replace(text, "endpoint: http://shop.test/", "endpoint: "+endpoint+"/\ndependencies:\n  front: {address: \""+at.Host+"\"}", 1)
	return strings.Replace(text, "  here: {every: 100ms, timeout: 500ms}\n", "  here: {every: 1s, timeout: 500ms}\n  far: {agent: "+agent+", every: 1s, timeout: 5s}\n", 1)
}

// logOf is the log of a drill that has ended, and the verdict on it.
func (d *dashboard) logOf(run fleet.DrillRun) ([]history.Event, verdict.Verdict) {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.control.DrillsDirectory(), run.Result, control.LogName))
	if err != nil {
		d.t.Fatal(err)
	}
	events, err := history.Read(bytes.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, event := range events {
		if started, ok := event.Fact.(*history.RunStarted); ok {
			return events, verdict.Judge(started.Plan, events)
		}
	}
	d.t.Fatal("the log has no plan")
	return nil, verdict.Verdict{}
}

// staged is a stage with a shop that answers, and an agent that is a client of it.
func staged(t *testing.T, agent string, change func(*control.Options)) (*dashboard, *shop) {
	t.Helper()
	// A machine that is very busy takes long to answer.
	patient := func(o *control.Options) {
		o.RollCall, o.Lead = patience, 2*lead
		if change != nil {
			change(o)
		}
	}
	d, target := newStage(t, patient, "web1", "web2"), newShop(t)
	d.must("putservice", fleet.PutService{Text: withClient(target.URL, agent)}, nil)
	return d, target
}

// underway starts a drill and waits until its impact is in force. A host that was too busy to take the order in time, or to be steady, was not attacked; then it is started
// again, and given up in the end.
func (d *dashboard) underway(name, host string) (run fleet.DrillRun) {
	d.t.Helper()
	for range 8 {
		var err error
		if run, err = d.drill(name); err != nil {
			d.t.Log(err)
			continue
		}
		if awaited(func() error {
			if d.must("drillrun", run.ID, &run); run.Done() {
				return nil
			}
			return d.agents[host].inForce()
		}, longest) == nil && !run.Done() {
			return run
		}
	}
	d.t.Fatalf("a drill is never steady, which may be for a machine that is far too busy: %+v", run)
	return run
}

// longest is how long a drill may take on a machine that is very busy: it may be thirty seconds before it is steady, and as long afterwards.
const longest = 4 * patience

// over waits for the end of a drill.
func (d *dashboard) over(run fleet.DrillRun) fleet.DrillRun {
	d.t.Helper()
	if err := awaited(func() error {
		if d.must("drillrun", run.ID, &run); !run.Done() {
			return errors.New(run.State)
		}
		return nil
	}, longest); err != nil {
		d.t.Fatal(err)
	}
	return run
}

// It is not run beside the others of this package: it measures.
func TestAnAgentIsAClientOfADrill(t *testing.T) {
	d, target := staged(t, "place=far-away", nil)
	if _, err := d.drill("busy"); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "no agent has joined with this tag") {
		t.Errorf("a client that is not there: %v", err)
	}
	d.join("eye", map[string]string{"place": "far-away"}, func(o *agent.Options) { o.Leash = 20 * leash })
	d.welcomed("eye")
	run := d.underway("busy", "web2")
	_, err := d.attack("cpu", "1", "eye")
	if d.must("drillrun", run.ID, &run); !run.Done() && (drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "samples for a drill")) {
		t.Errorf("a host that samples is attacked: %v", err)
	}
	run = d.over(run)
	events, judged := d.logOf(run)
	samples := samplesOf(events, "far")
	measured := history.Outages(samples, time.Second, 0)
	if run.Clients["far"] != "eye" || len(samples) < 3 || measured.Bad > 0 {
		t.Errorf("%+v, with %d samples: %+v", run, len(samples), measured)
	}
	// On a machine that is too busy to sample in time nothing is measured, and nothing proven.
	if run.Outcome != string(judged.Outcome) || judged.Outcome != history.Passed && (measured.Void == "" && measured.Holes == 0 || judged.Outcome != history.Inconclusive) {
		t.Errorf("a drill of which was measured %+v is %s: %s", measured, run.Outcome, judged.Reason)
	}
	clocks := 0
	for _, event := range events {
		if clock, ok := event.Fact.(*history.Clock); ok && clock.Host == "far" {
			clocks++
		}
	}
	if clocks != 1 {
		t.Errorf("%d clocks are in the log", clocks)
	}
	d.await("the end of the samples", func() error {
		if target.more(1)() != nil {
			return d.said("sampling has ended")
		}
		return nil
	})
}

// It is not run beside the others of this package: it measures.
func TestAClientThatIsLostProvesNothing(t *testing.T) {
	d, _ := staged(t, "eye", nil)
	eye := d.join("eye", nil, func(o *agent.Options) { o.Leash = 4 * leash })
	d.welcomed("eye")
	run := d.underway("busy", "web2")
	eye.proxy.set(true)
	run = d.over(run)
	eye.proxy.set(false)
	events, judged := d.logOf(run)
	if run.Outcome != "inconclusive" || judged.Outcome != history.Inconclusive {
		t.Errorf("%+v: %s, with %d samples", run, judged.Reason, len(samplesOf(events, "far")))
	}
}

// puppet answers as an agent does whose clock is an hour ahead, and says with each sample when it was really taken.
func (d *dashboard) puppet(name string) (taken *atomic.Int64) {
	d.t.Helper()
	h := d.join(name, nil, nil)
	h.stop()
	const ahead = time.Hour
	taken = new(atomic.Int64)
	conn := d.intruder(h)
	say := func(word string, message any) {
		text, _ := json.Marshal(message)
		_ = conn.Publish(fleet.FromAgent(h.key, word), text)
	}
	present := func(*nats.Msg) {
		say(fleet.WordPresence, fleet.Presence{At: time.Now(), Facts: &fleet.Facts{Hostname: name, Kinds: []string{"cpu"}}})
	}
	look := func(message *nats.Msg) {
		heard := time.Now().Add(ahead)
		if word, err := fleet.Decode[fleet.Look](message.Data); err == nil {
			say(fleet.WordLooked, fleet.Looked{ID: word.ID, Heard: heard, At: time.Now().Add(ahead)})
		}
	}
	stop := make(chan struct{})
	var stopped sync.Once
	var sampling sync.WaitGroup
	sample := func(message *nats.Msg) {
		order, err := fleet.OpenSampling(message.Data, d.orderKey().Public().(ed25519.PublicKey))
		if err != nil {
			return
		}
		say(fleet.WordAnswer, fleet.Answer{Order: order.ID, State: fleet.Accepted})
		sampling.Go(func() {
			tick := time.NewTicker(order.Every.Duration())
			defer tick.Stop()
			for i := 0; ; i++ {
				part := fleet.Sampled{ID: order.ID, From: i, Lines: []string{}}
				select {
				case <-stop:
					part.End = "stopped"
				case <-tick.C:
					now := time.Now()
					line, _ := json.Marshal(history.New(now.Add(ahead), "whoever", &history.Sample{Probe: "whatever", Scheduled: now.Add(ahead), OK: true, Detail: now.Format(time.RFC3339Nano)}))
					part.Lines = append(part.Lines, string(line))
				}
				text, _ := json.Marshal(part)
				if _, err := conn.Request(fleet.FromAgent(h.key, fleet.WordSampled), text, patience); err != nil || part.End != "" {
					return
				}
				taken.Add(1)
			}
		})
	}
	end := func(*nats.Msg) { stopped.Do(func() { close(stop) }) }
	for subject, handle := range map[string]nats.MsgHandler{
		fleet.SubjectRollCall: present, fleet.ToAgent(h.key, fleet.WordLook): look, fleet.ToAgent(h.key, fleet.WordSample): sample, fleet.ToAgent(h.key, fleet.WordCancel): end,
	} {
		if _, err := conn.Subscribe(subject, handle); err != nil {
			d.t.Fatal(err)
		}
	}
	d.t.Cleanup(func() { end(nil); sampling.Wait() })
	present(nil)
	if err := conn.Flush(); err != nil {
		d.t.Fatal(err)
	}
	return taken
}

// worst says by how much more than its bound the worst sample of a client with a wrong clock is off in the log.
func worst(t *testing.T, uncorrected bool) (off time.Duration, samples int) {
	t.Helper()
	d, _ := staged(t, "eye", func(o *control.Options) { o.Uncorrected = uncorrected })
	taken := d.puppet("eye")
	run, err := d.drill("for-long")
	if err != nil {
		t.Fatal(err)
	}
	d.await("samples", func() error {
		if taken.Load() < 3 {
			return errors.New("there are few")
		}
		return nil
	})
	d.must("stopdrill", run.ID, nil)
	run = d.over(run)
	events, _ := d.logOf(run)
	var bound time.Duration
	for _, event := range events {
		if clock, ok := event.Fact.(*history.Clock); ok && clock.Host == "far" {
			bound = clock.Error.Duration()
		}
	}
	for _, sample := range samplesOf(events, "far") {
		really, err := time.Parse(time.RFC3339Nano, sample.Detail)
		if err != nil {
			t.Fatal(err)
		}
		off = max(off, sample.Scheduled.Sub(really).Abs()-bound)
		samples++
	}
	return off, samples
}

func TestTheClockOfAClientIsCorrectedWithinItsBound(t *testing.T) {
	t.Parallel()
	// The clock of the operating system may be slewed between the two.
	const slewed = 50 * time.Millisecond
	if off, samples := worst(t, false); off > slewed || samples == 0 {
		t.Errorf("of %d samples one is off by %s more than its bound", samples, off)
	}
	if off, samples := worst(t, true); off < slewed || samples == 0 {
		t.Errorf("an uncorrected clock is not noticed: %s over %d samples", off, samples)
	}
}
