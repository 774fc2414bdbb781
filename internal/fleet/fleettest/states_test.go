package fleettest

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/tether/tethertest"
	dash "firedrill/internal/web"
)

// alarmsOf are many alarms in every state, with what alarms say at their longest.
func alarmsOf(count int) []dash.Alarm {
	all := make([]dash.Alarm, count)
	for i := range all {
		all[i] = dash.Alarm{Region: "eu-central-1", Name: fmt.Sprintf("web%03d-db-connectivity-failed", i), State: []string{"OK", "OK", "ALARM", "OK", "INSUFFICIENT_DATA"}[i%5], Since: time.Date(2026, 11, 29, 10, i%60, 0, 0, time.UTC),
			Reason: "Threshold Crossed: 2 out of the last 2 datapoints [0.0 (29/11/26 10:00:00), 0.4 (29/11/26 09:59:55)] were less than the threshold (1.0) (minimum 2 datapoints for OK -> ALARM transition)."}
	}
	return all
}

func TestPagesWithMuchOnThemInABrowser(t *testing.T) {
	t.Parallel()
	alarms := alarmsOf(250)
	d := newDashboard(t, func(o *dash.Options, _ *control.Options) {
		o.Provider = &dash.Provider{Name: "the works", Issuer: "https://id.example.test", Client: "firedrill", Secret: "s", Address: "https://dashboard.example.test"}
		o.Alarms = func() ([]dash.Alarm, error) { return alarms, nil }
		o.Standings = func() []dash.Standing {
			at := time.Date(2026, 10, 1, 9, 0, 0, 0, time.UTC)
			return []dash.Standing{
				{Service: "s0", Stage: 3, NextItem: "An automatic drill on each critical dependency in production: no drill on it passed in a run by a pipeline or a schedule, with tier: production", Next: at.AddDate(0, 3, 0), What: "lose-db",
					Books: []dash.Playbook{{File: "playbooks/database.md", For: "db", Missing: []string{"operations", "security"}, Executable: 6, Steps: 8}, {File: "playbooks/cdn.md", For: "cdn", Agreed: at, Expires: at.AddDate(1, 0, 0), Executable: 2, Steps: 2}}},
				{Service: "s1/firedrill.yaml", Problem: "firedrill.yaml:12:3: alarms: there is no metric db-connectivty; did you mean db-connectivity?"},
			}
		}
	})
	const services, entries = 4, 110
	for i := range services {
		for j, environment := range []string{"blue", "green"} {
			d.join(fmt.Sprintf("a-host-with-a-rather-long-name-%d-%d", i, j), map[string]string{"service": fmt.Sprint("s", i), "environment": environment}, nil)
		}
	}
	d.must("putservice", fleet.PutService{Text: strings.NewReplacer("service: shop", "service: s0", "drills:\n", "drills:\n  lose-db:\n    cadence: 28d\n    on: idle environment\n    attack: {cpu: {length: 1s}}\n    expect: [answer stays]\n").Replace(stageFile)}, nil)
	for i := range entries {
		d.must("schedule", fleet.ScheduleRequest{Name: fmt.Sprintf("weekly-%03d", i), Cron: "0 10 * * TUE Europe/Berlin", Window: "Mon-Fri 09:00-15:00 Europe/Berlin", Drill: &fleet.DrillRequest{Service: "s0", Drill: "lose-db"}}, nil)
	}
	started := time.Date(2025, 3, 1, 10, 0, 0, 0, time.UTC)
	if err := d.control.KeepRecord(t.Context(), fleet.Record{ID: "20250301T100000Z-000001", Service: "s0", Outcome: "failed", NotReverted: true, Reason: "drill lose-db on green: the impact is not proven to be gone on web2", Started: started, Finished: started.Add(time.Minute), Steps: []fleet.RecordStep{{Name: "lose-db on green", Kind: "drill", Outcome: "failed"}}}); err != nil {
		t.Fatal(err)
	}
	for i := range 250 {
		d.control.Record("refused a log-in of %q from 192.0.2.%d: the password is wrong", "karl", i)
	}
	for i := range services {
		d.mustAttack("cpu", "600", fmt.Sprintf("a-host-with-a-rather-long-name-%d-0", i))
	}
	b := newBrowser(d)
	b.open("/login")
	b.says("Log in with the works")
	b.picture("login-provider")
	b.login("ada")
	for _, page := range []struct {
		name, path string
		says       []string
	}{
		{"front-much", "/", []string{"1 more run going on", "drills due"}},
		{"alarms-much", "/alarms", []string{"50 of 250 raised", "web002-db", "More"}},
		{"alarms-second", "/alarms?after=100", []string{"First", "More"}},
		{"alarms-narrowed", "/alarms?name=web00&state=ALARM", []string{"2 shown", "web002-db", "web007-db"}},
		{"alarms-no-fit", "/alarms?name=nothing", []string{"No alarm fits."}},
		{"playbooks-much", "/playbooks", []string{"operations, security", "6 of 8"}},
		{"services-much", "/services", []string{"3 of 5", "overdue", "5 services"}},
		{"services-failed", "/services?verdict=failed", []string{"1 service\n"}},
		{"service-standing", "/services/s0", []string{"3 of 5", "98 on the schedule", "not reverted"}},
		{"service-problem", "/services/s1%2Ffiredrill.yaml", []string{"did you mean db-connectivity?"}},
		{"schedule-much", "/schedule", []string{"weekly-099", "110 entries", "overdue"}},
		{"schedule-second", "/schedule?after=weekly-0990", []string{"weekly-100", "First"}},
		{"schedule-narrowed", "/schedule?name=weekly-10", []string{"10 entries"}},
		{"drills-with-file", "/drills?service=s0", []string{"lose-db", "No drills."}},
		{"runs-going", "/runs?state=running", []string{"running"}},
		{"runs-no-fit", "/runs?kind=nothing", []string{"No runs."}},
		{"hosts-no-fit", "/fleet/hosts?name=nothing", []string{"No host fits."}},
		{"fleet-much", "/fleet", []string{"4\nattacked"}},
		{"audit-much", "/audit", []string{"192.0.2.249", "Older"}},
		{"audit-found", "/audit?q=192.0.2.17%3A", []string{"192.0.2.17:"}},
		{"audit-nothing", "/audit?q=no+such+words", []string{"No line holds it."}},
		{"settings-admin", "/settings", []string{"bella", "People with a key"}},
	} {
		b.open(page.path)
		b.says(page.says...)
		b.picture(page.name)
	}
}

