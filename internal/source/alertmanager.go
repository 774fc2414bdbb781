package source

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// alertmanager asks Alertmanager's API version 2. A silenced or inhibited alert is raised all the same: a drill that mutes the pager must
// not hide the alarm from itself.
//
// Alertmanager forgets an alert that nobody renews, so an empty list may mean that whoever sends alerts has died. A watchdog, an alert that
// always fires, tells the two apart: where one is named and missing, nothing is known.
type alertmanager struct {
	base            string
	match, watchdog []matcher
	ask             asker
}

func (a *alertmanager) String() string { return "alertmanager at " + a.base }

type managedAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	Status      struct {
		State       string   `json:"state"`
		SilencedBy  []string `json:"silencedBy"`
		InhibitedBy []string `json:"inhibitedBy"`
	} `json:"status"`
}

// Look implements Source.
func (a *alertmanager) Look(ctx context.Context) (Reading, error) {
	found, err := a.alerts(ctx, a.match)
	if err != nil {
		return Reading{}, err
	}
	if len(found) == 0 {
		if len(a.watchdog) > 0 {
			dogs, err := a.alerts(ctx, a.watchdog)
			if err != nil {
				return Reading{}, err
			}
			if len(dogs) == 0 {
				return Reading{}, fmt.Errorf("%s: the watchdog %s is not there, so nothing that is silent can be believed", a, listed(a.watchdog))
			}
		}
		return Reading{Reason: "no alert fits " + listed(a.match)}, nil
	}
	first := found[0]
	for _, alert := range found[1:] {
		if alert.StartsAt.Before(first.StartsAt) {
			first = alert
		}
	}
	reason := wordsOf(first.Labels, first.Annotations, "")
	if len(first.Status.SilencedBy)+len(first.Status.InhibitedBy) > 0 {
		reason += "; nobody is told: it is " + first.Status.State + " there"
	}
	data, err := json.Marshal(first)
	if err != nil {
		return Reading{}, err
	}
	return Reading{Raised: true, Since: first.StartsAt, Reason: reason, Data: data}, nil
}

func (a *alertmanager) alerts(ctx context.Context, match []matcher) ([]managedAlert, error) {
	query := url.Values{"active": {"true"}, "silenced": {"true"}, "inhibited": {"true"}, "unprocessed": {"true"}}
	for _, m := range match {
		query.Add("filter", m.String())
	}
	var answer []managedAlert
	if err := a.ask.get(ctx, a.base+"/api/v2/alerts?"+query.Encode(), &answer); err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, fmt.Errorf("%s: the answer is no list of alerts", a)
	}
	var fitting []managedAlert
	for _, alert := range answer {
		if fitAll(match, alert.Labels) {
			fitting = append(fitting, alert)
		}
	}
	return fitting, nil
}
