package fleettest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/guard"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	dash "firedrill/internal/web"
)

// stageFile is a service on hosts of a world, where an attack is a process that holds a file.
const stageFile = `service: shop
endpoint: http://shop.test/
environments:
  blue:  {hosts: [{name: web1, address: 10.0.0.1}]}
  green: {hosts: [{name: web2, address: 10.0.0.2}]}
clients:
  here: {every: 100ms, timeout: 500ms}
watch: {url: "http://127.0.0.1:1"}
metrics:
  busy: {from: each host, heartbeat: true}
alarms:
  "{host}-busy": {metric: busy, average: "< 1", period: 1s, datapoints: 1 of 1}
failover:
  shop.test: {servers: [127.0.0.1], primary: blue, secondary: green, unhealthy_when: ["{host}-busy"]}
drills:
  busy:
    on: idle environment
    attack: {cpu: {length: 2s}}
    steady_for: 200ms
    steady_within: 30s
    expect: ['alarm "{host}-busy" within 30s', answer stays]
  for-long:
    on: idle environment
    attack: {cpu: {length: 600s}}
    steady_for: 200ms
    steady_within: 30s
    expect: [answer stays]
`

// stagehand conducts drills in a world: the conductor, the verdict and the hands are real; what clients, alarms and name servers show is played.
type stagehand struct{ quiet bool }

func (stagehand) Plan(_ context.Context, service drill.Service, request fleet.DrillRequest) (drill.Plan, error) {
	return drill.Compile(service, drill.Facts{Live: "blue", Kinds: kinds.Describe(), File: service.Name, Seed: 1}, []string{request.Item()})
}

func (stagehand) Unfit(context.Context, drill.Service) string { return "" }

func (s stagehand) Conduct(ctx context.Context, job control.Job) (control.End, error) {
	if err := os.MkdirAll(job.Directory, 0o755); err != nil {
		return control.End{}, err
	}
	file, err := os.Create(filepath.Join(job.Directory, control.LogName))
	if err != nil {
		return control.End{}, err
	}
	defer file.Close()
	writer := history.NewWriter(file)
	log, err := conductor.Run(ctx, conductor.Options{Plan: job.Plan, Crew: &cast{hands: job.Hands, quiet: s.quiet, plan: job.Plan}, Log: writer, Source: "control",
		Started: history.RunStarted{Run: job.Drill.ID, Operator: job.Drill.By, Trigger: job.Drill.Trigger},
		GUID:    func(int, string) string { return uuid.Must(uuid.NewV7()).String() }, Decided: verdict.Decided,
		Judge: func(plan drill.Plan, log []history.Event, step int) (history.Outcome, string) {
			judged := verdict.JudgeStep(plan, log, step)
			return judged.Outcome, judged.Reason
		}})
	judged := verdict.Judge(job.Plan, log)
	text, encodeErr := json.Marshal(judged)
	end := control.End{}
	_, end.Head = writer.Head()
	err = errors.Join(err, encodeErr, json.Unmarshal(text, &end.Record))
	end.Record.ID = job.Drill.Result
	return end, err
}

// cast is a crew whose hands reach the hosts of a world.
type cast struct {
	conductor.Crew // what is not played panics, and a drill needs none of it
	hands          *control.Hands
	quiet          bool // no alarm is ever raised
	plan           drill.Plan

	mu  sync.Mutex // guards hit
	hit string
}

func (c *cast) Inspect(ctx context.Context, host drill.Host) history.Inspected {
	looked, _, err := c.hands.Look(ctx, host.Name, "")
	if err != nil {
		return history.Inspected{Host: host.Name, Error: err.Error()}
	}
	return history.Inspected{Host: host.Name, Healthy: true, InForce: looked.InForce}
}

func (c *cast) Attack(ctx context.Context, host drill.Host, order drill.Order, guid string, emit func(history.Event)) error {
	defer c.strike("")
	_, err := c.hands.Attack(ctx, host.Name, order, guid, func(event history.Event) {
		if _, in := event.Fact.(*history.AttackInForce); in {
			c.strike(host.Name)
		}
		emit(event)
	})
	return err
}

func (c *cast) strike(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hit = host
}

