package report_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"firedrill/internal/history"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// crowded is the page of a log of about count events, which is never held in memory as a whole by the report.
func crowded(t testing.TB, count int) (text string, events int) {
	t.Helper()
	var log []history.Event
	plan := verdicttest.Crowd(count, func(event history.Event) {
		event.Seq = int64(len(log)) + 1
		log = append(log, event)
	})
	in := report.Input{Plan: plan, Log: log, Verdict: verdict.Judge(plan, log)}
	if in.Verdict.Outcome != history.Passed {
		t.Fatal(in.Verdict.Reason)
	}
	return render(t, report.HTML, in), len(log)
}

// The page of many clients that sample often is used as a reader uses it: with the wheel, by its links, with the pointer on the picture, in a
// narrow window.
func TestThePageOfALongLogIsUsed(t *testing.T) {
	text, events := crowded(t, 100_000)
	if len(text) >= pageMax {
		t.Errorf("the page of %d events has %d bytes", events, len(text))
	}
	ctx := chromium(t)
	address := filed(t, text)
	if lost := used(ctx, address, ""); len(lost) > 0 {
		t.Errorf("the page cannot be used: %s", strings.Join(lost, "; "))
	}
	for what, planted := range map[string]string{
		"a page that does not scroll":           `document.documentElement.style.overflow = 'hidden'`,
		"something before the page":             `document.body.appendChild(document.createElement('div')).style.cssText = 'position:fixed;inset:0;z-index:9'`,
		"a link that leads nowhere":             `document.querySelectorAll('article').forEach(step => step.removeAttribute('id'))`,
		"a picture that says nothing":           `document.querySelectorAll('svg title').forEach(title => title.remove())`,
		"a page that is wider than its window":  `document.querySelector('footer').style.width = '1500px'`,
		"the wide picture in the narrow window": `document.querySelectorAll('.picture').forEach(picture => picture.style.display = 'block')`,
	} {
		if len(used(ctx, address, planted)) == 0 {
			t.Errorf("%s is not noticed", what)
		}
	}
}

// used does what a reader does, after planting something in the page, and says what went wrong.
func used(ctx context.Context, address, planted string) (lost []string) {
	failed := func(what string, err error) { lost = append(lost, fmt.Sprintf("%s: %v", what, err)) }
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(address)); err != nil {
		return []string{err.Error()}
	}
	patience := 30 * time.Second
	if planted != "" {
		patience = time.Second // what never comes is not waited for
	}
	said := func(script string) bool {
		holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise))
		if err != nil {
			failed(script, err)
		}
		return holds
	}
	said(planted + `; true`)
	// The wheel takes a reader to the end of the page and back.
	for _, way := range []float64{1, -1} {
		turned := func(event *input.DispatchMouseEventParams) { event.DeltaX, event.DeltaY = 0.001, way*1e6 } // both must be there, and zero is left out
		if err := chromedp.Do(ctx, chromedp.MouseEvent(input.DispatchMouseEventTypeMouseWheel, 640, 450, turned)); err != nil {
			failed("wheel", err)
		}
		end := `innerHeight + scrollY >= document.documentElement.scrollHeight - 1`
		if way < 0 {
			end = `scrollY === 0`
		}
		if !said(settles(end, patience)) {
			lost = append(lost, "the wheel does not lead to the end")
		}
	}
	// A step of the story leads to what was found of it.
	if err := pointAt(ctx, `.story li:last-child a`, input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased); err != nil {
		failed("click", err)
	}
	if !said(settles(`(step => step && step.getBoundingClientRect().top >= 0 && step.getBoundingClientRect().top < innerHeight)(document.querySelector(decodeURIComponent(location.hash) || 'none'))`, patience)) {
		lost = append(lost, "a click on a step does not lead to it")
	}
	// What the pointer is on says what it is.
	said(`scrollTo(0, 0); true`)
	if !said(`(() => {
		const box = document.querySelector('.picture.wide svg .attack .body').getBoundingClientRect()
		const under = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)
		return !!under && !!under.closest('g')?.querySelector('title')?.textContent
	})()`) {
		lost = append(lost, "the picture does not say what is under the pointer")
	}
	// A narrow window has a picture of its own, and no page that is wider.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(390, 844)); err != nil {
		failed("narrow", err)
	}
	if !said(settles(`getComputedStyle(document.querySelector('.picture.wide')).display === 'none' && document.querySelector('.picture.narrow').getClientRects().length > 0 && document.documentElement.scrollWidth <= innerWidth`, patience)) {
		lost = append(lost, "the page does not fit into a narrow window")
	}
	return lost
}

