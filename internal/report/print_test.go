package report_test

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"firedrill/internal/report"
	"firedrill/internal/verdict/verdicttest"
)

// paper is the width of a page of A4 with the browser's margins, in CSS pixels.
const paper = 718

// lossOnPaper returns what of a page a reader of the print would miss: tables and pictures that are wider than the paper, and checks without
// a place on it.
const lossOnPaper = `(() => {
	const lost = []
	if (document.documentElement.scrollWidth > innerWidth) lost.push('the page is ' + document.documentElement.scrollWidth + ' wide')
	for (const box of document.querySelectorAll('.scroll, svg, pre, code, dl, table')) {
		if (!box.getClientRects().length) continue
		if (box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== 'visible') lost.push(box.className + ' is cut at ' + box.clientWidth + ' of ' + box.scrollWidth)
		if (box.getBoundingClientRect().right > innerWidth + 1) lost.push(box.tagName + ' ends at ' + box.getBoundingClientRect().right)
	}
	for (const row of document.querySelectorAll('tr, article, .story li, .tiles li, .facts div, .list div')) {
		if (row.textContent.trim() && !row.getClientRects().length) lost.push('nothing is seen of ' + row.textContent.trim().slice(0, 40))
	}
	return lost
})()`

// chromium is a window of a headless one.
func chromium(t testing.TB) context.Context {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "chromium") {
			t.Fatal(err)
		}
		t.Skip("needs chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(2*time.Minute))
	allocated, end := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	browser, endWindow := chromedp.NewContext(allocated)
	if err := chromedp.Do(browser); err != nil { // starts it; it lives as long as the context of its first action
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(browser, 4*time.Minute)
	t.Cleanup(func() { cancel(); endWindow(); end() })
	return ctx
}

// filed writes a page where a browser finds it, and returns its address.
func filed(t testing.TB, page string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	return (&url.URL{Scheme: "file", Path: file}).String()
}

// The PDF of a run is its page, printed by a browser: nothing of it may be lost on the way.
func TestThePageIsPrintedWithoutLoss(t *testing.T) {
	ctx := chromium(t)
	onPaper := chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
		return err
	})
	lost := func(planted string) []string {
		t.Helper()
		found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](planted+lossOnPaper))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for name, twist := range map[string]verdicttest.Twist{"failed": verdicttest.FrozenDNS, "dead": verdicttest.DeadStandby, "passed": verdicttest.NoTwist} {
		in := told(twist)
		in.Annex = whole(recordOf(t, in))
		if err := chromedp.Do(ctx, onPaper, chromedp.EmulateViewport(paper, 1000), chromedp.Navigate(filed(t, render(t, report.HTML, in)))); err != nil {
			t.Fatal(err)
		}
		if found := lost(""); len(found) > 0 {
			t.Errorf("%s: lost on paper: %q", name, found)
		}
		var printed page.PrintToPDFResult
		err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) (err error) {
			printed, err = chromedp.Call(ctx, page.PrintToPDF, page.PrintToPDFParams{PrintBackground: new(true)})
			return err
		}))
		if err != nil || !bytes.HasPrefix(printed.Data, []byte("%PDF-")) || len(printed.Data) < 50_000 {
			t.Errorf("%s: a PDF of %d bytes (%v)", name, len(printed.Data), err)
		}
	}
	for what, planted := range map[string]string{
		"a table that is wider than the paper": `document.querySelector('table.checks').style.minWidth = '2000px'; `,
		"a step that is not shown":             `document.querySelector('article').style.display = 'none'; `,
		"a picture that runs out":              `document.querySelector('.picture.wide svg').style.width = '900px'; `,
	} {
		if err := chromedp.Do(ctx, chromedp.Reload()); err != nil {
			t.Fatal(err)
		}
		if len(lost(planted)) == 0 {
			t.Errorf("%s is not noticed", what)
		}
	}
}
