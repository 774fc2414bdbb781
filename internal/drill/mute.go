//go:build !attackpart

package drill

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	muteLengthMin = Seconds(time.Minute)
	muteLengthMax = Seconds(15 * 24 * time.Hour) // CloudWatch's
	muteAlarmsMax = 100                          // likewise
)

// Mute keeps the actions of alarms quiet at certain times. The alarms themselves go on, move names, and are told afterwards if they are then
// still raised. Exactly one of Cron, At and Window is set.
type Mute struct {
	Name   string   `yaml:"-" json:"name"`
	Alarms []string `yaml:"alarms" json:"alarms,omitempty"`         // names, of composites too, {host} or "*"; default all
	Cron   string   `yaml:"cron" json:"cron,omitempty"`             // when it begins: "0 2 * * SUN Europe/Berlin"; UTC without a zone
	At     string   `yaml:"at" json:"at,omitempty"`                 // once: "2026-12-24T18:00:00+01:00"
	Length Seconds  `yaml:"length" json:"length_seconds,omitempty"` // of cron and at: 1m to 15d
	Window string   `yaml:"window" json:"window,omitempty"`         // "Sat-Sun 00:00-24:00 Europe/Berlin"
	Reason string   `yaml:"reason" json:"reason,omitempty"`
}

// MuteTimes are the times of a Mute, read.
type MuteTimes struct {
	cron   Cron
	at     time.Time
	length time.Duration
	window Window
	kind   string
}

// Times reads the times. After ParseService there is no error.
func (m Mute) Times() (MuteTimes, error) {
	times := MuteTimes{length: m.Length.Duration()}
	ways := 0
	for kind, text := range map[string]string{"cron": m.Cron, "at": m.At, "window": m.Window} {
		if text != "" {
			ways++
			times.kind = kind
		}
	}
	if ways != 1 {
		return MuteTimes{}, errors.New("needs exactly one of cron, at, window")
	}
	if times.kind == "window" {
		if m.Length != 0 {
			return MuteTimes{}, errors.New("a window has its length already; leave length out")
		}
		window, err := ParseWindow(m.Window)
		times.window = window
		return times, err
	}
	if m.Length < muteLengthMin || m.Length > muteLengthMax {
		return MuteTimes{}, fmt.Errorf("length is %s; write 1m to 15d: a mute that is forgotten must not last for ever", m.Length)
	}
	var err error
	if times.kind == "cron" {
		times.cron, err = ParseCron(m.Cron, time.UTC)
		return times, err
	}
	if times.at, err = time.Parse(time.RFC3339, m.At); err != nil {
		err = fmt.Errorf("%q is not a time; write one such as 2026-12-24T18:00:00+01:00", m.At)
	}
	return times, err
}

// Until returns when the mute that is in force at now ends, and whether one is. Where one begins before another has ended, the end is that of
// the first.
func (t MuteTimes) Until(now time.Time) (time.Time, bool) {
	begin := t.at
	switch t.kind {
	case "window":
		return t.window.Closes(now), t.window.Contains(now)
	case "cron":
		begin = t.cron.Next(now.Add(-t.length))
	}
	end := begin.Add(t.length)
	return end, !begin.IsZero() && !begin.After(now) && now.Before(end)
}

func (c *checker) mutes() {
	alarms := append(names(c.service.Alarms, func(a Alarm) string { return a.Name }), names(c.service.Composites, func(a Composite) string { return a.Name })...)
	for _, mute := range c.service.Mutes {
		path := "mutes." + mute.Name
		if _, err := mute.Times(); err != nil {
			c.mistake(path, "%v", err)
		}
		if len(mute.Alarms) > muteAlarmsMax {
			c.mistake(path+".alarms", "%d alarms; %d is the most", len(mute.Alarms), muteAlarmsMax)
		}
		for i, alarm := range mute.Alarms {
			if alarm != "*" && !slices.Contains(alarms, alarm) {
				c.mistake(fmt.Sprintf("%s.alarms[%d]", path, i), "no alarm %q; %s", alarm, Suggest(alarm, alarms))
			}
		}
	}
}
