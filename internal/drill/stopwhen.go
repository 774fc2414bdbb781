//go:build !attackpart

package drill

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The sentences of `stop_when:`. Each pattern is a whole sentence.
var stopPatterns = []struct {
	kind    string
	pattern func() *regexp.Regexp
	example string
}{
	{StopAlarm, Pattern(`^alarm "([^"]+)" is raised$`), `alarm "checkout-errors" is raised`},
	{StopProbe, Pattern(`^probe "([^"]+)" fails for (\S+)$`), `probe "orders" fails for 3s`},
	{StopClients, Pattern(`^clients fail for (\S+)$`), `clients fail for 5s`},
	{StopAvailable, Pattern(`^availability below (\S+) over (\S+)$`), `availability below 90% over 10s`},
	{StopLine, Pattern(`^line "(.+)" in (journal of \S+|/\S+)$`), `line "data corruption" in /var/log/shop.log`},
}

// StopPatterns returns the regular expressions of the sentences of `stop_when:`, for the schema.
func StopPatterns() []string {
	var all []string
	for _, known := range stopPatterns {
		all = append(all, known.pattern().String())
	}
	return all
}

// stopWindowMax bounds what a stop condition looks back: the guard keeps the samples of a minute at 100 a second.
const stopWindowMax = Seconds(time.Minute)

// parseStop reads one sentence of `stop_when:`.
func parseStop(text string) (StopWhen, error) {
	text = strings.Join(strings.Fields(text), " ")
	for _, known := range stopPatterns {
		groups := known.pattern().FindStringSubmatch(text)
		if groups == nil {
			continue
		}
		stop, err := StopWhen{Kind: known.kind, Text: text}, error(nil)
		switch known.kind {
		case StopAlarm:
			stop.Alarm = groups[1]
		case StopProbe:
			stop.Probe = groups[1]
			stop.For, err = ParseSeconds(groups[2])
		case StopClients:
			stop.For, err = ParseSeconds(groups[1])
		case StopAvailable:
			if stop.Value, err = parseShare(groups[1]); err == nil {
				stop.For, err = ParseSeconds(groups[2])
			}
		case StopLine:
			stop.Line, stop.File = groups[1], groups[2]
			_, err = regexp.Compile(groups[1])
		}
		if err == nil && stop.For > stopWindowMax {
			err = fmt.Errorf("%q looks back further than %s", text, stopWindowMax)
		}
		return stop, err
	}
	var examples []string
	for _, known := range stopPatterns {
		examples = append(examples, known.example)
	}
	return StopWhen{}, fmt.Errorf("%q is no stop condition; write one of: %s", text, strings.Join(examples, "; "))
}

// stops makes the stop conditions of a drill concrete: alarms and files for each attacked host.
func (c *compiler) stops(written Drill, step *Step) ([]StopWhen, error) {
	var all []StopWhen
	for _, text := range written.StopWhen {
		stop, err := parseStop(text)
		if err != nil {
			return nil, err
		}
		switch {
		case stop.Kind == StopAlarm && strings.Contains(stop.Alarm, hostPlaceholder) || stop.Kind == StopLine:
			for _, host := range step.Drill.Hosts {
				one := stop
				one.Alarm, one.Text = strings.ReplaceAll(stop.Alarm, hostPlaceholder, host.Name), strings.ReplaceAll(stop.Text, hostPlaceholder, host.Name)
				if stop.Kind == StopLine {
					one.Host, one.Text = host.Name, stop.Text+" on "+host.Name
				}
				all = append(all, one)
			}
			continue
		case (stop.Kind == StopClients || stop.Kind == StopAvailable) && len(c.service.Clients) == 0:
			return nil, fmt.Errorf("%q needs a client that measures; add clients:", text)
		}
		all = append(all, stop)
	}
	alarms := names(ExpandAlarms(*c.service), func(a Alarm) string { return a.Name })
	for _, stop := range all {
		if err := c.probed(stop.Probe, stop.Text); err != nil {
			return nil, err
		}
		expected := slices.ContainsFunc(step.Drill.Expectations, func(e Expectation) bool {
			return stop.Kind == StopAlarm && e.Kind == ExpectAlarm && e.Alarm == stop.Alarm || stop.Kind == StopLine && e.Kind == ExpectLine && e.Line == stop.Line && e.File == stop.File
		})
		if expected {
			return nil, fmt.Errorf("%q stops the drill by what it expects; expect one thing, and stop at another", stop.Text)
		}
		if stop.Kind == StopAlarm && !slices.Contains(alarms, stop.Alarm) {
			return nil, fmt.Errorf("no alarm %q; %s", stop.Alarm, Suggest(stop.Alarm, alarms))
		}
	}
	return all, nil
}

// probed refuses what names a probe that is not there.
func (c *compiler) probed(name, text string) error {
	known := names(c.service.Probes, func(p Probe) string { return p.Name })
	if name == "" || slices.Contains(known, name) {
		return nil
	}
	if len(known) == 0 {
		return fmt.Errorf("%q needs a probe; add probes: {%s: {command: [...]}}", text, name)
	}
	return fmt.Errorf("%q: no probe %q; %s", text, name, Suggest(name, known))
}

// Limits of a probe: it starts a program each time.
const (
	probeEveryDefault = Seconds(time.Second)
	probeEveryMin     = Seconds(100 * time.Millisecond)
	probeEveryMax     = Seconds(time.Minute)
)

// probes checks the user's own probes.
func (c *checker) probes() {
	var hosts []string
	for _, environment := range c.service.Environments {
		hosts = append(hosts, names(environment.Hosts, func(h Host) string { return h.Name })...)
	}
	for _, probe := range c.service.Probes {
		path := "probes." + probe.Name
		if !namePattern().MatchString(probe.Name) {
			c.mistake(path, "%q is not a name; use letters, digits, dots and hyphens", probe.Name)
		}
		if slices.ContainsFunc(c.service.Clients, func(client Client) bool { return client.Name == probe.Name }) {
			c.mistake(path, "a client has this name already")
		}
		if len(probe.Command) == 0 || probe.Command[0] == "" {
			c.mistake(path+".command", "is empty; write a program and its arguments as a list")
		}
		if probe.Host != "" && !slices.Contains(hosts, probe.Host) {
			c.mistake(path+".host", "no host %q; %s", probe.Host, Suggest(probe.Host, hosts))
		}
		if probe.Every < probeEveryMin || probe.Every > probeEveryMax {
			c.mistake(path+".every", "%s is not from %s to %s", probe.Every, probeEveryMin, probeEveryMax)
		}
		if probe.Timeout > probeEveryMax {
			c.mistake(path+".timeout", "%s is longer than %s", probe.Timeout, probeEveryMax)
		}
	}
}
