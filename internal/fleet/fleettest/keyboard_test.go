package fleettest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"firedrill/internal/fleet"
)

//go:embed testdata/stop.js
var stopScript string

//go:embed testdata/reach.js
var reachScript string

// keyStop is where the focus stands after a key; What is empty when it is nowhere on the page.
type keyStop struct {
	What   string   `json:"what"`
	Faults []string `json:"faults"`
}

// reach is what of a page must be reached by keys, in its order.
type reach struct {
	Whats  []string `json:"whats"`
	From   int      `json:"from"` // the stop that comes next
	Main   int      `json:"main"` // the first that is past the menu
	Faults []string `json:"faults"`
}

// press presses keys, as a keyboard does.
func (b *browser) press(keys string, options ...chromedp.KeyOption) {
	b.d.t.Helper()
	b.do(fmt.Sprintf("press %q", keys), chromedp.KeyEvent(keys, options...))
}

// tab goes one stop further, or back.
func (b *browser) tab(back bool) keyStop {
	b.d.t.Helper()
	if back {
		b.press(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift))
	} else {
		b.press(kb.Tab)
	}
	return found(b, chromedp.Evaluate[keyStop](stopScript))
}

// way goes through the whole page with Tab, and tells what somebody without a mouse would miss.
func (b *browser) way() []string {
	b.d.t.Helper()
	want := b.reach()
	return append(want.Faults, b.along(want.Whats[want.From:], false)...)
}

// wayBack goes back from the last stop of a page with Shift and Tab.
func (b *browser) wayBack() []string {
	b.d.t.Helper()
	want := b.reach().Whats
	slices.Reverse(want)
	return b.along(want[1:], true)
}

// wayPast goes past the menu, as its first stop offers it, and through the rest.
func (b *browser) wayPast() []string {
	b.d.t.Helper()
	want := b.reach()
	if want.From > 0 { // the page has put the focus further down
		return append(want.Faults, b.along(want.Whats[want.From:], false)...)
	}
	faults := append(want.Faults, b.along(want.Whats[:1], false)...)
	b.press(kb.Enter)
	b.focused("main")
	return append(faults, b.along(want.Whats[want.Main:], false)...)
}

func (b *browser) reach() reach {
	b.d.t.Helper()
	return found(b, chromedp.Evaluate[reach](reachScript))
}

// along presses Tab for each stop that is expected.
func (b *browser) along(expected []string, back bool) (faults []string) {
	b.d.t.Helper()
	found(b, chromedp.Evaluate[bool](fmt.Sprintf(`(window.way.back = %v) || true`, back)))
	for i, want := range expected {
		at := b.tab(back)
		if faults = append(faults, at.Faults...); at.What != want {
			return append(faults, fmt.Sprintf("not reached: stop %d is %q, and the page has %q there", i, at.What, want))
		}
	}
	return faults
}

// goTo presses Tab until what is asked for has the focus, and looks at each stop.
func (b *browser) goTo(selector string) { b.d.t.Helper(); b.goUntil(selector, false) }

// goBackTo is goTo with Shift and Tab.
func (b *browser) goBackTo(selector string) { b.d.t.Helper(); b.goUntil(selector, true) }

func (b *browser) goUntil(selector string, back bool) {
	b.d.t.Helper()
	found(b, chromedp.Evaluate[bool](fmt.Sprintf(`(() => { window.way = {back: %v}; return true; })()`, back)))
	for range 200 {
		at := b.tab(back)
		for _, fault := range at.Faults {
			b.d.t.Errorf("on the way to %s: %s", selector, fault)
		}
		if b.holds(selector) {
			return
		}
	}
	b.d.t.Fatalf("Tab does not reach %s", selector)
}

// holds reports whether what has the focus is what is asked for.
func (b *browser) holds(selector string) bool {
	b.d.t.Helper()
	return found(b, chromedp.Evaluate[bool](fmt.Sprintf(`document.activeElement.matches(%q)`, selector)))
}

// focused waits until what is asked for has the focus; a page gives it to something of its own a moment after it is shown.
func (b *browser) focused(selector string) {
	b.d.t.Helper()
	b.d.await("the focus on "+selector, func() error {
		if !b.holds(selector) {
			return errors.New("it is on " + found(b, chromedp.Evaluate[string](`document.activeElement.outerHTML.slice(0, 100)`)))
		}
		return nil
	})
}

