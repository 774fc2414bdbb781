package fleettest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"firedrill/internal/fleet"
	"firedrill/internal/history"
	"firedrill/internal/web/account"
)

const (
	pagesRuns     = 100_000
	pagesHosts    = 10_000
	pagesServices = 200
	pagesAudit    = 200_000 // lines
	pagesSchedule = 1000    // as many as there can be
	pagesLooks    = 5       // at each page; the median counts
	pagesPatience = time.Minute
)

// BenchmarkPages opens every page of the dashboard in Chromium, with 100,000 runs, drills and verdicts of 200 services kept and 10,000 light agents there, on a server in a
// process of its own that goes on hearing them. It prints of each page when the first of it was painted, counted from the moment when it was asked for (milliseconds, the
// median of five), how large it is (KiB) and of how many elements; and the memory of the server before and after.
// FIREDRILL_PAGES=RUNS,HOSTS measures with others.
func BenchmarkPages(b *testing.B) {
	runs, hosts := pagesRuns, pagesHosts
	if asked := os.Getenv("FIREDRILL_PAGES"); asked != "" {
		if _, err := fmt.Sscanf(asked, "%d,%d", &runs, &hosts); err != nil {
			b.Fatal(err)
		}
	}
	directory := b.TempDir()
	grow(b, filepath.Join(directory, "fleet"), runs, pagesServices)
	writeAudit(b, filepath.Join(directory, "fleet", "audit"))
	book := account.Open(filepath.Join(directory, "fleet", "users.json"))
	if err := book.Put(account.User{Name: "ada", Role: fleet.RoleAdmin}, dashPassword, time.Now().Add(-time.Minute)); err != nil {
		b.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		b.Fatal(err)
	}
	at := free.Addr().String()
	_ = free.Close()
	c := newCrowdIn(b, hosts, directory, "--fleet-http", at)
	for i := range pagesServices / 2 {
		c.call("putservice", fleet.PutService{Text: strings.NewReplacer("service: shop", fmt.Sprintf("service: s%03d", i), "drills:\n", "drills:\n  lose-db:\n    cadence: 28d\n    on: idle environment\n    attack: {cpu: {length: 1s}}\n    expect: [answer stays]\n").Replace(stageFile)}, nil)
	}
	for i := range pagesSchedule {
		c.call("schedule", fleet.ScheduleRequest{Name: fmt.Sprintf("weekly-%04d", i), Cron: fmt.Sprintf("%d %d * * TUE Europe/Berlin", i%59, i%24), Window: "Mon-Fri 00:00-23:59 Europe/Berlin", Drill: &fleet.DrillRequest{Service: fmt.Sprintf("s%03d", i%(pagesServices/2)), Drill: "lose-db"}}, nil)
	}
	var run []fleet.Run
	c.call("runs", nil, &run)
	b.ReportMetric(c.resident(), "MiB_before")
	page := window(b)
	measure := func(path string) (painted time.Duration, bytes, elements int) {
		var all []time.Duration
		for range pagesLooks {
			ctx, cancel := context.WithTimeout(page, pagesPatience)
			if err := chromedp.Do(ctx, chromedp.Navigate("https://"+at+path), chromedp.WaitReady("#main")); err != nil {
				b.Fatalf("%s: %v", path, err)
			}
			var seen []float64
			if err := awaited(func() (err error) {
				seen, err = chromedp.Run(ctx, chromedp.Evaluate[[]float64](`(() => { const p = performance.getEntriesByName("first-contentful-paint")[0], n = performance.getEntriesByType("navigation")[0]; return p ? [p.startTime, n.decodedBodySize, document.querySelectorAll("*").length] : []; })()`))
				if err == nil && len(seen) != 3 {
					err = fmt.Errorf("%s is not painted", path)
				}
				return err
			}, patience); err != nil {
				b.Fatal(err)
			}
			cancel()
			all = append(all, time.Duration(seen[0]*float64(time.Millisecond)))
			bytes, elements = int(seen[1]), int(seen[2])
		}
		slices.Sort(all)
		return all[len(all)/2], bytes, elements
	}
	if err := chromedp.Do(page, chromedp.Navigate("https://"+at+"/login"), chromedp.WaitReady("#name"), chromedp.SendKeys("#name", "ada"), chromedp.SendKeys("#password", dashPassword), chromedp.Click("button.go"), chromedp.WaitVisible("a.halt")); err != nil {
		b.Fatal(err)
	}
	var drills []fleet.DrillRun
	c.call("drills", nil, &drills)
	paths := []string{"/", "/services", "/services?name=s07", "/services/s007", "/drills", "/drills?service=s007", "/drills?verdict=failed", "/drills/" + drills[0].ID, "/runs", "/runs?service=s007", "/runs?kind=nothing", "/runs?before=" + aged(time.Now().Add(-time.Duration(runs/2)*time.Hour), 0), "/runs/" + run[0].ID,
		"/fleet", "/fleet/hosts", "/fleet/hosts?name=host099", "/fleet/hosts?after=host05000", "/fleet/hosts/host00007", "/fleet/hosts/host09999", "/attack", "/services/s007/drill", "/services/put?service=s007", "/alarms", "/schedule", "/schedule?service=s007", "/playbooks", "/audit", "/audit?q=number+7", "/audit?q=nothing+holds+this", "/halt", "/halt/report", "/lever", "/settings", "/settings/factor", "/runs/nothing"}
	for range b.N {
		for _, path := range paths {
			if path == "/fleet/hosts/host09999" && hosts < 10_000 {
				continue
			}
			painted, bytes, elements := measure(path)
			fmt.Printf("%-40s %6d ms %7.1f KiB %6d elements\n", path, painted.Milliseconds(), float64(bytes)/1024, elements)
		}
	}
	b.ReportMetric(c.resident(), "MiB_after")
	b.ReportMetric(0, "ns/op")
	c.close()
}

// writeAudit writes an audit log of years.
func writeAudit(tb testing.TB, directory string) {
	tb.Helper()
	if err := os.MkdirAll(directory, 0o700); err != nil {
		tb.Fatal(err)
	}
	began := time.Now().Add(-pagesAudit * time.Minute)
	file, err := os.Create(filepath.Join(directory, began.UTC().Format("20060102T150405.000000000Z")+".jsonl"))
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	writer := history.NewWriter(file)
	for i := range pagesAudit {
		if _, err := writer.Append(history.New(began.Add(time.Duration(i)*time.Minute), "control", &history.Note{Text: "otto orders cpu [\"-l\" \"60\"] on 2 hosts: run number " + strconv.Itoa(i)})); err != nil {
			tb.Fatal(err)
		}
	}
}
