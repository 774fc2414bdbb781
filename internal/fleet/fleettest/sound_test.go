package fleettest

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

//go:embed testdata/sound.js
var soundScript string

// looks are the ways in which a page is looked at: each scheme and each width once. 320 pixels are a small phone, and a window of 1280 at 400 %.
var looks = []struct {
	scheme        string
	width, height int64
}{{"light", 1440, 900}, {"dark", 320, 640}}

func (b *browser) as(scheme string, width, height int64) {
	b.d.t.Helper()
	b.do("look "+scheme, chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
}

// stumbles are what people would stumble over on the page as it is shown now.
func (b *browser) stumbles() []string {
	b.d.t.Helper()
	return append(found(b, chromedp.Evaluate[[]string](soundScript)), found(b, chromedp.Action[[]string](unnamed))...)
}

// unnamed are what a screen reader would come to and could not name, and landmarks that are not there, by the tree that Chromium gives to it.
func unnamed(ctx context.Context, _ *chromedp.Target) ([]string, error) {
	tree, err := chromedp.Call(ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		return nil, err
	}
	named := []string{"link", "button", "textbox", "combobox", "checkbox", "image", "img", "searchbox", "DisclosureTriangle", "table", "navigation", "group", "region", "search"}
	var all []string
	seen := map[string]int{}
	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		role, name := valueOf(node.Role), valueOf(node.Name)
		seen[role]++
		if slices.Contains(named, role) && strings.TrimSpace(name) == "" && role != "group" {
			all = append(all, fmt.Sprintf("a %s without a name (node %s)", role, node.NodeID))
		}
	}
	if seen["main"] != 1 || seen["heading"] == 0 || seen["contentinfo"] != 1 {
		all = append(all, fmt.Sprintf("landmarks are missing: %v", seen))
	}
	return all, nil
}

func valueOf(value *accessibility.Value) string {
	if value == nil {
		return ""
	}
	return strings.Trim(string(value.Value), `"`)
}

// sound looks at the page in each way, and tells what people would stumble over.
func (b *browser) sound(name string) {
	b.d.t.Helper()
	for _, look := range looks {
		b.as(look.scheme, look.width, look.height)
		for _, what := range b.stumbles() {
			b.d.t.Errorf("%s, %s, %d wide: %s", name, look.scheme, look.width, what)
		}
	}
	b.as("light", 1280, 900)
}

// TestWhatPeopleStumbleOverIsCaught spoils a page that is sound, and looks whether that is seen.
func TestWhatPeopleStumbleOverIsCaught(t *testing.T) {
	t.Parallel()
	d := seededDashboard(t)
	b := newBrowser(d)
	b.login("otto")
	for name, planted := range map[string]struct{ path, spoil, says string }{
		"pale text":              {"/runs", `document.querySelector("h1").style.color = "#c0c0c0"`, "contrast"},
		"pale words of a table":  {"/services", `document.querySelectorAll("th").forEach((e) => e.style.color = "#9aa5ae")`, "contrast"},
		"a pale bar":             {"/fleet", `document.querySelectorAll(".condition rect").forEach((e) => e.style.fill = "#dddddd")`, "mark"},
		"pale words on a trend":  {"/services/bookstore", `document.querySelectorAll(".trend text").forEach((e) => e.style.fill = "#c8c8c8")`, "contrast"},
		"a field without border": {"/attack", `document.querySelectorAll("input").forEach((e) => e.style.borderColor = "#eeeeee")`, "border"},
		"a field without a name": {"/runs", `document.querySelector("[name=kind]").closest("label").replaceWith(document.querySelector("[name=kind]"))`, "textbox without a name"},
		"a link without words":   {"/runs", `document.querySelector(".title a").textContent = ""`, "link without a name"},
		"a picture without one":  {"/fleet", `document.querySelector(".condition").removeAttribute("aria-label")`, "without a name"},
		"a table without one":    {"/services", `document.querySelector("caption").remove()`, "table"},
		"an order of its own":    {"/attack", `document.querySelector("[name=kind]").tabIndex = 3`, "out of order"},
		"too wide":               {"/settings", `document.querySelector("h1").style.width = "2000px"`, "wider than the window"},
		"text over an edge":      {"/settings", `document.querySelector(".button").style.cssText = "width: 40px; white-space: nowrap; overflow: hidden"`, "runs over its edge"},
		"a time without a zone":  {"/services", `document.querySelectorAll("thead th").forEach((e) => e.textContent = e.textContent.replace(" (UTC)", ""))`, "without a zone"},
		"no heading":             {"/audit", `document.querySelector("h1").remove()`, "first level"},
		"an empty value":         {"/fleet/hosts/web1", `document.querySelector("dd").textContent = ""`, "empty"},
		"no landmark":            {"/audit", `document.querySelector("main").replaceWith(...document.querySelector("main").childNodes)`, "landmarks"},
	} {
		b.open(planted.path)
		found(b, chromedp.Evaluate[bool](`(() => { document.querySelector("#live")?.removeAttribute("id"); `+planted.spoil+`; return true; })()`))
		if got := b.stumbles(); !slices.ContainsFunc(got, func(one string) bool { return strings.Contains(one, planted.says) }) {
			t.Errorf("%s is not seen: %q", name, got)
		}
	}
	b.as("light", 320, 640)
	b.open("/runs")
	found(b, chromedp.Evaluate[bool](`(document.querySelector("table").style.cssText = "display: block; width: 600px") !== ""`))
	if got := b.stumbles(); !slices.ContainsFunc(got, func(one string) bool { return strings.Contains(one, "two directions") }) {
		t.Errorf("a table that scrolls sideways in a narrow window is not seen: %q", got)
	}
}
