package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/worker"
	"firedrill/internal/attack/worker/workertest"
)

const (
	fillPairs  = 31 // how often each of the two fills the volume
	benchShare = 95 // percent of the volume that are to be full
	// fillLook is how exact the times are.
	fillLook = 50 * time.Microsecond
	// fillHeld is long after the volume is full, and before anybody lets go.
	fillHeld = 50 * time.Millisecond
	fillWait = 10 * time.Second
)

// BenchmarkFill prints, in one run and by turns, the time from exec of the program as it is shipped until a sparse volume is seen full
// to 95 %, and the same for fallocate with as many bytes; how far off the share is while the attack is in force, of all rounds the worst; and how
// long until the room is free again after the attack is killed with its worker. Two sizes tell the start of our processes, which is the same for
// both, from the filling.
func BenchmarkFill(b *testing.B) {
	peer, err := exec.LookPath("fallocate")
	if err != nil {
		b.Skip("there is no fallocate to compare with")
	}
	program := at.Ship(b)
	for _, gigabytes := range []int64{10, 100} {
		b.Run(fmt.Sprintf("%dGiB", gigabytes), func(b *testing.B) { benchmarkFill(b, program, peer, sparseVolume(b, gigabytes)) })
	}
}

func benchmarkFill(b *testing.B, program, peer, directory string) {
	var off float64
	var ours, theirs, freed, ratios []float64
	for pairs := 0; pairs < fillPairs || b.Loop(); pairs++ {
		took, points, back := filledByUs(b, program, directory)
		other := filledBy(b, peer, directory)
		ours, theirs, freed, ratios = append(ours, took), append(theirs, other), append(freed, back), append(ratios, took/other)
		off = max(off, points, -points)
	}
	b.ReportMetric(0, "ns/op") // of no meaning here
	b.ReportMetric(off, "points-off-worst")
	b.ReportMetric(median(ours), "ms-fill")
	b.ReportMetric(median(theirs), "ms-fallocate")
	b.ReportMetric(median(ratios), "x-fallocate")
	b.ReportMetric(median(freed), "ms-killed-to-free")
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

func since(began time.Time) float64 { return float64(time.Since(began).Microseconds()) / 1000 }

// until looks at the volume until it is as it should be.
func until(b *testing.B, directory string, ok func(percent float64) bool) {
	b.Helper()
	for began := time.Now(); ; <-time.After(fillLook) {
		volume, err := worker.Volume(directory)
		switch {
		case err != nil:
			b.Fatal(err)
		case ok(volume.Percent()):
			return
		case time.Since(began) > fillWait:
			b.Fatalf("the volume stays at %.2f %%", volume.Percent())
		}
	}
}

func full(percent float64) bool { return percent >= benchShare-tolerance }

// filledByUs fills the volume once: how many milliseconds that took, how many points it was off, and how many milliseconds the way back took.
func filledByUs(b *testing.B, program, directory string) (took, off, freed float64) {
	b.Helper()
	before, err := worker.Volume(directory)
	if err != nil {
		b.Fatal(err)
	}
	attack := exec.Command(program, "attack", "disk", "--length=60", "--dir="+directory, "--percent="+strconv.Itoa(benchShare))
	began := time.Now()
	if err := attack.Start(); err != nil {
		b.Fatal(err)
	}
	until(b, directory, full)
	took = since(began)
	<-time.After(fillHeld)
	held, err := worker.Volume(directory)
	if err != nil {
		b.Fatal(err)
	}
	began = time.Now()
	_ = attack.Process.Kill()
	until(b, directory, func(percent float64) bool { return percent <= before.Percent() })
	freed = since(began)
	_ = attack.Wait() // killed
	return took, held.Percent() - benchShare, freed
}

// filledBy fills the volume by fallocate with as many bytes as are missing.
func filledBy(b *testing.B, peer, directory string) (took float64) {
	b.Helper()
	before, err := worker.Volume(directory)
	if err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(directory, "theirs")
	run := exec.Command(peer, "-l", strconv.FormatInt(missing(before, benchShare), 10), name)
	began := time.Now()
	if err := run.Start(); err != nil {
		b.Fatal(err)
	}
	until(b, directory, full)
	took = since(began)
	if err := run.Wait(); err != nil {
		b.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		b.Fatal(err)
	}
	until(b, directory, func(percent float64) bool { return percent <= before.Percent() })
	return took
}

// sparseVolume makes an ext4 volume, of which only what is described takes memory.
func sparseVolume(b *testing.B, gigabytes int64) string {
	b.Helper()
	return extVolumeOn(b, workertest.Tmpfs(b, 2048), gigabytes<<10)
}
