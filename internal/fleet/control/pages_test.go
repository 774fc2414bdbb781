package control

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/history"
	"firedrill/internal/schedule"
)

// TestWhatIsDecidedOfTheScheduleIsWhatItWouldBeNow has a clock that goes on and now and then back, entries that are carried out or changed, and
// freezes that come and go, and asks each time for what is decided anew.
func TestWhatIsDecidedOfTheScheduleIsWhatItWouldBeNow(t *testing.T) {
	t.Parallel()
	differs := func(planted bool) (stale, kept int) {
		c := &Control{decided: map[string]decided{}}
		c.options.Unmoved = planted
		random := rand.New(rand.NewPCG(7, 11))
		now := time.Date(2026, 3, 28, 20, 0, 0, 0, time.UTC) // the clocks are put forward that night
		one := fleet.Scheduled{ID: "1", Name: "weekly", Cron: "*/20 1-4 * * * Europe/Berlin", Window: "00:30-03:30 Europe/Berlin", Since: now, Done: now}
		var freezes []fleet.Freeze
		for range 3000 {
			switch random.IntN(40) {
			case 0:
				now = now.Add(-time.Duration(random.IntN(7200)) * time.Second)
			case 1:
				one.Cron = []string{"*/20 1-4 * * * Europe/Berlin", "*/7 * * * *", "0 2 * * SUN"}[random.IntN(3)]
			case 2:
				freezes = nil
				if random.IntN(2) == 0 {
					freezes = []fleet.Freeze{{Dates: now.Format(time.DateOnly) + ".." + now.AddDate(0, 0, 1).Format(time.DateOnly)}}
				}
			case 3:
				one.Window = []string{"", "00:30-03:30 Europe/Berlin"}[random.IntN(2)]
			default:
				now = now.Add(time.Duration(random.IntN(300)) * time.Second)
			}
			got, err := c.decide(one, freezes, now)
			if err != nil {
				t.Fatal(err)
			}
			entry, err := c.entryOf(one, freezes)
			if err != nil {
				t.Fatal(err)
			}
			want := schedule.Decide([]schedule.Entry{entry}, now, stateOf(one))
			if saidOf(got) != saidOf(want) {
				stale++
			}
			if c.decided[one.ID].from.Before(now) {
				kept++
			}
			for _, due := range append(slices.Clone(want.Due), want.Missed...) {
				if due.Moment.After(one.Done) && random.IntN(2) == 0 { // the other half is busy, and asks again
					one.Done = due.Moment
				}
			}
		}
		return stale, kept
	}
	stale, kept := differs(false)
	if stale > 0 {
		t.Errorf("%d of 3000 answers are not those of now", stale)
	}
	if kept < 300 {
		t.Errorf("%d of 3000 answers were known: nothing is gained", kept)
	}
	if stale, _ := differs(true); stale == 0 {
		t.Error("a decision that stands whatever is changed is not caught")
	}
}

// saidOf is a decision without its entries.
func saidOf(d schedule.Decision) string {
	text := ""
	for _, due := range append(slices.Clone(d.Due), d.Missed...) {
		text += fmt.Sprintln(due.Moment, due.Start, due.Why)
	}
	for _, status := range d.Statuses {
		text += fmt.Sprintln(status.Next.UTC(), status.Why)
	}
	return text
}

