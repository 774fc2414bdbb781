package drill

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

// momentCases are days on which clocks were moved, and other days on which calendars are wrong in programs.
var momentCases = []struct{ name, cron, after, want string }{
	{"a plain Tuesday", "0 10 * * TUE Europe/Berlin", "2026-11-23T00:00:00Z", "2026-11-24T10:00:00+01:00 2026-12-01T10:00:00+01:00"},
	{"spring in Berlin: 02:30 is left out and comes an hour later", "30 2 * * * Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T03:30:00+02:00 2026-03-30T02:30:00+02:00"},
	{"spring in Berlin: 10:00 is an hour sooner in UTC", "0 10 * * * Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-28T10:00:00+01:00 2026-03-29T10:00:00+02:00"},
	{"autumn in Berlin: 02:30 comes once", "30 2 * * * Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00"},
	{"autumn in Berlin: asked between the two 02:30", "30 2 * * * Europe/Berlin", "2026-10-25T02:45:00+02:00", "2026-10-26T02:30:00+01:00 2026-10-27T02:30:00+01:00"},
	{"autumn in Berlin: the hour after it comes", "0 * * * * Europe/Berlin", "2026-10-25T01:30:00+02:00", "2026-10-25T02:00:00+02:00 2026-10-25T03:00:00+01:00 2026-10-25T04:00:00+01:00"},
	{"spring in New York", "30 2 * * * America/New_York", "2027-03-13T12:00:00Z", "2027-03-14T03:30:00-04:00 2027-03-15T02:30:00-04:00"},
	{"autumn in New York: 01:30 comes once", "30 1 * * * America/New_York", "2027-11-06T12:00:00Z", "2027-11-07T01:30:00-04:00 2027-11-08T01:30:00-05:00"},
	{"spring in New York: asked after the leap", "30 2 * * * America/New_York", "2027-03-14T03:10:00-04:00", "2027-03-14T03:30:00-04:00 2027-03-15T02:30:00-04:00"},
	{"spring in New York: asked when it has come", "30 2 * * * America/New_York", "2027-03-14T03:30:00-04:00", "2027-03-15T02:30:00-04:00"},
	{"half an hour is moved on Lord Howe", "45 1 * * * Australia/Lord_Howe", "2026-04-04T00:00:00+11:00", "2026-04-04T01:45:00+11:00 2026-04-05T01:45:00+11:00 2026-04-06T01:45:00+10:30"},
	{"leap day", "0 12 29 2 * UTC", "2026-01-01T00:00:00Z", "2028-02-29T12:00:00Z 2032-02-29T12:00:00Z"},
	{"day of the month or of the week, as in crontab(5)", "0 0 13 * FRI UTC", "2026-11-10T00:00:00Z", "2026-11-13T00:00:00Z 2026-11-20T00:00:00Z"},
	{"the turn of a year", "0 0 1 1 * UTC", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z 2028-01-01T00:00:00Z"},
}

// moments lists as many moments as are wanted, and says in what they differ from that.
func moments(t *testing.T, next func(time.Time) time.Time, after, want string) string {
	t.Helper()
	var got []string
	moment := at(t, after)
	for range strings.Fields(want) {
		moment = next(moment)
		got = append(got, moment.Format(time.RFC3339))
	}
	return cmp.Diff(strings.Fields(want), got)
}

func TestMomentsFollowTheClockOnTheWall(t *testing.T) {
	for _, test := range momentCases {
		when, err := ParseCron(test.cron, time.UTC)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := moments(t, when.Next, test.after, test.want); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
	}
}

// The planted bugs: a schedule in UTC, and one that runs what comes twice twice. Both must be found by the table.
func TestMomentsThatIgnoreTheClockOnTheWallAreCaught(t *testing.T) {
	bugs := map[string]func(Cron) func(time.Time) time.Time{
		"reads the fields in UTC": func(when Cron) func(time.Time) time.Time {
			inUTC, err := ParseCron(when.text, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			return inUTC.Next
		},
		"runs the hour that comes twice twice": func(when Cron) func(time.Time) time.Time {
			return func(after time.Time) time.Time { return when.when.Next(after.In(when.zone)) }
		},
	}
	for name, plant := range bugs {
		caught := 0
		for _, test := range momentCases {
			when, err := ParseCron(test.cron, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			if moments(t, plant(when), test.after, test.want) != "" {
				caught++
			}
		}
		if caught == 0 {
			t.Errorf("%s: not caught", name)
		}
	}
}

func TestWindowsOpenByTheClockOnTheWall(t *testing.T) {
	for _, test := range []struct {
		window, at string
		open       bool
	}{
		{"Mon-Fri 09:00-15:00 Europe/Berlin", "2026-11-24T09:00:00+01:00", true},
		{"Mon-Fri 09:00-15:00 Europe/Berlin", "2026-11-24T08:59:59+01:00", false},
		{"Mon-Fri 09:00-15:00 Europe/Berlin", "2026-11-24T15:00:00+01:00", false},
		{"Mon-Fri 09:00-15:00 Europe/Berlin", "2026-11-24T14:59:59+01:00", true},
		{"Mon-Fri 09:00-15:00 Europe/Berlin", "2026-11-22T10:00:00+01:00", false}, // Sunday
		{"Mon-Fri 09:00-15:00 Europe/Berlin", "2026-07-01T07:00:00Z", true},       // 09:00 in summer
		{"Mon-Fri 09:00-15:00 Europe/Berlin", "2026-12-01T07:30:00Z", false},      // 08:30 in winter
		{"22:00-04:00 UTC", "2026-11-24T23:00:00Z", true},
		{"22:00-04:00 UTC", "2026-11-24T03:59:00Z", true},
		{"22:00-04:00 UTC", "2026-11-24T04:00:00Z", false},
		{"Fri 22:00-04:00", "2026-11-28T03:00:00Z", true},  // of Friday
		{"Fri 22:00-04:00", "2026-11-27T03:00:00Z", false}, // of Thursday
		{"Sat-Mon 00:00-24:00", "2026-11-22T12:00:00Z", true},
		{"Sat-Mon 00:00-24:00", "2026-11-24T12:00:00Z", false},
		{"02:15-02:45 Europe/Berlin", "2026-10-25T02:30:00+01:00", true}, // the second 02:30 of that night
		{"", "2026-11-24T04:00:00Z", true},
	} {
		window, err := ParseWindow(test.window)
		if err != nil {
			t.Errorf("%s: %v", test.window, err)
			continue
		}
		if got := window.Contains(at(t, test.at)); got != test.open {
			t.Errorf("%q at %s: open %t, want %t", test.window, test.at, got, test.open)
		}
	}
}

func TestWindowsSayWhenTheyOpenAndClose(t *testing.T) {
	window, err := ParseWindow("Mon-Fri 09:00-15:00 Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := window.Opens(at(t, "2026-11-20T15:00:00+01:00")), at(t, "2026-11-23T09:00:00+01:00"); !got.Equal(want) {
		t.Errorf("opens %s, want %s", got, want)
	}
	if got, want := window.Closes(at(t, "2026-11-20T10:00:30+01:00")), at(t, "2026-11-20T15:00:00+01:00"); !got.Equal(want) {
		t.Errorf("closes %s, want %s", got, want)
	}
	// Over the night on which clocks go forward: Monday's opening is an hour sooner in UTC.
	if got, want := window.Opens(at(t, "2026-03-28T12:00:00+01:00")), at(t, "2026-03-30T09:00:00+02:00"); !got.Equal(want) {
		t.Errorf("opens %s, want %s", got, want)
	}
}

func TestFreezesHoldBothDates(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	freeze, err := ParseFreeze("2026-12-18..2027-01-04", berlin)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"2026-12-17T23:59:59+01:00": false, "2026-12-17T23:00:00Z": true, "2026-12-18T00:00:00+01:00": true,
		"2027-01-04T23:59:59+01:00": true, "2027-01-05T00:00:00+01:00": false, "2027-01-04T23:00:00Z": false,
	} {
		if got := freeze.Contains(at(t, text)); got != want {
			t.Errorf("%s: frozen %t, want %t", text, got, want)
		}
	}
	if got, want := freeze.Ends(), at(t, "2027-01-05T00:00:00+01:00"); !got.Equal(want) {
		t.Errorf("ends %s, want %s", got, want)
	}
}

func TestScheduleMistakesAreAnsweredWithTheirPlace(t *testing.T) {
	const head = "service: s\nendpoint: http://s.example.test/\nenvironments:\n  blue: {hosts: [{name: a, address: 10.0.0.1}]}\n" +
		"drills:\n  lose-host: {attack: {shutdown: {reboot: true}}, expect: [answer stays]}\npipeline: [drill lose-host]\nschedule:\n  - "
	for entry, want := range map[string]string{
		`{drill: lose-host, cron: "0 10 * * TUE", window: "Mon-Fri 09:00-15:00 Europe/Berlin", freeze: [2026-12-18..2027-01-04], jitter: 30m, catch_up: 2h}`: "",
		`{pipeline: true, cron: "0 10 * * TUE Europe/Berlin", catch_up: never}`:                                                                              "",
		`{drill: lose-host on active, cron: "0 10 * * *"}`:                                                                                                   "",
		`{drill: lose-hots, cron: "0 10 * * TUE"}`:                                                                                                           `:9:13: schedule[0].drill: no drill "lose-hots"`,
		`{cron: "0 10 * * TUE"}`:                                                                 "exactly one of drill: NAME and pipeline: true",
		`{drill: lose-host, pipeline: true, cron: "0 10 * * TUE"}`:                               "exactly one of",
		`{drill: lose-host, cron: "0 10 * *"}`:                                                   `:9:30: schedule[0].cron: "0 10 * *" is not cron`,
		`{drill: lose-host, cron: "61 10 * * *"}`:                                                "is not cron",
		`{drill: lose-host, cron: "0 10 * * * Mars/Olympus"}`:                                    `"Mars/Olympus" is not a time zone`,
		`{drill: lose-host, cron: "0 10 * * * Local"}`:                                           `"Local" is not a time zone`,
		`{drill: lose-host, cron: "0 10 30 2 *"}`:                                                "never comes",
		`{drill: lose-host, cron: "* * * * *"}`:                                                  "5m0s is the least",
		`{drill: lose-host, cron: "0 10 * * SAT", window: "Mon-Fri 09:00-15:00"}`:                "never comes while the window Mon-Fri 09:00-15:00 is open",
		`{drill: lose-host, cron: "0 8 * * *", window: "09:00-15:00", catch_up: 2h}`:             "",
		`{drill: lose-host, cron: "0 10 * * *", window: "Mon-Fry 09:00-15:00"}`:                  `:9:52: schedule[0].window: "Mon-Fry" are not days`,
		`{drill: lose-host, cron: "0 10 * * *", window: "9-15"}`:                                 "not days",
		`{drill: lose-host, cron: "0 10 * * *", freeze: [2026-12-18..2026-12-17]}`:               "ends before it begins",
		`{drill: lose-host, cron: "0 10 * * *", freeze: [christmas]}`:                            "is not a span of dates",
		`{drill: lose-host, cron: "0 10 * * *", jitter: 13h}`:                                    "12h is the most",
		`{drill: lose-host, cron: "0 10 * * *", catch_up: always}`:                               "neither never nor a duration",
		`{drill: lose-host, cron: "0 10 * * *", when: now}`:                                      "unknown field",
		"{drill: lose-host, cron: \"0 10 * * *\"}\n  - {drill: lose-host, cron: \"0 10 * * *\"}": "stands above already",
	} {
		_, err := ParseService([]byte(head+entry+"\n"), "f.yaml")
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", entry, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", entry, err, want)
		}
	}
}

