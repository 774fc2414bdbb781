package fleettest

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/cli"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/lab"
)

// TestMain lets agents start this binary as the program that attacks: the real one in a lab, and one whose impact is a file elsewhere.
func TestMain(m *testing.M) {
	lab.Reexec()
	if code, ours := hostfacts.Reexec(os.Args, os.Stdout, os.Stderr); ours {
		os.Exit(code)
	}
	if len(os.Args) == 3 && roles[os.Args[1]] != nil {
		os.Exit(inRole(roles[os.Args[1]], os.Args[2]))
	}
	if len(os.Args) > 3 && os.Args[1] == "fake" {
		os.Exit(fake(os.Args[2], os.Args[3], os.Args[4:]))
	}
	if !(len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "-test.")) && !strings.HasSuffix(os.Args[0], ".test") {
		os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// fake is firedrill as an agent sees it, on a host that is a directory: an impact is a file there with the process that keeps it up.
func fake(directory, command string, args []string) int {
	switch command {
	case "attack":
		return fakeAttack(directory, args)
	case "status":
		left := takeBackDead(directory)
		status := map[string]any{"running": []any{}, "residue": []string{}}
		if len(left) > 0 {
			status["residue"] = left
		}
		return printed(status)
	case "halt":
		ended := []map[string]string{}
		for _, path := range impacts(directory) {
			if pid := holder(path); pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				ended = append(ended, map[string]string{"guid": strings.TrimPrefix(filepath.Base(path), "impact-")})
			}
			_ = os.Remove(path)
		}
		return printed(map[string]any{"ended": ended, "left": []string{}})
	}
	return 2
}

// deed is a line of what a host really did, whoever knows of it.
type deed struct {
	Order  string    `json:"order"`
	At     time.Time `json:"at"`
	Begins bool      `json:"begins"`
}

// absentFile is on a host that has nothing of what any attack names, and holds its words for it.
const absentFile = "absent"

const deedsFile = "deeds.jsonl"

func note(directory string, d deed) {
	file, err := os.OpenFile(filepath.Join(directory, deedsFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_ = json.NewEncoder(file).Encode(d) // one write: who kills us tears no line
	_ = file.Close()
}

func impacts(directory string) []string {
	found, _ := filepath.Glob(filepath.Join(directory, "impact-*"))
	return found
}

func holder(path string) int {
	text, _ := os.ReadFile(path)
	pid, _ := strconv.Atoi(string(text))
	return pid
}

// takeBackDead does what the start of any command does: what a dead attack left is undone.
func takeBackDead(directory string) (left []string) {
	for _, path := range impacts(directory) {
		if syscall.Kill(holder(path), 0) != nil {
			_ = os.Remove(path)
		} else {
			left = append(left, filepath.Base(path))
		}
	}
	return left
}

func printed(value any) int {
	if json.NewEncoder(os.Stdout).Encode(value) != nil {
		return 70
	}
	return 0
}

// fakeAttack knows two kinds: cpu, and io, which does not heed SIGTERM.
func fakeAttack(directory string, args []string) int {
	kind, args := args[0], args[1:]
	flags := flag.NewFlagSet(kind, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	guid, length := flags.String("guid", "", ""), flags.Float64("l", 1, "")
	flags.Float64Var(length, "length", 1, "")
	dry := flags.Bool("dry-run", false, "")
	_, _ = flags.Bool("json", false, ""), flags.Bool("yes", false, "")
	say := func(fact history.Fact) { _ = printed(history.New(time.Now(), "fake", fact)) }
	if err := flags.Parse(args); err != nil || !slices.Contains([]string{"cpu", "io"}, kind) {
		say(&history.AttackRefused{Attack: kind, Reason: fmt.Sprintf("not understood: %v", err), Cure: "mend it"})
		return 2
	}
	if text, err := os.ReadFile(filepath.Join(directory, absentFile)); err == nil {
		say(&history.AttackRefused{Attack: kind, Reason: string(text), Cure: "see: crictl pods", Absent: true})
		return 2
	}
	lasts := time.Duration(*length * float64(time.Second))
	if *dry {
		return printed(map[string]any{"guid": *guid, "length_seconds": drill.Seconds(lasts)})
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if kind == "io" {
		signal.Reset(syscall.SIGTERM)
		signal.Ignore(syscall.SIGTERM)
	}
	lost := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(lost) }()
	path := filepath.Join(directory, "impact-"+*guid)
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return 70
	}
	began := time.Now()
	note(directory, deed{Order: *guid, At: began, Begins: true})
	say(&history.AttackPlanned{GUID: *guid, Attack: kind, Host: "fake", Length: drill.Seconds(lasts), Steps: []string{"hold " + path}, Remains: "nothing"})
	say(&history.AttackInForce{GUID: *guid, Until: began.Add(lasts)})
	why := "deadline"
	select {
	case <-time.After(lasts):
	case <-stop:
		why = "signal"
	case <-lost:
		why = "connection lost"
	}
	_ = os.Remove(path)
	note(directory, deed{Order: *guid, At: time.Now()})
	say(&history.AttackReverted{GUID: *guid, Why: why})
	say(&history.AttackAccount{GUID: *guid, Attack: kind, Bit: true, Reverted: true, InForceAt: &began})
	if why != "deadline" {
		return 143
	}
	return 0
}