// settles waits until something holds, with patience for a busy machine.
func settles(condition string, patience time.Duration) string {
	return fmt.Sprintf(`(async () => {
		for (const begin = performance.now(); performance.now() - begin < %d;) {
			if (%s) return true
			await new Promise(next => requestAnimationFrame(next))
		}
		return false
	})()`, patience.Milliseconds(), condition)
}

// pointAt has the pointer do something in the middle of an element.
func pointAt(ctx context.Context, selector string, kinds ...input.DispatchMouseEventType) error {
	at, err := chromedp.Run(ctx, chromedp.Evaluate[[2]float64](fmt.Sprintf(`(box => [box.x + box.width / 2, box.y + box.height / 2])((e => (e.scrollIntoView({block: 'center', behavior: 'instant'}), e.getBoundingClientRect()))(document.querySelector(%q)))`, selector)))
	for _, kind := range kinds {
		if err == nil {
			err = chromedp.Do(ctx, chromedp.MouseEvent(kind, at[0], at[1], chromedp.ButtonLeft, chromedp.ClickCount(1)))
		}
	}
	return err
}

// frames scrolls through a page, a tenth of a window each frame, and returns how long the longest frame took, how many took longer than 50 ms,
// and how long the longest task of the page was, in ms; and how long it took from the begin of the navigation until the page was loaded.
const frames = `new Promise(done => {
	let longest = 0, slow = 0, task = 0, last = performance.now()
	new PerformanceObserver(list => list.getEntries().forEach(entry => task = Math.max(task, entry.duration))).observe({type: 'longtask', buffered: true})
	scrollTo({top: 0, behavior: 'instant'})
	const frame = now => {
		longest = Math.max(longest, now - last); slow += now - last > 50; last = now
		if (innerHeight + scrollY >= document.documentElement.scrollHeight - 1) {
			const load = performance.getEntriesByType('navigation')[0]
			return setTimeout(() => done({longest, slow, task, loaded: load.loadEventEnd - load.startTime}), 100)
		}
		scrollBy({top: innerHeight / 10, behavior: 'instant'})
		requestAnimationFrame(frame)
	}
	requestAnimationFrame(now => { last = now; requestAnimationFrame(frame) })
})`

// BenchmarkPageOfAMillionEvents scrolls in Chromium through the page of a log of a million events, or of MILLION, and as the peer through a page of
// the same height on which there is nothing. FIREDRILL_SCREENSHOTS keeps a picture.
func BenchmarkPageOfAMillionEvents(b *testing.B) {
	count, err := strconv.Atoi(cmp.Or(os.Getenv("MILLION"), "1000000"))
	if err != nil {
		b.Fatal(err)
	}
	text, events := crowded(b, count)
	ctx := chromium(b)
	address := filed(b, text)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(address)); err != nil {
		b.Fatal(err)
	}
	height, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.documentElement.scrollHeight`))
	if err != nil {
		b.Fatal(err)
	}
	if directory := os.Getenv("FIREDRILL_SCREENSHOTS"); directory != "" {
		picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err == nil {
			err = os.WriteFile(directory+"/million.png", picture, 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	type seen struct{ Longest, Slow, Task, Loaded float64 }
	for b.Loop() {
		for _, page := range []struct{ name, address string }{
			{"", address}, {"empty-", filed(b, fmt.Sprintf(`<!doctype html><title>nothing</title><body style="margin:0;height:%dpx">`, height))},
		} {
			worst := seen{}
			const times = 3
			for range times {
				if err := chromedp.Do(ctx, chromedp.Navigate(page.address)); err != nil {
					b.Fatal(err)
				}
				one, err := chromedp.Run(ctx, chromedp.Evaluate[seen](frames, chromedp.EvalAwaitPromise))
				if err != nil {
					b.Fatal(err)
				}
				worst = seen{max(worst.Longest, one.Longest), max(worst.Slow, one.Slow), max(worst.Task, one.Task), max(worst.Loaded, one.Loaded)}
			}
			b.ReportMetric(worst.Loaded, page.name+"loaded-ms")
			b.ReportMetric(worst.Longest, page.name+"longest-frame-ms")
			b.ReportMetric(worst.Slow, page.name+"frames-over-50ms")
			b.ReportMetric(worst.Task, page.name+"longest-task-ms")
		}
	}
	b.ReportMetric(float64(events), "events")
	b.ReportMetric(float64(len(text))/(1<<20), "MiB-of-2")
	b.ReportMetric(0, "ns/op")
}
