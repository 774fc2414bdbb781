package cpu

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
)

// benchShares are the shares of which the error is printed.
var benchShares = []int{5, 25, 50, 75, 90}

// benchSpan is how long each share is held: several periods of any monitor, and short enough for a bench.
const benchSpan = 4 * time.Second

// BenchmarkShareHeld prints by how many points the share of a core that is held is off what was asked, by the kernel's accounts of the
// child that burned it, for this program and for stress-ng where that is installed.
func BenchmarkShareHeld(b *testing.B) {
	for _, percent := range benchShares {
		b.Run(strconv.Itoa(percent), func(b *testing.B) {
			var ours, theirs float64
			for range b.N {
				ours = oursHeld(b, float64(percent), benchSpan)
				theirs = stressHeld(b, percent, benchSpan)
			}
			b.ReportMetric(ours-float64(percent), "points-off")
			if theirs > 0 {
				b.ReportMetric(theirs-float64(percent), "points-off-stress-ng")
			}
		})
	}
}

// BenchmarkShareHeldForAMinute is the same for one share over a minute: errors must not add up.
func BenchmarkShareHeldForAMinute(b *testing.B) {
	const percent = 50
	for range b.N {
		b.ReportMetric(oursHeld(b, percent, time.Minute)-percent, "points-off")
		if theirs := stressHeld(b, percent, time.Minute); theirs > 0 {
			b.ReportMetric(theirs-percent, "points-off-stress-ng")
		}
	}
}

func oursHeld(b *testing.B, percent float64, long time.Duration) float64 {
	b.Helper()
	var facts attack.Facts
	order := Order{Length: 2 * time.Minute, Cores: 1, Percent: percent}
	if err := order.Survey(context.Background(), &facts); err != nil {
		b.Fatal(err)
	}
	facts.GUID = at.GUID
	plan, err := order.Plan(facts)
	if err != nil {
		b.Fatal(err)
	}
	step := plan.Steps[0]
	if err := step.Apply(context.Background(), time.Now().Add(2*time.Minute)); err != nil {
		b.Fatal(err)
	}
	before, began := childrenTime(b), time.Now()
	<-time.After(long)
	span := time.Since(began)
	// Its whole time counts, not only that of the thread which burns.
	if err := step.Revert(context.Background()); err != nil {
		b.Fatal(err)
	}
	return 100 * float64(childrenTime(b)-before) / float64(span)
}

func stressHeld(b *testing.B, percent int, long time.Duration) float64 {
	b.Helper()
	path, err := exec.LookPath("stress-ng")
	if err != nil {
		return 0
	}
	before := childrenTime(b)
	out, err := exec.Command(path, "--cpu", "1", "--cpu-load", strconv.Itoa(percent), "--taskset", "0", "--timeout", fmt.Sprintf("%ds", int(long.Seconds()))).CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, strings.TrimSpace(string(out)))
	}
	return 100 * float64(childrenTime(b)-before) / float64(long)
}

// childrenTime is the processor time of all children that were waited for.
func childrenTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
