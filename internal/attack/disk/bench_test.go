package disk

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/worker"
	"firedrill/internal/attack/worker/workertest"
)

// fillPairs is how often each of the two fills the volume.
const fillPairs = 9

// BenchmarkFill prints how far from 95 % a sparse volume of 10 GiB ends up, how long that takes from the start of the worker, beside
// fallocate for as many bytes, and how long until the room is free again after the worker is killed: medians of pairs in which now the one
// and now the other comes first. How long each takes for next to nothing, which is to start a program, is printed too, and what is left
// without that. What is furthest off is printed, not the median.
func BenchmarkFill(b *testing.B) {
	directory := sparseVolume(b)
	var off float64
	of := map[string][]float64{}
	note := func(what string, value float64) { of[what] = append(of[what], value) }
	for range b.N {
		for pair := range fillPairs {
			var theirs, theirStart float64
			peer := func() { theirStart, theirs = fallocate(b, directory, 0), fallocate(b, directory, benchShare) }
			if pair%2 == 0 {
				peer()
			}
			start, _, _ := filled(b, directory, 0)
			took, freed, points := filled(b, directory, benchShare)
			if pair%2 == 1 {
				peer()
			}
			off = max(off, points, -points)
			note("ms-fill", took)
			note("ms-fill-without-start", took-start)
			note("ms-revert", freed)
			if theirs > 0 {
				note("ms-fallocate", theirs)
				note("ms-fallocate-without-start", theirs-theirStart)
				note("x-fallocate", took/theirs)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of no meaning here
	b.ReportMetric(off, "points-off-worst")
	for what, all := range of {
		b.ReportMetric(median(all), what)
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

func since(began time.Time) float64 { return float64(time.Since(began).Microseconds()) / 1000 }

// benchShare is the percent of the volume that is to be full.
const benchShare = 95

// filled fills the volume once to a share, or as it is: how many milliseconds that took, how many the way back, and how many points it was off.
func filled(b *testing.B, directory string, share float64) (took, freed, points float64) {
	b.Helper()
	before, err := worker.Volume(directory)
	if err != nil {
		b.Fatal(err)
	}
	if share == 0 {
		share = before.Percent() + 0.01
	}
	plan, err := Order{Length: time.Minute, Directory: directory, Workers: 1, Block: 4 * kilo, Percent: share}.Plan(attack.Facts{GUID: at.GUID, Volume: before})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := plan.Steps[0].Apply(context.Background(), began.Add(time.Minute)); err != nil {
		b.Fatal(err)
	}
	took = since(began)
	full, err := worker.Volume(directory)
	if err != nil {
		b.Fatal(err)
	}
	began = time.Now()
	if err := plan.Steps[0].Revert(context.Background()); err != nil {
		b.Fatal(err)
	}
	return took, since(began), full.Percent() - share
}

// fallocate takes as many bytes as are missing to a share, or a block, and returns how many milliseconds that took; 0 where there is no such
// program.
func fallocate(b *testing.B, directory string, share float64) float64 {
	b.Helper()
	path, err := exec.LookPath("fallocate")
	if err != nil {
		return 0
	}
	before, err := worker.Volume(directory)
	if err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(directory, "theirs")
	began := time.Now()
	if out, err := exec.Command(path, "-l", strconv.FormatInt(max(missing(before, share), 4*kilo), 10), name).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	took := since(began)
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
