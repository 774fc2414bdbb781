package fleettest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"

	"firedrill/internal/fleet"
	dash "firedrill/internal/web"
)

// form is one of the dashboard, and how somebody gives it.
type form struct {
	call   string        // what the role must be allowed; empty: it is one's own affair
	ready  func() string // makes what it is done to, and returns the page
	fill   func()        // what is written into the form
	button string        // that gives it
	says   []string      // what the page says then
	after  func()
}

// everyForm is a form for each action of the dashboard, by its pattern, as somebody gives it.
func (b *browser) everyForm(name string) (forms map[string]form, order []string) {
	d := b.d
	free := func() { // the permit of the shop is given back a moment after the end of what held it
		d.t.Helper()
		d.await("the permit", func() error {
			run, err := d.attack("cpu", "0.1", "web1")
			if err == nil {
				d.ended(run.ID)
			}
			return err
		})
	}
	entry := func(leashed bool) string {
		d.t.Helper()
		id := "of-" + name
		var have []fleet.ScheduledView
		d.must("scheduled", nil, &have)
		if !slices.ContainsFunc(have, func(one fleet.ScheduledView) bool { return one.Name == id }) {
			d.must("schedule", fleet.ScheduleRequest{Name: id, Cron: "0 10 1 1 *", Drill: &fleet.DrillRequest{Service: "shop", Drill: "busy"}}, nil)
		}
		d.must(map[bool]string{true: "leash", false: "unleash"}[leashed], id, nil)
		return "/schedule"
	}
	clear := func() {
		if lever, _ := d.control.Standing(); lever.Engaged {
			d.must("release", nil, nil)
		}
	}
	var run fleet.Run
	var drilled fleet.DrillRun
	var secret string
	forms = map[string]form{
		"/attack": {call: "attack", ready: func() string { free(); return "/attack?hosts=web1&much=all&args=-l+600&kind=cpu" }, button: "button[value=start]", says: []string{"Stop this run", "in force until"},
			after: func() { d.must("stop", d.control.Going()[0].ID, nil) }},
		"/runs/{run}/stop": {call: "stop", ready: func() string {
			free()
			run = d.mustAttack("cpu", "600", "web1")
			d.await("the impact", d.agents["web1"].inForce)
			return "/runs/" + run.ID
		}, button: "form.stop button", says: []string{"it bit, reverted"}},
		"/services/put": {call: "putservice", ready: func() string { return "/services/put?service=shop" }, fill: func() {
			found(b, chromedp.Evaluate[bool](`(document.querySelector("#text").value += "# looked at by `+name+`\n") !== ""`))
		}, button: "form.long button", says: []string{"of the service file, put here by " + name}},
		"/services/{service}/drill": {call: "drill", ready: func() string { free(); return "/services/shop/drill?drill=for-long" }, button: "button[value=start]", says: []string{"Stop this drill"},
			after: func() { id := d.control.GoingDrills()[0].ID; d.must("stopdrill", id, nil); d.drillEnded(id) }},
		"/drills/{drill}/stop": {call: "stopdrill", ready: func() string {
			free()
			d.await("a drill", func() (err error) { drilled, err = d.drill("for-long"); return err })
			return "/drills/" + drilled.ID
		}, button: "form.stop button", says: []string{"inconclusive", "stopped by " + name}, after: func() { d.drillEnded(drilled.ID) }},
		"/schedule/{entry}/unleash": {call: "unleash", ready: func() string { return entry(true) }, button: `button[aria-label="Unleash of-` + name + `"]`, says: []string{"of-" + name}, after: func() { d.audited(name + " unleashes of-" + name) }},
		"/schedule/{entry}/leash":   {call: "leash", ready: func() string { return entry(false) }, button: `button[aria-label="Leash of-` + name + `"]`, says: []string{"of-" + name}, after: func() { d.audited(name + " leashes of-" + name) }},
		"/schedule/{entry}/remove":  {call: "unschedule", ready: func() string { return entry(true) }, button: `button[aria-label="Take of-` + name + ` off the schedule"]`, says: []string{"Nothing begins by itself."}},
		"/halt":                     {call: "halt", ready: func() string { return "/halt" }, fill: func() { b.do("write why", chromedp.SendKeys("#reason", "it is "+name)) }, button: "button.big", says: []string{"halted by " + name, "it is " + name, "The lever is engaged"}, after: clear},
		"/lever/release": {call: "release", ready: func() string {
			d.must("halt", fleet.HaltRequest{Reason: "a rehearsal"}, &fleet.HaltReport{})
			return "/lever"
		}, button: "button.danger", says: []string{"Runs can be started"}, after: clear},
		"/settings/factor": {ready: func() string { return "/settings/factor" }, fill: func() {
			secret = found(b, chromedp.Evaluate[string](`document.querySelector("form.long code").textContent`))
			code, err := totp.GenerateCode(secret, time.Now())
			if err != nil {
				d.t.Fatal(err)
			}
			b.do("prove it", chromedp.SendKeys("[name=code]", code), chromedp.SendKeys("[name=password]", dashPassword))
		}, button: "button[value=on]", says: []string{"Log in"}, after: func() {
			code, err := totp.GenerateCode(secret, time.Now().Add(30*time.Second)) // the one of now is spent
			if err != nil {
				d.t.Fatal(err)
			}
			b.do("log in with a code", chromedp.SendKeys("#name", name), chromedp.SendKeys("#password", dashPassword), chromedp.SendKeys("#code", code), chromedp.Click("button.go"), chromedp.WaitVisible("a.halt"))
			b.open("/settings/factor")
			b.do("turn it off", chromedp.SendKeys("[name=password]", dashPassword), chromedp.Click("button[value=off]"), chromedp.WaitVisible("#password"))
			b.login(name)
		}},
		"/settings/password": {ready: func() string { return "/settings" }, fill: func() {
			b.do("write it", chromedp.SendKeys("[name=old]", dashPassword), chromedp.SendKeys("[name=new]", "another horse battery"), chromedp.SendKeys("[name=again]", "another horse battery"))
		}, button: `form[action="/settings/password"] button`, says: []string{"Log in"}, after: func() {
			b.do("log in with the new one", chromedp.SendKeys("#name", name), chromedp.SendKeys("#password", "another horse battery"), chromedp.Click("button.go"), chromedp.WaitVisible("a.halt"))
		}},
		"/logout": {ready: func() string { return "/" }, button: ".who form button", says: []string{"Log in"}},
	}
	return forms, []string{"/attack", "/runs/{run}/stop", "/services/put", "/services/{service}/drill", "/drills/{drill}/stop", "/schedule/{entry}/unleash", "/schedule/{entry}/leash", "/schedule/{entry}/remove",
		"/halt", "/lever/release", "/settings/factor", "/settings/password", "/logout"}
}

