package disk

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/worker"
	"firedrill/internal/attack/worker/workertest"
)

// BenchmarkFill prints how far from 95 % a sparse volume of 10 GiB ends up, how long that takes from the start of the worker, beside
// fallocate for as many bytes, and how long until the room is free again after the worker is killed.
func BenchmarkFill(b *testing.B) {
	const share = 95
	directory := sparseVolume(b)
	var off float64
	var ours, theirs, back time.Duration
	for range b.N {
		before, err := worker.Volume(directory)
		if err != nil {
			b.Fatal(err)
		}
		plan, err := Order{Length: time.Minute, Directory: directory, Workers: 1, Block: 4 * kilo, Percent: share}.Plan(attack.Facts{GUID: at.GUID, Volume: before})
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := plan.Steps[0].Apply(context.Background(), began.Add(time.Minute)); err != nil {
			b.Fatal(err)
		}
		ours = time.Since(began)
		full, err := worker.Volume(directory)
		if err != nil {
			b.Fatal(err)
		}
		off = full.Percent() - share
		began = time.Now()
		if err := plan.Steps[0].Revert(context.Background()); err != nil {
			b.Fatal(err)
		}
		back = time.Since(began)
		theirs = fallocate(b, directory, missing(before, share))
	}
	b.ReportMetric(off, "points-off")
	b.ReportMetric(float64(ours.Microseconds())/1000, "ms-fill")
	b.ReportMetric(float64(back.Microseconds())/1000, "ms-revert")
	if theirs > 0 {
		b.ReportMetric(float64(theirs.Microseconds())/1000, "ms-fallocate")
		b.ReportMetric(float64(ours)/float64(theirs), "x-fallocate")
	}
}

func fallocate(b *testing.B, directory string, bytes int64) time.Duration {
	b.Helper()
	path, err := exec.LookPath("fallocate")
	if err != nil {
		return 0
	}
	name := filepath.Join(directory, "theirs")
	began := time.Now()
	if out, err := exec.Command(path, "-l", strconv.FormatInt(bytes, 10), name).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	took := time.Since(began)
	if err := os.Remove(name); err != nil {
		b.Fatal(err)
	}
	return took
}

// sparseVolume makes an ext4 volume of 10 GiB, of which only what is described takes memory.
func sparseVolume(b *testing.B) string {
	b.Helper()
	return extVolumeOn(b, workertest.Tmpfs(b, 512), 10<<10)
}