func FuzzCalendar(f *testing.F) {
	for _, test := range momentCases {
		f.Add(test.cron, "Mon-Fri 09:00-15:00 Europe/Berlin", "2026-12-18..2027-01-04")
	}
	f.Fuzz(func(t *testing.T, cronText, windowText, freezeText string) {
		from := time.Date(2026, time.October, 24, 0, 0, 0, 0, time.UTC)
		if when, err := ParseCron(cronText, time.UTC); err == nil {
			// However near one asks, the answer is the same.
			if first := when.Next(from); !first.IsZero() && !when.Next(first.Add(-time.Second)).Equal(first) {
				t.Errorf("%q: %s comes, and a second before it does not", cronText, first)
			}
			if next := when.Next(from); !next.IsZero() && !next.After(from) {
				t.Errorf("%q: %s is not after %s", cronText, next, from)
			}
		}
		if window, err := ParseWindow(windowText); err == nil {
			if opens := window.Opens(from); !opens.IsZero() && !window.Contains(opens) {
				t.Errorf("%q opens at %s and is closed then", windowText, opens)
			}
		}
		if freeze, err := ParseFreeze(freezeText, time.UTC); err == nil && freeze.Contains(freeze.Ends()) {
			t.Errorf("%q goes on after its end", freezeText)
		}
	})
}