func (c *cast) Observe(ctx context.Context, emit func(history.Event)) error {
	var places sync.WaitGroup
	defer places.Wait()
	for _, client := range c.plan.Clients {
		if client.Agent != "" {
			places.Go(func() {
				if err := c.hands.Sample(ctx, control.AgentClient{Client: client, URL: c.plan.Endpoint}, emit); err != nil {
					emit(history.New(time.Now(), "control", &history.Note{Text: "client " + client.Name + ": " + err.Error()}))
				}
			})
		}
	}
	say := func(fact history.Fact) { emit(history.New(time.Now(), "watch", fact)) }
	say(&history.Host{Host: guard.WatchHost, Up: true})
	states := map[string]string{}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		c.mu.Lock()
		hit := c.hit
		c.mu.Unlock()
		for _, host := range []string{"web1", "web2"} {
			state := history.AlarmOK
			if host == hit && !c.quiet {
				state = history.AlarmRaised
			}
			say(&history.Host{Host: host, Up: true})
			if states[host] != state {
				say(&history.Alarm{Name: host + "-busy", From: states[host], To: state})
				states[host] = state
			}
		}
		say(&history.Answer{Name: "shop.test", Server: "127.0.0.1", Addresses: []string{"10.0.0.1"}})
		emit(history.New(time.Now(), "control", &history.Sample{Probe: "here", Scheduled: time.Now(), OK: true}))
	}
	return ctx.Err()
}

// newStage is a dashboard whose server conducts drills, with the hosts of a shop.
func newStage(t *testing.T, change func(*control.Options), hosts ...string) *dashboard {
	t.Helper()
	d := newDashboard(t, func(_ *dash.Options, o *control.Options) {
		o.Conductor = stagehand{}
		if change != nil {
			change(o)
		}
	})
	for i, host := range hosts {
		d.join(host, map[string]string{"service": "shop", "environment": []string{"blue", "green"}[i%2]}, nil)
	}
	d.must("putservice", fleet.PutService{Text: stageFile}, nil)
	return d
}

func (w *world) drill(name string) (fleet.DrillRun, error) {
	var run fleet.DrillRun
	err := w.call("drill", fleet.DrillRequest{Service: "shop", Drill: name}, &run)
	return run, err
}

// drillEnded waits for the end of a drill.
func (w *world) drillEnded(id string) fleet.DrillRun {
	w.t.Helper()
	var run fleet.DrillRun
	w.await("the end of drill "+id, func() error {
		w.must("drillrun", id, &run)
		if !run.Done() {
			return errors.New(run.State)
		}
		return nil
	})
	return run
}

func TestADrillHoldsThePermitOfItsServiceToItsEnd(t *testing.T) {
	t.Parallel()
	for name, planted := range map[string]func(*control.Options){"": nil, "a permit is taken by writing it down": func(o *control.Options) { o.BlindPermits = true }} {
		t.Run(name, func(t *testing.T) {
			told := make(chan fleet.News, 8)
			d := newStage(t, func(o *control.Options) {
				o.Tell = func(_ context.Context, news fleet.News) error { told <- news; return nil }
				if planted != nil {
					planted(o)
				}
			}, "web1", "web2", "web3", "web4", "web5", "web6")
			run, err := d.drill("for-long")
			if err != nil {
				t.Fatal(err)
			}
			d.await("the impact", d.agents["web2"].inForce)
			// Within the limits: it is the permit alone that keeps this away.
			_, err = d.attack("cpu", "1", "web5")
			if refused := err != nil && strings.Contains(err.Error(), "drill "+run.ID) || err != nil && strings.Contains(err.Error(), run.ID); refused != (planted == nil) {
				t.Errorf("beside a drill of its service an attack is answered with: %v", err)
			}
			if planted != nil {
				return
			}
			if _, err := d.drill("busy"); drill.KindOf(err) != drill.Refused {
				t.Errorf("another drill on the same hosts: %v", err)
			}
			d.must("stopdrill", run.ID, nil)
			if run = d.drillEnded(run.ID); run.Outcome != "inconclusive" || run.Left || run.Stopped != "stopped by admin" || d.agents["web2"].hit() {
				t.Errorf("a drill that was stopped: %+v", run)
			}
			d.await("another drill after it", func() error { // its permit is given back a moment after its end is known
				run, err = d.drill("busy")
				return err
			})
			if run = d.drillEnded(run.ID); run.Outcome != "passed" {
				t.Errorf("%+v", run)
			}
			if records, _ := d.control.Records("shop", "", 10); len(records) != 2 || records[0].ID != run.Result || records[0].Outcome != "passed" {
				t.Errorf("the history has %+v", records)
			}
			for _, want := range []string{fleet.NewsUnknown, fleet.NewsOK} {
				if news := <-told; news.Service != "shop" || news.To != want {
					t.Errorf("told %+v, not %s", news, want)
				}
			}
		})
	}
}

