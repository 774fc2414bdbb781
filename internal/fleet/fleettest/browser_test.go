package fleettest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"firedrill/internal/fleet"
)

// browser is a headless Chromium with one window.
type browser struct {
	d   *dashboard
	ctx context.Context //nolint:containedctx // how chromedp knows a window
}

func newBrowser(d *dashboard) *browser {
	d.t.Helper()
	return &browser{d, window(d.t)}
}

// window starts a Chromium with one window.
func window(tb testing.TB) context.Context {
	tb.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "chromium") {
			tb.Fatal(err)
		}
		tb.Skip("needs chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.Flag("ignore-certificate-errors", true), chromedp.NoSandbox, chromedp.UserDataDir(tb.TempDir()), chromedp.WSURLReadTimeout(2*time.Minute))
	allocated, end1 := chromedp.NewExecAllocator(context.WithoutCancel(tb.Context()), options...)
	ctx, end2 := chromedp.NewContext(allocated)
	tb.Cleanup(func() { end2(); end1() })
	if err := chromedp.Do(ctx); err != nil { // starts it; it lives as long as the context of its first action
		tb.Fatal(err)
	}
	return ctx
}

func (b *browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.d.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 4*patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		looking, stop := context.WithTimeout(b.ctx, patience)
		defer stop()
		text, _ := chromedp.Run(looking, chromedp.Text("body"))
		b.d.t.Fatalf("%s: %v\n%s", what, err, text)
	}
}

func (b *browser) open(path string) {
	b.d.t.Helper()
	address := b.d.server.URL + path
	// Chromium gives a navigation up when the page that is being left goes somewhere by itself just then. Who typed it types it again.
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(b.ctx, 4*patience)
		err := chromedp.Do(ctx, chromedp.Navigate(address))
		cancel()
		if err == nil {
			break
		}
		if try == openTries || !strings.Contains(err.Error(), "net::ERR_ABORTED") {
			b.d.t.Fatalf("open %s: %v", path, err)
		}
	}
	b.do("wait for "+path, chromedp.WaitReady("#main"))
}

// openTries is how often an address is given to Chromium.
const openTries = 5

// found is what an action returns.
func found[T any](b *browser, action chromedp.Action[T]) T {
	b.d.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 4*patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.d.t.Fatal(err)
	}
	return value
}

// says waits until the page says some words.
func (b *browser) says(words ...string) {
	b.d.t.Helper()
	for _, word := range words {
		// A page that is just being left answers with an error; the next one is asked.
		b.d.await("the page says "+word, func() error {
			text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			if err == nil && !strings.Contains(text, word) {
				err = errors.New(text)
			}
			return err
		})
	}
}

func (b *browser) login(name string) {
	b.d.t.Helper()
	b.open("/login")
	b.do("log in", chromedp.SendKeys("#name", name), chromedp.SendKeys("#password", dashPassword), chromedp.Click("button.go"), chromedp.WaitVisible("a.halt"))
}

// picture looks whether the page is sound in light and dark, on a desk and on a phone, and keeps pictures of it where FIREDRILL_SCREENSHOTS says, for
// people to look at.
func (b *browser) picture(name string) {
	b.d.t.Helper()
	b.sound(name)
	directory := os.Getenv("FIREDRILL_SCREENSHOTS")
	if directory == "" {
		return
	}
	for suffix, size := range map[string][2]int64{"": {1440, 900}, "-narrow": {390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			b.as(scheme, size[0], size[1])
			picture := found(b, chromedp.FullScreenshot(100))
			if err := os.WriteFile(filepath.Join(directory, name+suffix+"-"+scheme+".png"), picture, 0o600); err != nil {
				b.d.t.Fatal(err)
			}
		}
	}
	b.as("light", 1280, 900)
}

