package recovery

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/awsapi/wire"
	"firedrill/internal/durable"
)

// The states of a control.
const (
	On  = "On"
	Off = "Off"
)

const prefix = "arn:aws:route53-recovery-control::000000000000:controlpanel/"

// Control is a routing control.
type Control struct {
	ControlPanelArn     string `json:",omitempty"`
	RoutingControlArn   string
	RoutingControlName  string
	RoutingControlState string `json:",omitempty"`
}

// RuleConfig says when the controls of a rule are as they must be.
type RuleConfig struct {
	Inverted  bool
	Threshold int
	Type      string // ATLEAST, AND, OR
}

// Rule is a safety rule. An assertion has asserted controls, a gate has gating and target controls.
type Rule struct {
	SafetyRuleArn    string
	ControlPanelArn  string
	Name             string
	AssertedControls []string `json:",omitempty"`
	GatingControls   []string `json:",omitempty"`
	TargetControls   []string `json:",omitempty"`
	RuleConfig       RuleConfig
	WaitPeriodMs     int

	Until time.Time `json:"until,omitzero"` // its controls must not change again before
}

// Entry is one change.
type Entry struct{ RoutingControlArn, RoutingControlState string }

// Options make a Service.
type Options struct {
	Directory string           // where it keeps what it knows; "": nowhere
	Now       func() time.Time // default: the clock
}

// Service is the recovery controller. All methods may be called at once.
type Service struct {
	now     func() time.Time
	path    string
	changed func()

	mu       sync.Mutex // guards the fields below
	controls map[string]Control
	rules    map[string]Rule
}

type saved struct {
	Controls map[string]Control
	Rules    map[string]Rule
}

// Open returns the service with what its directory holds.
func Open(options Options) (*Service, error) {
	s := &Service{now: options.Now, controls: map[string]Control{}, rules: map[string]Rule{}, changed: func() {}}
	if s.now == nil {
		s.now = time.Now
	}
	if options.Directory != "" {
		s.path = filepath.Join(options.Directory, "recovery.json")
		if err := durable.Load(s.path, &saved{s.controls, s.rules}); err != nil {
			return nil, fmt.Errorf("recovery: %w", err)
		}
	}
	return s, nil
}

// OnChange names who is told after each change. It must be called before the service is used.
func (s *Service) OnChange(tell func()) { s.changed = tell }

func fault(code string, status int, format string, args ...any) error {
	return &wire.Fault{Code: code, Status: status, Message: fmt.Sprintf(format, args...)}
}

// IsOff says whether a control is off. A control that does not exist is.
func (s *Service) IsOff(arn string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.controls[arn].RoutingControlState != On
}