func TestAFullDiskIsSaidInABrowser(t *testing.T) {
	t.Parallel()
	if !tethertest.Apart(t) {
		return
	}
	volume := small(t)
	d := newDashboard(t, func(_ *dash.Options, o *control.Options) { o.Directory = filepath.Join(volume, "fleet") })
	h := d.join("web1", web1Tags("blue"), nil)
	d.join("web2", web1Tags("green"), nil)
	b := newBrowser(d)
	b.login("vera")
	d.begun("300", "web1")
	d.await("the impact", h.inForce)
	makeRoom := fill(t, volume)
	number := 0
	d.await("a refusal", func() error {
		if err := d.freeze(number, patience); err == nil {
			number++
			return errors.New("it keeps everything")
		}
		return d.keepsAll()
	})
	b.says("The server keeps nothing.", "Make room on its disk") // the page says so by itself
	b.picture("disk-full")
	b.do("halt all the same", chromedp.Click("a.halt"), chromedp.WaitVisible("#reason"), chromedp.Click("button.big"))
	b.says("a restart of the server would forget the lever")
	b.picture("disk-full-halted")
	if h.hit() {
		t.Error("a full disk stops a halt")
	}
	makeRoom()
	b.open("/")
	d.await("the bar goes by itself", func() error {
		there, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](`document.body.innerText.includes("The server keeps nothing.")`))
		if err == nil && there {
			err = errors.New("it is there")
		}
		return err
	})
}

// keepsAll is nil when the server knows that it keeps nothing.
func (w *world) keepsAll() error {
	if w.control.Problem() == nil {
		return errors.New("it does not know that it keeps nothing")
	}
	return nil
}