func TestWhoMayDrillIsAskedBeforeAnything(t *testing.T) {
	t.Parallel()
	d := newStage(t, nil, "web1")
	d.join("web2", map[string]string{"service": "bank"}, nil)
	ask := func(by fleet.Member, call string, asked any) error {
		text, err := json.Marshal(asked)
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.control.Call(t.Context(), by, call, text)
		return err
	}
	operator := func(services, attacks []string) fleet.Member {
		return fleet.Member{Name: "otto", Role: fleet.RoleOperator, Services: services, Kinds: attacks}
	}
	request := fleet.DrillRequest{Service: "shop", Drill: "busy"}
	for name, row := range map[string]struct {
		by    fleet.Member
		call  string
		asked any
		says  string
	}{
		"a viewer":                {fleet.Member{Name: "vera", Role: fleet.RoleViewer}, "drill", request, "needs operator"},
		"a viewer with a file":    {fleet.Member{Name: "vera", Role: fleet.RoleViewer}, "putservice", fleet.PutService{Text: stageFile}, "needs operator"},
		"of another service":      {operator([]string{"bank"}, nil), "drill", request, "may attack bank alone"},
		"a file of another":       {operator([]string{"bank"}, nil), "putservice", fleet.PutService{Text: stageFile}, "may attack bank alone"},
		"of other kinds":          {operator(nil, []string{"io"}), "drill", request, "with io alone"},
		"a host of another":       {operator(nil, nil), "drill", request, `as a host of service "bank"`},
		"a drill that is not":     {operator(nil, nil), "drill", fleet.DrillRequest{Service: "shop", Drill: "nothing"}, "nothing"},
		"a service that is not":   {operator(nil, nil), "drill", fleet.DrillRequest{Service: "shoe", Drill: "busy"}, "no service file"},
		"a file that is none":     {operator(nil, nil), "putservice", fleet.PutService{Text: "service: shop"}, "endpoint"},
		"a program of the server": {operator(nil, nil), "drill", request, ""},
	} {
		if row.says == "" {
			if err := ask(row.by, "putservice", fleet.PutService{Text: stageFile + "probes:\n  own: {command: [id]}\n"}); err != nil {
				t.Fatal(err)
			}
			row.says = "the server runs none"
		}
		if err := ask(row.by, row.call, row.asked); err == nil || !strings.Contains(err.Error(), row.says) && !(name != "a program of the server" && strings.Contains(err.Error(), "the server runs none")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d.agents["web2"].hit() || len(d.control.Drills(1, nil)) > 0 {
		t.Error("something was begun")
	}
}

func TestAStopOfTheServerTakesADrillBack(t *testing.T) {
	t.Parallel()
	d := newStage(t, nil, "web1", "web2")
	run, err := d.drill("for-long")
	if err != nil {
		t.Fatal(err)
	}
	d.await("the impact", d.agents["web2"].inForce)
	d.stop()
	if d.agents["web2"].hit() {
		t.Error("something is in force")
	}
	d.admin.Close()
	d.start()
	if run = d.drillEnded(run.ID); run.Outcome != "inconclusive" || run.Stopped != "the server is being stopped" {
		t.Errorf("%+v", run)
	}
}

func TestADrillIsPutOnTheScheduleInTheDashboard(t *testing.T) {
	t.Parallel()
	d := newStage(t, nil, "web1", "web2")
	const page = "/services/shop/drill"
	form := func(change map[string]string) url.Values {
		values := url.Values{"drill": {"busy"}, "entry": {"weekly"}, "cron": {"0 10 * * TUE Europe/Berlin"}, "window": {"Mon-Fri 09:00-15:00 Europe/Berlin"}, "jitter": {"30m"}, "catch_up": {"2h"}, "do": {"schedule"}}
		for name, value := range change {
			values.Set(name, value)
		}
		return values
	}
	otto := d.as("otto")
	for name, row := range map[string]struct {
		change map[string]string
		says   string
	}{
		"no cron":   {map[string]string{"cron": "* * *"}, "five fields"},
		"no jitter": {map[string]string{"jitter": "soon"}, "is not a duration"},
		"too late":  {map[string]string{"catch_up": "30d"}, "at most"},
		"no such":   {map[string]string{"drill": "nothing"}, "has no drill"},
		"no name":   {map[string]string{"entry": ""}, "is no name"},
		"no window": {map[string]string{"window": "sometimes"}, "window"},
	} {
		if a := otto.post(page, page, form(row.change)); a.status != http.StatusBadRequest || !strings.Contains(a.text, row.says) {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	for _, name := range []string{"vera", "bella", "karl"} {
		want := map[string]int{"vera": http.StatusForbidden, "bella": http.StatusSeeOther, "karl": http.StatusSeeOther}[name] // bella may attack shop; what karl may not is refused when it is let go or begins
		if a := d.as(name).post(page, page, form(map[string]string{"entry": name})); a.status != want {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if a := otto.post(page, page, form(nil)); a.status != http.StatusSeeOther || a.to != "/schedule" {
		t.Fatalf("%d %s", a.status, a.text)
	}
	for _, one := range d.control.Scheduled(time.Now()) {
		if one.Name == "weekly" && one.Drill != nil && one.Leashed && one.By.Name == "otto" && one.Jitter.Duration() == 30*time.Minute && one.CatchUp.Duration() == 2*time.Hour && one.Drill.Drill == "busy" && one.Drill.Service == "shop" {
			return
		}
	}
	t.Errorf("%+v", d.control.Scheduled(time.Now()))
}

func TestADrillInTheBrowser(t *testing.T) {
	t.Parallel()
	d := newStage(t, nil, "web1", "web2")
	b := newBrowser(d)
	b.login("otto")
	b.open("/drills")
	b.picture("drills-none")
	b.open("/services/put?service=shop")
	b.picture("service-put")
	b.open("/services/shop")
	b.says("version 1 of the service file")
	b.do("choose", chromedp.Click(`a[href="/services/shop/drill?drill=for-long"]`), chromedp.WaitVisible(`select[name=drill]`))
	b.do("look", chromedp.Click(`button[value=look]`))
	b.says("drill for-long would attack web2", "expects: answer stays")
	b.picture("drill-plan")
	b.do("start", chromedp.Click(`button[value=start]`), chromedp.WaitVisible("form.stop"))
	b.do("the picture moves", chromedp.WaitVisible("rect.inforce"))
	b.says("phase: attack", "in force until", "web2-busy is raised")
	b.picture("drill-live")
	b.do("halt", chromedp.Click("a.halt"), chromedp.WaitVisible("#reason"))
	b.do("confirm", chromedp.SendKeys("#reason", "a rehearsal"), chromedp.Click("button.big"))
	b.says("halted by otto")
	if d.agents["web2"].hit() {
		t.Error("after a halt something is in force")
	}
	run := d.control.Drills(1, nil)[0]
	b.open("/drills/" + run.ID)
	b.says("inconclusive", "halt by otto")
	b.do("the button goes", chromedp.WaitNotPresent("form.stop"))
	b.picture("drill-halted")
	b.do("release", chromedp.Navigate(d.server.URL+"/lever"), chromedp.WaitVisible("button.danger"), chromedp.Click("button.danger"))
	b.says("Runs can be started")
	b.open("/services/shop/drill?drill=busy")
	b.do("start another", chromedp.Click(`button[value=start]`), chromedp.WaitVisible("section[data-done]"))
	b.says("passed")
	b.picture("drill-passed")
	b.open("/services/shop/drill?drill=busy")
	b.do("schedule", chromedp.Click("summary"), chromedp.WaitVisible("[name=cron]"), chromedp.SetValue(`[name=entry]`, "weekly"), chromedp.SetValue(`[name=cron]`, "0 10 * * TUE"), chromedp.SetValue(`[name=jitter]`, "30m"))
	b.picture("drill-schedule")
	b.do("put it there", chromedp.Click(`button[value=schedule]`))
	b.says("weekly", "0 10 * * TUE", "leashed")
	d.must("freeze", fleet.Freeze{Dates: "2026-12-18..2027-01-04", Reason: "the shop is busy"}, nil)
	b.open("/schedule")
	b.says("leashed", "drill busy of shop", "2026-12-18..2027-01-04")
	b.picture("schedule-leashed")
	b.do("unleash", chromedp.Click(`button[aria-label="Unleash weekly"]`), chromedp.WaitVisible(`button[aria-label="Leash weekly"]`))
	d.audited("otto unleashes weekly")
	for name, path := range map[string]string{"schedule-unleashed": "/schedule", "drills": "/drills", "service-with-file": "/services/shop", "services-with-file": "/services", "drill-start": "/services/shop/drill"} {
		b.open(path)
		b.picture(name)
	}
}
