package alarm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Composite is an alarm on other alarms. It is a value: StepComposite returns the next one.
type Composite struct {
	Name       string
	Expression Expression
	State      State // Insufficient only until the first step
	Since      time.Time
	Reason     string
}

// NewComposite returns a composite alarm that has not looked yet.
func NewComposite(name string, expression Expression, now time.Time) Composite {
	return Composite{Name: name, Expression: expression, State: Insufficient, Since: now, Reason: "Unchecked: Initial alarm creation"}
}

// StepComposite looks at the states of all alarms again, because one of them has changed, and returns the alarm as it is afterwards, with
// the change if there was one.
func StepComposite(c Composite, now time.Time, states map[string]State) (Composite, *Change) {
	state := OK
	if c.Expression.Holds(states) {
		state = Raised
	}
	if state == c.State {
		return c, nil
	}
	reason, data := compositeReason(c, states)
	change := &Change{Name: c.Name, From: c.State, To: state, At: now, Reason: reason, ReasonData: data}
	c.State, c.Since, c.Reason = state, now, reason
	return c, change
}

func compositeReason(c Composite, states map[string]State) (string, json.RawMessage) {
	type trigger struct {
		Name  string `json:"name"`
		State State  `json:"state"`
	}
	data := struct {
		Triggering []trigger `json:"triggeringAlarms"`
	}{Triggering: []trigger{}}
	var said []string
	for _, name := range c.Expression.Children() {
		state, known := states[name]
		if !known {
			state = "not there"
		}
		said = append(said, name+" is "+string(state))
		if slices.Contains(c.Expression.Because(states), name) {
			data.Triggering = append(data.Triggering, trigger{Name: name, State: state})
		}
	}
	reason := fmt.Sprintf("Alarm rule %s was evaluated: %s", c.Expression, strings.Join(said, ", "))
	text, err := json.Marshal(data)
	if err != nil {
		return reason, nil // strings always encode
	}
	return reason, text
}

// Order returns the composites so that each comes after those it asks for, and an error that names a cycle or an alarm that does not
// exist. known are the names of all other alarms.
func Order(composites []Composite, known []string) ([]Composite, error) {
	byName := make(map[string]Composite, len(composites))
	for _, c := range composites {
		if _, twice := byName[c.Name]; twice || slices.Contains(known, c.Name) {
			return nil, fmt.Errorf("alarm %s is there twice; give one another name", c.Name)
		}
		byName[c.Name] = c
	}
	var ordered []Composite
	done := map[string]bool{}
	var visit func(name string, path []string) error
	visit = func(name string, path []string) error {
		if i := slices.Index(path, name); i >= 0 {
			return fmt.Errorf("alarms ask for each other in a circle: %s", strings.Join(append(path[i:], name), " -> "))
		}
		c, composite := byName[name]
		if !composite {
			if !slices.Contains(known, name) {
				return fmt.Errorf("alarm %s asks for %q, which does not exist", path[len(path)-1], name)
			}
			return nil
		}
		if done[name] {
			return nil
		}
		for _, child := range c.Expression.Children() {
			if err := visit(child, append(slices.Clone(path), name)); err != nil {
				return err
			}
		}
		done[name] = true
		ordered = append(ordered, c)
		return nil
	}
	for _, c := range composites {
		if err := visit(c.Name, nil); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}
