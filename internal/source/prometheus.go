package source

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// staleAfter is how much longer than its interval a group of rules may take from one evaluation to the next; three intervals are always
// allowed.
const staleAfter = 10 * time.Second

// prometheus asks for the rules and not for the alerts alone: the list of alerts is empty just the same when the rule was never loaded,
// fails to evaluate, or is evaluated no more.
type prometheus struct {
	base  string
	match []matcher
	ask   asker
}

func (p *prometheus) String() string { return "prometheus at " + p.base }

type ruleGroups struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		Groups []struct {
			Name     string  `json:"name"`
			Interval float64 `json:"interval"`
			Rules    []rule  `json:"rules"`
		} `json:"groups"`
	} `json:"data"`
}

type rule struct {
	Name   string            `json:"name"`
	Type   string            `json:"type"`
	State  string            `json:"state"`
	Health string            `json:"health"`
	Error  string            `json:"lastError"`
	Last   time.Time         `json:"lastEvaluation"`
	Alerts []prometheusAlert `json:"alerts"`
}

type prometheusAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	State       string            `json:"state"`
	ActiveAt    time.Time         `json:"activeAt"`
	Value       string            `json:"value"`
}

// Look implements Source.
func (p *prometheus) Look(ctx context.Context) (Reading, error) {
	var answer ruleGroups
	date, err := p.ask.getDated(ctx, p.base+"/api/v1/rules?type=alert", &answer)
	if err != nil {
		return Reading{}, err
	}
	if answer.Status != "success" {
		return Reading{}, fmt.Errorf("%s: %q: %s", p, answer.Status, answer.Error)
	}
	var firing *prometheusAlert
	rules, pending := 0, 0
	for _, group := range answer.Data.Groups {
		interval := time.Duration(group.Interval * float64(time.Second))
		for i := range group.Rules {
			rule := &group.Rules[i]
			if rule.Type != "alerting" || !p.mayFire(rule.Name) {
				continue
			}
			rules++
			switch late := date.Sub(rule.Last); {
			case rule.Health != "ok":
				return Reading{}, fmt.Errorf("%s: the rule %s is not evaluated well (%s): %s", p, rule.Name, rule.Health, rule.Error)
			case late > max(3*interval, interval+staleAfter):
				return Reading{}, fmt.Errorf("%s: the rule %s was last evaluated %s ago, though it is due every %s", p, rule.Name, late.Round(time.Second), interval)
			}
			for j := range rule.Alerts {
				alert := &rule.Alerts[j]
				if !fitAll(p.match, alert.Labels) {
					continue
				}
				if alert.State == "pending" {
					pending++
				} else if alert.State == "firing" && (firing == nil || alert.ActiveAt.Before(firing.ActiveAt)) {
					firing = alert
				}
			}
		}
	}
	if rules == 0 {
		return Reading{}, fmt.Errorf("%s: no alerting rule fits %s: it could never fire. See: %s/rules", p, listed(p.match), p.base)
	}
	if firing == nil {
		return Reading{Reason: fmt.Sprintf("no alert of %d fitting rules fires, %d are pending", rules, pending)}, nil
	}
	data, err := json.Marshal(firing)
	if err != nil {
		return Reading{}, err
	}
	return Reading{Raised: true, Since: firing.ActiveAt, Reason: wordsOf(firing.Labels, firing.Annotations, firing.Value), Data: data}, nil
}

// mayFire says whether alerts of a rule of this name could fit; the other labels are known only of alerts.
func (p *prometheus) mayFire(name string) bool {
	for _, m := range p.match {
		if m.label == "alertname" && !m.fits(map[string]string{"alertname": name}) {
			return false
		}
	}
	return true
}

// wordsOf says what an alert says of itself.
func wordsOf(labels, annotations map[string]string, value string) string {
	text := labels["alertname"] + " is firing"
	for _, key := range []string{"summary", "description", "message"} {
		if annotations[key] != "" {
			text += ": " + annotations[key]
			break
		}
	}
	if value != "" {
		text += " (value " + value + ")"
	}
	return text
}

// getDated is get, with the other side's time: what it says of times is held against its own clock.
func (a asker) getDated(ctx context.Context, address string, out any) (time.Time, error) {
	var header http.Header
	if err := a.getHeader(ctx, address, out, &header); err != nil {
		return time.Time{}, err
	}
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: the answer carries no date", address)
	}
	return date, nil
}