// TestTheLatestRunsAreThoseThatALookThroughAllFinds asks for the latest runs of services and hosts while runs come, in any order, and are removed.
func TestTheLatestRunsAreThoseThatALookThroughAllFinds(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "fleet")
	c := open(t, directory, nil)
	random := rand.New(rand.NewPCG(3, 5))
	const runs, services = 150, 3
	put := func(c *Control, number int) {
		t.Helper()
		run := fleet.Run{ID: fmt.Sprintf("%08d-run", number), State: fleet.RunEnded, Services: []string{fmt.Sprint("s", number%services)}, Hosts: []fleet.RunHost{{Name: fmt.Sprint("h", number%(services+1)), Order: fmt.Sprint("o", number)}}}
		if err := c.runs.put(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
	check := func(c *Control, when string) {
		t.Helper()
		for i := range services + 1 {
			service, host := fmt.Sprint("s", i), fmt.Sprint("h", i)
			for _, count := range []int{1, 12, latestMax, latestMax + 5} {
				wanted, _ := c.Runs("", count, func(run fleet.Run) bool { return slices.Contains(run.Services, service) })
				if got := c.RunsOf(service, count); fmt.Sprint(got) != fmt.Sprint(wanted) {
					t.Errorf("%s: %d of %s are %v, not %v", when, count, service, got, wanted)
				}
				wanted, _ = c.Runs("", count, func(run fleet.Run) bool { return run.Hosts[0].Name == host })
				if got := c.RunsOn(host, count); fmt.Sprint(got) != fmt.Sprint(wanted) {
					t.Errorf("%s: %d on %s are %v, not %v", when, count, host, got, wanted)
				}
			}
		}
	}
	check(c, "without runs")
	numbers := random.Perm(runs)
	for i, number := range numbers {
		put(c, number)
		if i == latestMax || i == runs/2 {
			check(c, "while they come")
		}
	}
	check(c, "when all have come")
	for i, number := range random.Perm(runs) {
		if i%3 > 0 {
			key := fmt.Sprintf("%08d-run", number)
			revision, err := c.runs.shelf.drop(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			c.runs.forget(gone{Key: key, Revision: revision})
		}
		if i == 10 || i == runs/2 {
			check(c, "while they are removed")
		}
	}
	check(c, "when most were removed")
	shut(t, c)
	c = open(t, directory, nil)
	check(c, "just after a start")
	for number := range latestMax * services {
		put(c, runs+number)
	}
	check(c, "after a start")
	shut(t, c)
}

// TestALookThroughTheAuditLogFindsWhatDecodedLinesHold compares what a line is left out for, before it is decoded, with what it says.
func TestALookThroughTheAuditLogFindsWhatDecodedLinesHold(t *testing.T) {
	t.Parallel()
	lines := []string{"otto orders cpu [\"-l\" \"60\"]", "Zoë halts everything", "an address <b> & c", "tab\there", "Kelvin K, dotless ı, İ", "back\\slash\\u0041", "OTTO ORDERS", "", "new\nline", "\u2028"}
	var written [][]byte
	for _, text := range lines {
		line, err := json.Marshal(history.New(time.Unix(1, 0), "control", &history.Note{Text: text}))
		if err != nil {
			t.Fatal(err)
		}
		written = append(written, line)
	}
	needles := []string{"", "otto", "OTTO orders", "ë", "zoë", "k", "K", "<b>", "&", "\"-l\"", "cpu [", "i", "ı", "İ", "tab\t", "\\", "slash", "u0041", "A", "u", "n", "\n", "b", "control", "nothing of these"}
	left := 0
	for _, needle := range needles {
		lacks := lacksText(needle)
		for i, text := range lines {
			holds := strings.Contains(strings.ToLower(text), strings.ToLower(needle))
			lacking := lacks(written[i])
			if holds && lacking {
				t.Errorf("%q holds %q, and is left out", text, needle)
			}
			if lacking {
				left++
			}
		}
	}
	if left == 0 {
		t.Error("nothing is left out: every line is decoded")
	}
}

// TestALookGoesOnWhereItStopped finds each of a few among many, however little one look looks at.
func TestALookGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	const all, most = 5000, 300
	n := &names{}
	for i := range all {
		n.insert(fmt.Sprintf("%05d", i))
	}
	get := func(name string) (string, bool) { return name, name[4] != '1' } // some are gone meanwhile
	for _, every := range []int{1, 7, 100, 1000, 2 * all} {
		fits := func(name string) bool {
			number, err := strconv.Atoi(name)
			return err == nil && number%every == 3
		}
		wanted := newest(n, get, "", all, fits)
		for _, count := range []int{1, 51} {
			var got []string
			before, looks := "", 0
			for ; looks < 2*all; looks++ {
				found, rest := look(n, get, before, count, most, fits)
				got = append(got, found...)
				if before = rest; len(found) == count {
					before = found[count-1]
				}
				if before == "" {
					break
				}
			}
			if !slices.Equal(got, wanted) {
				t.Errorf("one in %d, %d at a time: %d of %d in %d looks", every, count, len(got), len(wanted), looks)
			}
		}
	}
}

// TestHostsAreListedByName has names that are the beginnings of others: a page that goes on after one must not leave hosts out.
func TestHostsAreListedByName(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fleet"), nil)
	defer func() { shut(t, c) }()
	var wanted []string
	for _, name := range []string{"web", "web1", "web10", "web100", "web11", "web2"} {
		wanted = append(wanted, name)
		if err := c.members.put(t.Context(), "U"+name, fleet.Member{Key: "U" + name, Name: name, Role: fleet.RoleAgent}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, host := range c.Hosts() {
		got = append(got, host.Name)
	}
	if !slices.Equal(got, wanted) {
		t.Errorf("%v, not %v", got, wanted)
	}
}
