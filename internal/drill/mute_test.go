package drill

import (
	"strings"
	"testing"
	"time"
)

func TestMutesHoldAtTheirTimes(t *testing.T) {
	at := func(text string) time.Time {
		moment, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return moment
	}
	night := Mute{Cron: "0 2 * * SUN Europe/Berlin", Length: Seconds(2 * time.Hour)} // 01:00 to 03:00 UTC in winter
	once := Mute{At: "2026-12-24T18:00:00+01:00", Length: Seconds(6 * time.Hour)}
	weekend := Mute{Window: "Sat-Sun 00:00-24:00"}
	often := Mute{Cron: "0 * * * *", Length: Seconds(90 * time.Minute)} // begins anew before it ends
	for _, row := range []struct {
		mute  Mute
		now   string
		until string // "": not in force
	}{
		{night, "2026-11-29T00:59:59Z", ""}, {night, "2026-11-29T01:00:00Z", "2026-11-29T03:00:00Z"}, {night, "2026-11-29T02:59:59Z", "2026-11-29T03:00:00Z"},
		{night, "2026-11-29T03:00:00Z", ""}, {night, "2026-11-30T01:30:00Z", ""}, {night, "2026-07-05T00:30:00Z", "2026-07-05T02:00:00Z"},
		{once, "2026-12-24T16:59:59Z", ""}, {once, "2026-12-24T17:00:00Z", "2026-12-24T23:00:00Z"}, {once, "2026-12-24T23:00:00Z", ""},
		{weekend, "2026-11-27T23:59:59Z", ""}, {weekend, "2026-11-28T00:00:00Z", "2026-11-30T00:00:00Z"}, {weekend, "2026-11-30T00:00:00Z", ""},
		{often, "2026-11-29T01:15:00Z", "2026-11-29T01:30:00Z"}, {often, "2026-11-29T01:45:00Z", "2026-11-29T02:30:00Z"},
	} {
		times, err := row.mute.Times()
		if err != nil {
			t.Fatal(err)
		}
		until, in := times.Until(at(row.now))
		if in != (row.until != "") || (in && !until.Equal(at(row.until))) {
			t.Errorf("%+v at %s: %t until %s; want %q", row.mute, row.now, in, until, row.until)
		}
	}
	for want, mute := range map[string]Mute{
		"exactly one of cron":    {},
		"exactly one of cron, a": {Cron: "0 2 * * *", At: "2026-12-24T18:00:00Z", Length: Seconds(time.Hour)},
		"leave length out":       {Window: "Sat 00:00-24:00", Length: Seconds(time.Hour)},
		"length is 0s":           {Cron: "0 2 * * *"},
		"1m to 15d":              {At: "2026-12-24T18:00:00Z", Length: Seconds(16 * 24 * time.Hour)},
		"is not cron":            {Cron: "often", Length: Seconds(time.Hour)},
		"is not a time":          {At: "tomorrow", Length: Seconds(time.Hour)},
		"is not a window":        {Window: "25:00"},
	} {
		if _, err := mute.Times(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", mute, err, want)
		}
	}
}
