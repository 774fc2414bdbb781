//go:build !attackpart

package drill

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

var topicPattern = Pattern(`^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+$`)

// composites looks at the names only: what a rule means is the business of internal/alarm.
func (c *checker) composites() {
	taken := names(c.service.Alarms, func(a Alarm) string { return a.Name })
	for _, composite := range c.service.Composites {
		path := "composites." + composite.Name
		if strings.Contains(composite.Name, hostPlaceholder) {
			c.mistake(path, "a composite alarm is there once, not on each host; write its name without {host}")
		}
		if slices.Contains(taken, composite.Name) {
			c.mistake(path, "there is an alarm of this name already")
		}
	}
}

func (c *checker) actions() {
	alarms := append(names(c.service.Alarms, func(a Alarm) string { return a.Name }), names(c.service.Composites, func(a Composite) string { return a.Name })...)
	states := []string{"OK", "ALARM", "INSUFFICIENT_DATA"}
	for _, action := range c.service.Actions {
		path := "actions." + action.Name
		ways := 0
		for _, there := range []bool{action.Webhook != nil, action.Slack != nil, action.PagerDuty != nil, action.Email != nil, action.SNS != nil, len(action.Exec) > 0} {
			if there {
				ways++
			}
		}
		if ways != 1 {
			c.mistake(path, "needs exactly one of webhook, slack, pagerduty, email, sns, exec")
		}
		for i, alarm := range action.Alarms {
			if alarm != "*" && !slices.Contains(alarms, alarm) {
				c.mistake(fmt.Sprintf("%s.alarms[%d]", path, i), "no alarm %q; %s", alarm, Suggest(alarm, alarms))
			}
		}
		for i, state := range action.States {
			if !slices.Contains(states, state) {
				c.mistake(fmt.Sprintf("%s.states[%d]", path, i), "%q is no state of an alarm; %s", state, Suggest(state, states))
			}
		}
		if by := action.SuppressedBy; by != "" && !slices.Contains(alarms, by) {
			c.mistake(path+".suppressed_by", "no alarm %q; %s", by, Suggest(by, alarms))
		}
		if strings.Contains(action.SuppressedBy, hostPlaceholder) {
			c.mistake(path+".suppressed_by", "is an alarm of each host; make a composite of them and name that")
		}
		if action.SuppressedBy == "" && action.Wait+action.Extension > 0 {
			c.mistake(path, "wait and extension are about suppressed_by; name an alarm there")
		}
		for way, h := range map[string]*HTTPAction{"webhook": action.Webhook, "slack": action.Slack} {
			if h == nil {
				continue
			}
			if (h.URL == "") == (h.URLFile == "") {
				c.mistake(path+"."+way, "needs exactly one of url, url_file")
			}
			if parsed, err := url.Parse(h.URL); h.URL != "" && (err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https")) {
				c.mistake(path+"."+way+".url", "%q is not a URL; write one such as https://hooks.example.com/alarms", h.URL)
			}
		}
		if sns := action.SNS; sns != nil && !topicPattern().MatchString(sns.Topic) {
			c.mistake(path+".sns.topic", "%q is not the ARN of a topic; write one such as arn:aws:sns:us-west-2:123456789012:alarms", sns.Topic)
		}
		if mail := action.Email; mail != nil {
			c.hostPort(path+".email.server", mail.Server)
			if len(mail.To) == 0 {
				c.mistake(path+".email.to", "nobody is to get it; write an address")
			}
			if (mail.User == "") != (mail.PasswordFile == "") {
				c.mistake(path+".email", "user and password_file belong together")
			}
		}
	}
}