// seeded is a dashboard with something on every page.
func seededDashboard(t *testing.T) *dashboard {
	t.Helper()
	d := newDashboard(t, nil)
	for i, environment := range []string{"blue", "blue", "green", "green"} {
		d.join(fmt.Sprintf("web%d", i+1), map[string]string{"service": "bookstore", "environment": environment}, nil)
	}
	file := strings.NewReplacer("service: shop", "service: bookstore", "drills:\n", "drills:\n  lose-host:\n    cadence: 28d\n    on: idle environment\n    attack: {cpu: {length: 1s}}\n    expect: [answer stays]\n").Replace(stageFile)
	d.must("putservice", fleet.PutService{Text: file}, nil)
	for i := range 12 {
		started := time.Date(2026, 9, 1+7*i%28, 10, 0, 0, 0, time.UTC).AddDate(0, 7*i/28, 0)
		outcome, seconds := "passed", 9+float64(i*7%5)
		if i == 5 {
			outcome, seconds = "failed", 34
		}
		record := fleet.Record{ID: started.Format("20060102T150405Z-") + fmt.Sprintf("%06x", i+1), Service: "bookstore", Outcome: outcome, Reason: "all expectations were met", Started: started, Finished: started.Add(5 * time.Minute),
			Steps: []fleet.RecordStep{{Name: "lose-host on live", Kind: "drill", Outcome: outcome, RTO: &fleet.RecordFigure{Seconds: seconds, Bound: 1, Allowed: 30}}}}
		if err := d.control.KeepRecord(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestPeopleWorkWithTheDashboardInABrowser(t *testing.T) {
	t.Parallel()
	d := seededDashboard(t)
	b := newBrowser(d)
	b.open("/login")
	b.picture("login")
	b.login("otto")

	// Start, watch, stop.
	b.open("/attack")
	b.do("fill in", chromedp.SetValue(`[name=hosts]`, "web1"), chromedp.SetValue(`[name=much]`, "all"), chromedp.SetValue(`[name=args]`, "-l 600"))
	b.do("look", chromedp.Click(`button[value=look]`))
	b.says("1 host would be attacked with cpu")
	b.picture("attack")
	b.do("start", chromedp.Click(`button[value=start]`), chromedp.WaitVisible("form.stop"))
	b.says("in force until")
	b.do("the picture moves", chromedp.WaitVisible("rect.inforce"))
	b.picture("run-live")
	b.do("stop", chromedp.Click("form.stop button"))
	b.says("it bit, reverted")
	b.do("the button goes", chromedp.WaitNotPresent("form.stop"))
	b.picture("run")

	// Schedule.
	b.open("/attack")
	b.do("schedule", chromedp.SetValue(`[name=hosts]`, "web2"), chromedp.SetValue(`[name=much]`, "all"), chromedp.SetValue(`[name=args]`, "-l 5"), chromedp.Click("summary"), chromedp.WaitVisible("[name=cron]"),
		chromedp.SetValue(`[name=entry]`, "weekly-cpu"), chromedp.SetValue(`[name=cron]`, "0 10 * * TUE"), chromedp.Click(`button[value=schedule]`))
	b.says("weekly-cpu", "0 10 * * TUE", "How often drills are wanted", "lose-host")
	b.picture("schedule")

	// Halt while something is in force: the page that shows it says so by itself.
	b.open("/attack?hosts=web3&much=all&args=-l+600&kind=cpu")
	b.do("start another", chromedp.Click(`button[value=start]`), chromedp.WaitVisible("rect.inforce"))
	b.open("/fleet")
	b.says("attacked")
	b.picture("fleet")
	b.do("halt", chromedp.Click("a.halt"), chromedp.WaitVisible("#reason"))
	b.picture("halt")
	b.do("confirm", chromedp.SendKeys("#reason", "a rehearsal"), chromedp.Click("button.big"))
	b.says("halted by otto", "a rehearsal", "The lever is engaged")
	b.picture("halt-report")
	if d.agents["web3"].hit() {
		t.Error("after a halt something is in force")
	}
	b.open("/attack?hosts=web3&much=all&args=-l+600&kind=cpu")
	b.do("start under the lever", chromedp.Click(`button[value=start]`))
	b.says("not attacking: the lever is engaged")
	b.picture("attack-refused")
	b.open("/lever")
	b.picture("lever")
	b.do("release", chromedp.Click("button.danger"))
	b.says("Runs can be started")

	for name, path := range map[string]string{"front": "/", "services": "/services", "service": "/services/bookstore", "runs": "/runs", "hosts": "/fleet/hosts", "host": "/fleet/hosts/web1", "alarms": "/alarms", "playbooks": "/playbooks", "audit": "/audit", "settings": "/settings", "factor": "/settings/factor", "problem": "/runs/nothing"} {
		b.open(path)
		b.picture(name)
	}

	// A viewer is refused, and the reason is said.
	b.do("log out", chromedp.Click(".who form button"), chromedp.WaitVisible("#password"))
	b.login("vera")
	b.open("/attack?hosts=web3&much=all&args=-l+600&kind=cpu")
	b.says("you may look and halt")
	found(b, chromedp.Evaluate[bool](`document.querySelectorAll("button").forEach(b => b.disabled = false) === undefined`))
	b.do("ask all the same", chromedp.Click(`button[value=start]`))
	b.says("vera is viewer, and that needs operator")
	b.picture("role-refused")
	d.audited("refused attack to vera")
}