// CreateControl makes a control, which is off.
func (s *Service) CreateControl(panel, name string) (Control, error) {
	if name == "" {
		return Control{}, fault("ValidationException", 400, "RoutingControlName is needed.")
	}
	if panel == "" {
		panel = prefix + "default"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	made := Control{ControlPanelArn: panel, RoutingControlArn: panel + "/routingcontrol/" + shortID(), RoutingControlName: name, RoutingControlState: Off}
	s.controls[made.RoutingControlArn] = made
	return made, s.save()
}

func shortID() string { return strings.ReplaceAll(uuid.NewString(), "-", "")[:16] }

// CreateRule makes a safety rule.
func (s *Service) CreateRule(rule Rule) (Rule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asserts, gates := len(rule.AssertedControls) > 0, len(rule.GatingControls) > 0 && len(rule.TargetControls) > 0
	if asserts == gates || rule.Name == "" || rule.WaitPeriodMs < 0 || !slices.Contains([]string{"ATLEAST", "AND", "OR"}, rule.RuleConfig.Type) {
		return Rule{}, fault("ValidationException", 400, "A rule has a name, a type of ATLEAST, AND or OR, and either AssertedControls, or GatingControls and TargetControls.")
	}
	for _, arn := range slices.Concat(rule.AssertedControls, rule.GatingControls, rule.TargetControls) {
		if _, there := s.controls[arn]; !there {
			return Rule{}, fault("ResourceNotFoundException", 404, "There is no routing control %s.", arn)
		}
	}
	if rule.ControlPanelArn == "" {
		rule.ControlPanelArn = prefix + "default"
	}
	rule.SafetyRuleArn = rule.ControlPanelArn + "/safetyrule/" + shortID()
	s.rules[rule.SafetyRuleArn] = rule
	return rule, s.save()
}

// Control returns a control.
func (s *Service) Control(arn string) (Control, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, there := s.controls[arn]; there {
		return c, nil
	}
	return Control{}, fault("ResourceNotFoundException", 404, "There is no routing control %s.", arn)
}

// Controls returns all controls of a panel, or all.
func (s *Service) Controls(panel string) []Control {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Control{}
	for _, arn := range slices.Sorted(maps.Keys(s.controls)) {
		if c := s.controls[arn]; panel == "" || c.ControlPanelArn == panel {
			all = append(all, c)
		}
	}
	return all
}

// Update changes controls, all of them or none. override names rules that are not looked at: the glass that is broken.
func (s *Service) Update(entries []Entry, override []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	next := maps.Clone(s.controls)
	moved := map[string]bool{}
	for _, entry := range entries {
		c, there := next[entry.RoutingControlArn]
		switch {
		case !there:
			return fault("ResourceNotFoundException", 404, "There is no routing control %s.", entry.RoutingControlArn)
		case entry.RoutingControlState != On && entry.RoutingControlState != Off:
			return fault("ValidationException", 400, "RoutingControlState %q is neither On nor Off.", entry.RoutingControlState)
		}
		moved[entry.RoutingControlArn] = c.RoutingControlState != entry.RoutingControlState
		c.RoutingControlState = entry.RoutingControlState
		next[entry.RoutingControlArn] = c
	}
	changes := func(arn string) bool { return moved[arn] }
	rules := maps.Clone(s.rules)
	for arn, rule := range s.rules {
		guarded := slices.Concat(rule.AssertedControls, rule.TargetControls)
		if !slices.ContainsFunc(guarded, changes) {
			continue
		}
		if !slices.Contains(override, arn) {
			if err := rule.refuses(s.controls, next, now); err != nil {
				return err
			}
		}
		rule.Until = now.Add(time.Duration(rule.WaitPeriodMs) * time.Millisecond)
		rules[arn] = rule
	}
	before, beforeRules := s.controls, s.rules
	s.controls, s.rules = next, rules
	if err := s.save(); err != nil {
		s.controls, s.rules = before, beforeRules
		return err
	}
	go s.changed() // whoever is told may ask us
	return nil
}

// refuses says why a rule does not let a change pass. Gates look at the controls as they were, assertions as they would be.
func (r Rule) refuses(before, after map[string]Control, now time.Time) error {
	if now.Before(r.Until) {
		return fault("ConflictException", 409, "Safety rule %s: its controls may change again in %s.", r.Name, r.Until.Sub(now).Round(time.Millisecond))
	}
	asked, of := r.AssertedControls, after
	if len(asked) == 0 {
		asked, of = r.GatingControls, before
	}
	on := 0
	for _, arn := range asked {
		if of[arn].RoutingControlState == On {
			on++
		}
	}
	need := map[string]int{"ATLEAST": r.RuleConfig.Threshold, "AND": len(asked), "OR": 1}[r.RuleConfig.Type]
	if (on >= need) == !r.RuleConfig.Inverted {
		return nil
	}
	return fault("ConflictException", 409, "Safety rule %s refuses: %d of its %d controls would be on, and %s %d must be.", r.Name, on, len(asked),
		map[bool]string{false: "at least", true: "fewer than"}[r.RuleConfig.Inverted], need)
}

func (s *Service) save() error {
	if s.path == "" {
		return nil
	}
	return durable.Save(s.path, saved{s.controls, s.rules})
}
