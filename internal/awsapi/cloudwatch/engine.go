package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/awsapi/wire"
	"firedrill/internal/durable"
)

const (
	// Account is the account that everything here belongs to.
	Account = "000000000000"

	// graceDefault is how long after its end a period stays open: a sample of its last moment is still on its way.
	graceDefault = time.Second

	historyKept = 14 * 24 * time.Hour
	historyMax  = 20_000 // lines, whatever their age
	idle        = time.Minute
)

// Options make an Engine.
type Options struct {
	Directory string           // where it keeps what it knows; "": nowhere
	Grace     time.Duration    // default: a second
	Now       func() time.Time // default: the clock
	Log       *slog.Logger
}

// Engine is CloudWatch: metrics, alarms and their history. All methods may be called at once.
type Engine struct {
	now   func() time.Time
	grace time.Duration
	path  string
	log   *slog.Logger
	wake  chan struct{}

	mu      sync.Mutex // guards the fields below
	metrics *metrics
	alarms  map[string]*held // by region and name
	history []historyOf      // oldest first
}

// held is an alarm of either type. One of Metric and Composite is there.
type held struct {
	Region    string
	Metric    *MetricAlarm    `json:",omitempty"`
	Composite *CompositeAlarm `json:",omitempty"`

	rule       alarm.Rule
	step       alarm.Alarm
	next       time.Time
	expression alarm.Expression
}

// saved is the state file.
type saved struct {
	Alarms  []*held
	History []historyOf
}

// Open returns the engine with what its directory holds. Run evaluates alarms.
func Open(options Options) (*Engine, error) {
	e := &Engine{now: options.Now, grace: options.Grace, log: options.Log, wake: make(chan struct{}, 1), alarms: map[string]*held{}}
	if e.now == nil {
		e.now = time.Now
	}
	if e.grace == 0 {
		e.grace = graceDefault
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if e.metrics, err = openMetrics(options.Directory, e.now()); err != nil {
		return nil, fmt.Errorf("cloudwatch: %w", err)
	}
	if options.Directory == "" {
		return e, nil
	}
	e.path = filepath.Join(options.Directory, "cloudwatch.json")
	var from saved
	if err := durable.Load(e.path, &from); err != nil {
		return nil, fmt.Errorf("cloudwatch: %w", err)
	}
	e.history = from.History
	for _, h := range from.Alarms {
		if err := e.compile(h, e.now()); err != nil {
			return nil, fmt.Errorf("cloudwatch: %s: %w", e.path, err)
		}
		e.alarms[h.key()] = h
	}
	return e, nil
}

func (h *held) key() string { return h.Region + "/" + h.name() }

func (h *held) name() string {
	if h.Metric != nil {
		return h.Metric.AlarmName
	}
	return h.Composite.AlarmName
}

func (h *held) kind() string {
	if h.Metric != nil {
		return "MetricAlarm"
	}
	return "CompositeAlarm"
}

// state returns where the state of either type stands.
func (h *held) state() (value, reason, data *string, updated, moved **wire.Time) {
	if m := h.Metric; m != nil {
		return &m.StateValue, &m.StateReason, &m.StateReasonData, &m.StateUpdatedTimestamp, &m.StateTransitionedTimestamp
	}
	c := h.Composite
	return &c.StateValue, &c.StateReason, &c.StateReasonData, &c.StateUpdatedTimestamp, &c.StateTransitionedTimestamp
}

// Run evaluates every alarm when it is due, until ctx ends.
func (e *Engine) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.wake:
		}
		if err := e.Tick(e.now()); err != nil {
			e.log.Error("alarms are not kept", "error", err)
		}
		timer.Reset(max(time.Millisecond, e.due().Sub(e.now())))
	}
}

// due returns when the next alarm is to be evaluated.
func (e *Engine) due() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := e.now().Add(idle)
	for _, h := range e.alarms {
		if h.Metric != nil && h.next.Before(next) {
			next = h.next
		}
	}
	return next
}

// Tick evaluates every alarm that is due at now.
func (e *Engine) Tick(now time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed := false
	for _, key := range slices.Sorted(maps.Keys(e.alarms)) {
		if h := e.alarms[key]; h.Metric != nil && !h.next.After(now) {
			changed = e.evaluate(h, now) || changed
		}
	}
	if !changed {
		return nil
	}
	e.composites(now)
	return e.save(now)
}

// evaluate looks at a metric alarm, and says whether it has moved.
func (e *Engine) evaluate(h *held, now time.Time) bool {
	m := h.Metric
	window := e.metrics.window(h.Region, Metric{m.Namespace, m.MetricName, m.Dimensions}, m.Unit, h.rule, now)
	next, change := alarm.Step(h.step, now, window)
	h.step, h.next = next, h.rule.Next(now)
	if change != nil {
		e.moved(h, change, now)
	}
	return change != nil
}

// composites looks at all alarms on alarms, children first.
func (e *Engine) composites(now time.Time) {
	for _, region := range e.regions() {
		var all []alarm.Composite
		var leaves []string
		states := map[string]alarm.State{}
		for _, h := range e.alarms {
			if h.Region != region {
				continue
			}
			value, reason, _, _, _ := h.state()
			states[h.name()] = alarm.State(*value)
			if h.Composite != nil {
				all = append(all, alarm.Composite{Name: h.name(), Expression: h.expression, State: alarm.State(*value), Reason: *reason})
			} else {
				leaves = append(leaves, h.name())
			}
		}
		ordered, err := alarm.Order(all, leaves)
		if err != nil {
			e.log.Warn("composite alarms stand still", "error", err)
			continue
		}
		for _, c := range ordered {
			next, change := alarm.StepComposite(c, now, states)
			if change != nil {
				states[c.Name] = next.State
				e.moved(e.alarms[region+"/"+c.Name], change, now)
			}
		}
	}
}

func (e *Engine) regions() []string {
	var all []string
	for _, h := range e.alarms {
		all = append(all, h.Region)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// save writes alarms and history down. Callers hold mu.
func (e *Engine) save(now time.Time) error {
	oldest := now.Add(-historyKept)
	e.history = slices.DeleteFunc(e.history, func(h historyOf) bool { return h.Item.Timestamp.Before(oldest) })
	e.history = e.history[max(0, len(e.history)-historyMax):]
	if e.path == "" {
		return nil
	}
	state := saved{History: e.history}
	for _, key := range slices.Sorted(maps.Keys(e.alarms)) {
		state.Alarms = append(state.Alarms, e.alarms[key])
	}
	return durable.Save(e.path, state)
}

// Close closes the journal of metrics.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.metrics.journal == nil {
		return nil
	}
	journal := e.metrics.journal
	e.metrics.journal = nil
	return errors.Join(journal.Sync(), journal.Close())
}

func arn(region, name string) string {
	return strings.Join([]string{"arn:aws:cloudwatch", region, Account, "alarm", name}, ":")
}
