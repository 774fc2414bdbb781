package fleettest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/history"
)

// BenchmarkStart starts a server on a history of 1,000, 10,000 and 100,000 runs of two hosts each, with as many drills and verdicts, and prints how
// long it takes until it leads, by the clock and by the processor: as it was stopped, and as a kill leaves it, when the engine finds no index of what it keeps.
func BenchmarkStart(b *testing.B) {
	for _, size := range []int{1_000, 10_000, 100_000} {
		directory := filepath.Join(b.TempDir(), "fleet")
		grow(b, directory, size, 1)
		for name, before := range map[string]func(){"stopped": func() {}, "killed": func() { forget(b, directory) }} {
			b.Run(strconv.Itoa(size)+"/"+name, func(b *testing.B) {
				for range b.N {
					b.StopTimer()
					before()
					used := processor(b)
					b.StartTimer()
					c, err := control.Open(b.Context(), grown(directory))
					if err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					b.ReportMetric((processor(b)-used).Seconds()*1000, "ms-of-processor")
					if _, all := c.Runs("", 1, nil); all != size {
						b.Fatalf("%d of %d runs", all, size)
					}
					if _, all := c.Records("bookstore", "", 1); all != size {
						b.Fatalf("%d of %d verdicts", all, size)
					}
					if err := c.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// processor is the processor time that this process has used: what a busy machine does not change.
func processor(tb testing.TB) time.Duration {
	tb.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func grown(directory string) control.Options {
	return control.Options{Directory: directory, Listen: "127.0.0.1:0", Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.DiscardHandler)}
}

// forget takes away what an engine that is killed has had no time to write.
func forget(tb testing.TB, directory string) {
	tb.Helper()
	if err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "index.db" {
			return os.Remove(path)
		}
		return err
	}); err != nil {
		tb.Fatal(err)
	}
}

// grow fills the directory of a server with a history of years: what a server writes one by one, and on the disk before it goes on, in one go.
// It is of one service, or of as many as those of a crowd, with its hosts.
func grow(tb testing.TB, directory string, size, services int) {
	tb.Helper()
	c, err := control.Open(tb.Context(), grown(directory))
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Close(); err != nil {
		tb.Fatal(err)
	}
	engine, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: filepath.Join(directory, "engine"), NoSigs: true, DisableJetStreamBanner: true})
	if err != nil {
		tb.Fatal(err)
	}
	engine.Start()
	defer func() { engine.Shutdown(); engine.WaitForShutdown() }()
	if !engine.ReadyForConnections(patience) {
		tb.Fatal("the engine does not begin")
	}
	conn, err := nats.Connect("", nats.InProcessServer(engine))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		tb.Fatal(err)
	}
	put := func(subject string, value any) {
		text, err := json.Marshal(value)
		if err == nil {
			_, err = js.PublishAsync(subject, text)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	began := time.Now().Add(-time.Duration(size) * time.Hour)
	for i := range size {
		at := began.Add(time.Duration(i) * time.Hour)
		service, name := "bookstore", func(host int) string { return fmt.Sprintf("web%d", host) }
		if services > 1 {
			service, name = fmt.Sprintf("s%03d", i%services), func(host int) string { return fmt.Sprintf("host%05d", i%services+(i/services+host)%40*services) }
		}
		run := fleet.Run{ID: aged(at, i), By: "otto", Kind: []string{"cpu", "io"}[i%2], Args: []string{"-l", "60"}, Seed: uint64(i), Services: []string{service}, Issued: at, Start: at, Deadline: at.Add(time.Minute), State: fleet.RunEnded}
		for host := range 2 {
			key, order := fmt.Sprintf("U%055d", host), aged(at, size+2*i+host)
			run.Hosts = append(run.Hosts, fleet.RunHost{Key: key, Name: name(host), Order: order, State: fleet.HostEnded, Bit: true, Reverted: true, Lines: 1, Chain: "whole"})
			var text strings.Builder
			if _, err := history.NewWriter(&text).Append(history.New(at, "web", &history.AttackAccount{GUID: order, Attack: run.Kind, Bit: true, Reverted: true, Evidence: []string{"two processors were busy for a minute, and nobody else had them"}})); err != nil {
				tb.Fatal(err)
			}
			put("fd.kept."+key+"."+order, fleet.Journal{Order: order, Lines: []string{strings.TrimSuffix(text.String(), "\n")}, End: &fleet.End{Reverted: true, Why: "deadline"}})
		}
		put("$KV.runs."+run.ID, run)
		result := fmt.Sprintf("%s-%06x", at.UTC().Format("20060102T150405Z"), i)
		put("$KV.drills."+run.ID, fleet.DrillRun{ID: run.ID, Request: fleet.DrillRequest{Service: service, Drill: "lose-db"}, By: "otto", Trigger: "schedule", Hosts: []string{name(1)}, Kinds: []string{"blackhole"}, Started: at, Until: at.Add(time.Hour), State: fleet.DrillEnded, Result: result, Ended: at, Outcome: "passed"})
		put("fd.history."+service, fleet.Record{ID: result, Service: service, Outcome: "passed", Started: at, Finished: at.Add(time.Minute), Steps: []fleet.RecordStep{{Name: "drill lose-db on green", Kind: "drill", Outcome: "passed", RTO: &fleet.RecordFigure{Seconds: float64(i%60) / 4, Bound: 0.1, Allowed: 30}}}})
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(10 * time.Minute):
		tb.Fatal("the engine does not keep up")
	}
}

// aged is a name like a run's, which sorts by its time.
func aged(at time.Time, number int) string {
	return fmt.Sprintf("%08x-%04x-7000-8000-%012x", at.UnixMilli()>>16, at.UnixMilli()&0xffff, number)
}