// arrived waits until a page is there: of this address, or, when that ends with a slash, of one below it.
func (b *browser) arrived(path string) {
	b.d.t.Helper()
	b.d.await("the page "+path, func() error {
		there, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.readyState === "complete" && document.querySelector("#main") ? location.pathname + location.search : ""`))
		if below := path != "/" && strings.HasSuffix(path, "/") && strings.HasPrefix(there, path); err == nil && there != path && !below {
			err = errors.New(there)
		}
		return err
	})
}

// motion is how much a browser says that its reader wants to see moving.
func (b *browser) motion(wish string) {
	b.d.t.Helper()
	b.do("motion "+wish, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: wish}}})
		return err
	}))
}

// hearing writes down what the live regions of a page say from now on, and counts how often the page is brought up to date.
const hearing = `(() => {
	window.heard = []; window.updates = 0;
	for (const one of document.querySelectorAll("#said, #warned, #live [role=alert], #live [role=status]")) new MutationObserver(() => heard.push(one.textContent)).observe(one, {childList: true, characterData: true, subtree: true});
	new MutationObserver(() => { updates++; }).observe(document.body, {attributes: true, attributeFilter: ["data-at"]});
	return true;
})()`

// updates waits until the page has been brought up to date some times more.
func (b *browser) updates(more int) {
	b.d.t.Helper()
	const count = `window.updates ?? -1`
	from := found(b, chromedp.Evaluate[int](count))
	b.d.await("updates of the page", func() error {
		if now := found(b, chromedp.Evaluate[int](count)); now < from+more {
			return fmt.Errorf("%d of %d", now-from, more)
		}
		return nil
	})
}

// heardOf is what was said since with some words in it.
func (b *browser) heardOf(words string) []string {
	b.d.t.Helper()
	return slices.DeleteFunc(found(b, chromedp.Evaluate[[]string](`window.heard`)), func(one string) bool { return !strings.Contains(one, words) })
}

// TestPeopleWorkWithKeysAlone does what people do with the dashboard, and touches no mouse.
func TestPeopleWorkWithKeysAlone(t *testing.T) {
	t.Parallel()
	d := seededDashboard(t)
	b := newBrowser(d)
	b.as("light", 1280, 900)

	// Log in: the first field has the focus, Enter gives the form.
	b.open("/login")
	b.focused("#name")
	b.press("otto")
	b.goTo("#password")
	b.press(dashPassword + kb.Enter)
	b.arrived("/")

	// Past the menu, and through it.
	if at := b.tab(false); !strings.Contains(at.What, "skip") || len(at.Faults) > 0 {
		t.Errorf("the first stop is %+v", at)
	}
	b.press(kb.Enter)
	b.focused("main")
	b.goTo(`main a[href="/attack"]`)
	b.press(kb.Enter)
	b.arrived("/attack")
	b.goTo(`a.halt`)
	b.goTo(`nav a[href="/services"]`)
	b.press(kb.Enter)
	b.arrived("/services")
	b.goTo(`a[href="/attack"], nav a[href="/runs"]`)
	b.press(kb.Enter)
	b.arrived("/runs")

	// A filter, with the arrows in its list of words.
	b.goTo("[name=kind]")
	b.press("cpu")
	b.goTo("[name=state]")
	b.press(kb.ArrowDown + kb.ArrowDown)
	b.goTo(".filter button")
	b.press(" ")
	b.arrived("/runs?service=&kind=cpu&by=&state=running")
	b.says("No runs.")

	// Start: Enter in a field shows what would be, and begins nothing; the answer has the focus.
	b.open("/attack?much=all&args=-l+600&kind=cpu")
	b.goTo("[name=hosts]")
	b.press("web1" + kb.Enter)
	b.says("1 host would be attacked with cpu")
	b.focused("section[aria-labelledby=h-chosen]")
	if len(d.control.Going()) > 0 {
		t.Error("Enter in a field begins something")
	}
	b.goTo("button[value=start]")
	b.press(kb.Enter)
	b.arrived("/runs/")
	b.do("it is in force", chromedp.WaitVisible("rect.inforce"))

	b.motionIsAsked()

	// Watch: what has the focus keeps it, and what is told is told once.
	b.goTo("form.stop button")
	found(b, chromedp.Evaluate[bool](hearing))
	b.goTo(`#live a[href="/fleet/hosts/web1"]`)
	b.mark()
	b.updates(3)
	if fault := b.lost(); fault != "" {
		t.Error(fault)
	}
	b.goBackTo("form.stop button")
	b.press(" ")
	b.says("it bit, reverted")
	b.do("the button goes", chromedp.WaitNotPresent("form.stop"))

	// The schedule: a drawer that opens with a key, and an entry that is unleashed.
	b.open("/attack?hosts=web2&much=all&args=-l+5&kind=cpu")
	b.goTo("summary")
	b.press(" ")
	b.goTo("[name=entry]")
	b.press("weekly-cpu")
	b.goTo("[name=cron]")
	b.press("0 0 29 2 *")
	b.goTo("button[value=schedule]")
	b.press(kb.Enter)
	b.arrived("/schedule")
	b.goTo(`button[aria-label="Unleash weekly-cpu"]`)
	b.press(kb.Enter)
	b.do("it is unleashed", chromedp.WaitVisible(`button[aria-label="Leash weekly-cpu"]`))
	d.audited("otto unleashes weekly-cpu")

	// Halt: the third stop of each page, and a second Enter.
	d.await("a run", func() error { _, err := d.attack("cpu", "600", "web3"); return err }) // the permit of the one before is given back a moment after its end
	d.await("the impact", d.agents["web3"].inForce)
	b.open("/alarms")
	for range 3 {
		b.tab(false)
	}
	if !b.holds("a.halt") {
		t.Error("halting is not the third stop of a page")
	}
	b.press(kb.Enter)
	b.arrived("/halt")
	b.focused("button.big")
	b.goBackTo("#reason")
	b.press("a rehearsal")
	b.goTo("button.big")
	b.press(kb.Enter)
	b.arrived("/halt/report")
	b.says("halted by otto", "a rehearsal")
	if d.agents["web3"].hit() {
		t.Error("after a halt something is in force")
	}

	// The lever.
	b.goTo(`#bar a[href="/lever"]`)
	b.press(kb.Enter)
	b.arrived("/lever")
	b.goTo("button.danger")
	b.press(kb.Enter)
	b.says("Runs can be started")

	// And out.
	b.goTo(".who form button")
	b.press(kb.Enter)
	b.do("logged out", chromedp.WaitVisible("#password"))
}

// motionIsAsked looks at a run that is in force: what glows does not for who wants no motion.
func (b *browser) motionIsAsked() {
	b.d.t.Helper()
	for wish, moves := range map[string]bool{"reduce": false, "no-preference": true} {
		b.motion(wish)
		if n := found(b, chromedp.Evaluate[int](`document.getAnimations().length`)); n > 0 != moves {
			b.d.t.Errorf("where people want motion %s, %d things move", wish, n)
		}
	}
}

// mark remembers the element that has the focus, and lost tells what became of it.
func (b *browser) mark() {
	b.d.t.Helper()
	found(b, chromedp.Evaluate[bool](`document.activeElement.mine = true`))
}

func (b *browser) lost() string {
	b.d.t.Helper()
	return found(b, chromedp.Evaluate[string](`document.activeElement.mine ? "" : "an update takes the focus away: it is on " + document.activeElement.outerHTML.slice(0, 100)`))
}

// TestEveryPageIsGoneThroughWithKeys goes through each page with Tab and back, on a desk and in a window of 320 pixels, which is one of 1280 at 400 %.
func TestEveryPageIsGoneThroughWithKeys(t *testing.T) {
	t.Parallel()
	d := seededDashboard(t)
	d.must("schedule", fleet.ScheduleRequest{Name: "weekly", Cron: "0 0 29 2 *", Drill: &fleet.DrillRequest{Service: "bookstore", Drill: "lose-host"}}, nil)
	run := d.mustAttack("cpu", "600", "web1")
	d.await("the server to know of the impact", func() error { // what is known moves no chip and no tile then
		if !slices.ContainsFunc(d.control.Hosts(), func(h fleet.HostView) bool { return h.Name == "web1" && len(h.Running) > 0 }) {
			return errors.New("it does not")
		}
		return nil
	})
	b := newBrowser(d)
	b.login("ada")
	for _, path := range []string{"/", "/services", "/services/bookstore", "/services/bookstore/drill", "/services/put", "/drills", "/runs", "/runs/" + run.ID, "/fleet", "/fleet/hosts", "/fleet/hosts/web1", "/alarms", "/schedule", "/playbooks", "/audit", "/settings", "/settings/factor", "/attack", "/halt", "/lever"} {
		for _, look := range []struct {
			scheme        string
			width, height int64
		}{{"light", 1280, 900}, {"dark", 320, 256}} {
			b.as(look.scheme, look.width, look.height)
			b.open(path)
			for _, fault := range b.wholeWay(path) {
				t.Errorf("%s, %s, %d wide: %s", path, look.scheme, look.width, fault)
			}
		}
	}
}

// wholeWay goes through a page: of most without the menu, which is the same on each.
func (b *browser) wholeWay(path string) []string {
	b.d.t.Helper()
	switch path {
	case "/":
		return b.way()
	case "/schedule":
		return append(b.way(), b.wayBack()...)
	case "/halt":
		b.focused("[autofocus]")
	}
	return b.wayPast()
}

// TestUpdatesOfAPageLeaveItsReaderAlone brings pages up to date while somebody is at work on them: the focus stays, what is half written stays, and what is told
// is told once.
func TestUpdatesOfAPageLeaveItsReaderAlone(t *testing.T) {
	t.Parallel()
	d := seededDashboard(t)
	b := newBrowser(d)
	b.login("otto")
	row := func(run fleet.Run) string { return fmt.Sprintf(`#live a[href="/runs/%s"]`, run.ID) }
	over := func(run fleet.Run) {
		t.Helper()
		d.must("stop", run.ID, nil)
		d.ended(run.ID)
	}
	start := func() (run fleet.Run) {
		t.Helper()
		d.await("a run", func() (err error) { run, err = d.attack("cpu", "600", "web1"); return err }) // the permit of the one before is given back a moment after its end
		d.await("the impact", d.agents["web1"].inForce)
		return run
	}
	first := start()
	over(first)

	// A list that grows above what has the focus, and a field that is half written.
	b.open("/runs")
	b.goTo("[name=kind]")
	b.press("cp")
	b.mark()
	second := start()
	b.do("the list grows", chromedp.WaitVisible(row(second)))
	b.press("u")
	if text := found(b, chromedp.Evaluate[string](`document.querySelector("[name=kind]").value`)); text != "cpu" || b.lost() != "" {
		t.Errorf("what is half written is %q after an update. %s", text, b.lost())
	}
	b.goTo(row(first))
	b.mark()
	over(second)
	third := start()
	b.do("the list grows again", chromedp.WaitVisible(row(third)))
	if fault := b.lost(); fault != "" || !b.holds(row(first)) {
		t.Errorf("in a list that grows: %s", fault)
	}
	found(b, chromedp.Evaluate[bool](`new MutationObserver((_, o) => { o.disconnect(); const live = document.querySelector("#live"); live.innerHTML = live.innerHTML; }).observe(document.querySelector("#live"), {subtree: true, childList: true, characterData: true, attributes: true})`+" === undefined"))
	over(third)
	b.do("the end is shown", chromedp.WaitNotPresent("#bar p"))
	if b.lost() == "" {
		t.Error("an update that makes all anew is not seen")
	}

	// What has the focus goes: the focus does not fall to another button, nor out of the page.
	fourth := start()
	b.open("/runs/" + fourth.ID)
	b.do("it is in force", chromedp.WaitVisible("rect.inforce"))
	found(b, chromedp.Evaluate[bool](hearing))
	b.goTo("form.stop button")
	b.updates(3)
	if heard := b.heardOf(""); len(slices.Compact(slices.Clone(heard))) < len(heard) {
		t.Errorf("in three updates of the same run it is said %q", heard)
	}
	over(fourth)
	b.do("the button goes", chromedp.WaitNotPresent("form.stop"))
	b.focused("#live")
	fifth := start()
	b.do("another begins", chromedp.WaitVisible(fmt.Sprintf(`#bar a[href="/runs/%s"]`, fifth.ID)))
	if heard := b.heardOf("it bit, reverted"); len(heard) != 1 {
		t.Errorf("the end is said %d times: %q", len(heard), heard)
	}
	b.goTo(fmt.Sprintf(`#bar a[href="/runs/%s"]`, fifth.ID))

	// A halt by another is told at once, and once.
	d.must("halt", fleet.HaltRequest{Reason: "a rehearsal"}, &fleet.HaltReport{})
	b.says("The lever is engaged.")
	b.do("the bar of the run goes", chromedp.WaitNotPresent("#bar .going"))
	b.focused("#bar, main")
	d.must("release", nil, nil)
	b.do("the bar of the lever goes", chromedp.WaitNotPresent("#bar p"))
	if engaged, released := b.heardOf("The lever is engaged."), b.heardOf("The lever is released."); len(engaged) != 1 || len(released) != 1 {
		t.Errorf("a halt is told %q, and its end %q", engaged, released)
	}

	// And words that are said with each update are heard.
	sixth := start()
	b.open("/runs/" + sixth.ID)
	found(b, chromedp.Evaluate[bool](hearing))
	found(b, chromedp.Evaluate[bool](`new MutationObserver(() => { said.textContent = document.querySelector("#live [data-said]").dataset.said; }).observe(document.body, {attributes: true, attributeFilter: ["data-at"]}) === undefined`))
	b.updates(3)
	if heard := b.heardOf("cpu: running"); len(heard) < 3 {
		t.Errorf("what is said with each update is not seen: %q", heard)
	}
}

// TestWhatKeysDoNotReachIsCaught spoils a page that keys reach all of, and looks whether that is seen.
func TestWhatKeysDoNotReachIsCaught(t *testing.T) {
	t.Parallel()
	d := newDashboard(t, nil)
	b := newBrowser(d)
	b.login("otto")
	b.as("light", 1280, 900)
	for name, planted := range map[string]struct{ spoil, says string }{
		"no ring":                      {`document.styleSheets[0].insertRule(":focus-visible { outline: none !important }", 0)`, "the focus is not seen"},
		"a pale ring":                  {`document.querySelector("main").style.setProperty("--ring", "#b8c4cc")`, "the focus is not seen: contrast"},
		"a dark ring on a dark ground": {`document.querySelector(".top").style.setProperty("--ring", "#0a5f9e")`, "the focus is not seen: contrast"},
		"a ring that is cut off":       {`document.querySelector("nav ul").style.overflow = "hidden"`, "the ring is cut off"},
		"an order of its own":          {`document.querySelector("[name=q]").tabIndex = 3`, "not reached"},
		"turned round for the eyes":    {`document.querySelector("nav ul").style.flexDirection = "column-reverse"`, "the focus jumps up"},
		"a button that is none":        {`(() => { const one = document.createElement("div"); one.className = "button"; one.textContent = "Show"; document.querySelector(".filter button").replaceWith(one); })()`, "reached by a mouse alone"},
		"a button for no key":          {`(() => { const one = document.createElement("div"); one.className = "button"; one.tabIndex = 0; one.textContent = "Show"; document.querySelector(".filter button").replaceWith(one); })()`, "no key is known to work"},
		"a trap":                       {`document.querySelector("[name=q]").addEventListener("keydown", (e) => { if (e.key === "Tab") e.preventDefault(); })`, "not reached"},
		"a field that lets go":         {`document.querySelector("[name=q]").addEventListener("focus", (e) => e.target.blur())`, "not reached"},
		"something over it":            {`(() => { const one = document.createElement("div"); one.style.cssText = "position: fixed; inset: 0 0 50% 0; background: #ffffff"; document.body.append(one); })()`, "it is out of sight"},
	} {
		b.open("/audit")
		found(b, chromedp.Evaluate[bool](`(() => { `+planted.spoil+`; return true; })()`))
		if got := b.way(); !slices.ContainsFunc(got, func(one string) bool { return strings.Contains(one, planted.says) }) {
			t.Errorf("%s is not seen: %q", name, got)
		}
	}
	b.open("/audit")
	if got := append(b.way(), b.wayBack()...); len(got) > 0 {
		t.Errorf("and with nothing planted: %q", got)
	}
}