// TestEveryActionByEveryRoleInABrowser gives each form of the dashboard as each role. What a role may not do is not offered to it, and refused when it is asked
// for all the same.
func TestEveryActionByEveryRoleInABrowser(t *testing.T) {
	t.Parallel()
	d := newStage(t, nil, "web1", "web2")
	b := newBrowser(d)
	b.open("/login")
	b.do("a wrong password", chromedp.SendKeys("#name", "otto"), chromedp.SendKeys("#password", "not this one at all"), chromedp.Click("button.go"))
	b.says("Name, password or code is wrong.")
	b.picture("login-wrong")
	for _, who := range []struct{ name, role string }{{"vera", fleet.RoleViewer}, {"otto", fleet.RoleOperator}, {"ada", fleet.RoleAdmin}} {
		name, role := who.name, who.role
		forms, order := b.everyForm(name)
		if known := slices.Sorted(maps.Keys(forms)); !slices.Equal(known, dash.Actions()) || len(order) != len(forms) {
			t.Fatalf("the actions are %q, and tried are %q", dash.Actions(), known)
		}
		b.login(name)
		for _, pattern := range order {
			one := forms[pattern]
			b.open(one.ready())
			may := one.call == "" || fleet.MayCall(role, one.call)
			offered := found(b, chromedp.Evaluate[bool](fmt.Sprintf(`((e) => e !== null && !e.disabled)(document.querySelector(%q))`, one.button)))
			if offered != may {
				t.Errorf("to %s %s is offered: %v", role, pattern, offered)
			}
			if one.fill != nil {
				one.fill()
			}
			if may {
				b.do(pattern+" by "+name, chromedp.Click(one.button))
				b.says(one.says...)
			} else {
				b.force(strings.ReplaceAll(pattern, "{entry}", "of-"+name), one.button)
				b.says(name + " is viewer, and that needs " + fleet.Calls[one.call])
			}
			if one.after != nil && (may || pattern == "/lever/release") {
				one.after()
			}
		}
		// What an entry of the schedule leaves behind is not the next one's.
		var left []fleet.ScheduledView
		d.must("scheduled", nil, &left)
		for _, entry := range left {
			d.must("unschedule", entry.ID, nil)
		}
	}
	for range 6 {
		b.open("/login")
		b.do("guess", chromedp.SendKeys("#name", "karl"), chromedp.SendKeys("#password", "guess guess guess"), chromedp.Click("button.go"), chromedp.WaitVisible(".problem"))
	}
	b.says("Too many tries have failed. Wait")
	b.picture("login-limited")
	b.open("/login")
	b.do("log in", chromedp.SendKeys("#name", "otto"), chromedp.SendKeys("#password", "another horse battery"), chromedp.Click("button.go"), chromedp.WaitVisible("a.halt"))
	b.open("/nothing")
	b.says("There is no such page")
	b.picture("no-such-page")
	b.open("/lever")
	found(b, chromedp.Evaluate[bool](`document.querySelectorAll("[name=csrf]").forEach((e) => e.value = "another") === undefined`))
	b.do("give a form of another session", chromedp.Click(".who form button"))
	b.says("This form was not made for your session")
	b.picture("form-refused")
}

// force gives a form that is not offered: its button is made to work, or the form is made.
func (b *browser) force(path, button string) {
	b.d.t.Helper()
	found(b, chromedp.Evaluate[bool](fmt.Sprintf(`(() => {
		let button = document.querySelector(%q);
		if (!button) {
			const form = document.createElement("form"), csrf = document.createElement("input");
			button = document.createElement("button");
			form.method = "post"; form.action = %q; csrf.name = "csrf"; csrf.value = document.querySelector("[name=csrf]").value;
			form.append(csrf, button);
			document.querySelector("main").append(form);
		}
		button.disabled = false;
		button.click();
		return true;
	})()`, button, path)))
}
