package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

var seed = flag.Uint64("seed", 0, "seed of the random instants; 0 takes a new one")

// demoMax bounds one demo, with its longest timeouts, on a slow and busy machine.
const demoMax = 5 * time.Minute

// person is who runs the program.
type person struct {
	name string
	uid  uint32
}

var (
	root     = person{"root", 0}
	ordinary = person{"an ordinary user", 65534}
)

// built is the program, once for all tests.
func built(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("the demo takes a minute; make test runs it")
	}
	if os.Getuid() != 0 {
		t.Fatal("these tests change to other users and need root; run make test as root")
	}
	// Below a directory of its own that everybody may enter: t.TempDir is for its owner only.
	directory, err := os.MkdirTemp("", "firedrill-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(directory, "firedrill")
	build := exec.Command("go", "run", "firedrill/tools/build", "-o", program) // as it is shipped
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return program
}

// demo is one start of the program with a home of its own.
type demo struct {
	program, home, temporary, out string
	output                        bytes.Buffer
	cmd                           *exec.Cmd
}

func start(t *testing.T, program string, who person, args ...string) *demo {
	t.Helper()
	home := filepath.Join(filepath.Dir(program), fmt.Sprintf("home-%d-%d", who.uid, time.Now().UnixNano()))
	d := &demo{program: program, home: home, temporary: filepath.Join(home, "tmp"), out: filepath.Join(home, "out")}
	for _, directory := range []string{d.home, d.temporary, d.out} {
		if err := errors.Join(os.Mkdir(directory, 0o755), os.Chown(directory, int(who.uid), int(who.uid))); err != nil {
			t.Fatal(err)
		}
	}
	d.cmd = exec.Command(program, append(args, "--out", d.out)...)
	d.cmd.Dir = d.home
	d.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.home, "TMPDIR=" + d.temporary, "USER=e2e"}
	d.cmd.Stdout, d.cmd.Stderr = &d.output, &d.output
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: who.uid, Gid: who.uid}}
	// Children that keep our pipe open must not keep Wait from returning.
	d.cmd.WaitDelay = settleMax
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// end waits for the exit code.
func (d *demo) end(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), demoMax)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = d.cmd.Process.Kill() })
	defer stop()
	err := d.cmd.Wait()
	if ctx.Err() != nil {
		t.Fatalf("not over after %s:\n%s", demoMax, d.output.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatal(err)
	}
	return d.cmd.ProcessState.ExitCode()
}

// report returns the directory of the run's files.
func (d *demo) report(t *testing.T) string {
	t.Helper()
	runs, err := filepath.Glob(filepath.Join(d.out, "*", "run.jsonl"))
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d logs below %s (%v), want one; the program said:\n%s", len(runs), d.out, err, d.output.String())
	}
	return filepath.Dir(runs[0])
}

func (d *demo) outcome(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.report(t), "verdict.json"))
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Outcome string `json:"outcome"`
		Verdict struct {
			Outcome string `json:"outcome"`
		} `json:"verdict"`
	}
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return found.Outcome + found.Verdict.Outcome
}

// Both run at the same time, as two people on one machine would.
func TestDemoPasses(t *testing.T) {
	program := built(t)
	before := lookAtMachine(t)
	people := []person{root, ordinary}
	var demos []*demo
	for _, who := range people {
		demos = append(demos, start(t, program, who, "demo"))
	}
	for i, d := range demos {
		t.Run(people[i].name, func(t *testing.T) {
			if code := d.end(t); code != 0 {
				t.Fatalf("exit code %d:\n%s", code, d.output.String())
			}
			if got := d.outcome(t); got != "passed" {
				t.Errorf("verdict %q", got)
			}
			judgedAgain(t, d)
			if left := names(t, d.temporary); len(left) > 0 {
				t.Errorf("temporary files left: %v", left)
			}
		})
	}
	if left := leftBehind(t, before, program); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// judgedAgain holds that the log alone gives the same verdict, and that an altered log gives none.
func judgedAgain(t *testing.T, d *demo) {
	t.Helper()
	log := filepath.Join(d.report(t), "run.jsonl")
	if output, err := exec.Command(d.program, "judge", log).CombinedOutput(); err != nil {
		t.Errorf("judging the log again: %v\n%s", err, output)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(d.temporary, "forged.jsonl")
	if err := os.WriteFile(forged, bytes.Replace(text, []byte(`"to":"ALARM"`), []byte(`"to":"ALARM "`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(forged)
	if output, err := exec.Command(d.program, "judge", forged).CombinedOutput(); err == nil {
		t.Errorf("an altered log was judged:\n%s", output)
	}
}

func TestSabotagedDemoDoesNotPass(t *testing.T) {
	program := built(t)
	tests := []struct {
		sabotage string
		code     int
		outcome  string
	}{
		{"alarm", 1, "failed"},
		{"dns", 1, "failed"},
		{"standby", 1, "failed"},
		{"attack", 3, "inconclusive"},
	}
	before := lookAtMachine(t)
	var demos []*demo
	for _, test := range tests {
		demos = append(demos, start(t, program, root, "demo", "--sabotage", test.sabotage))
	}
	for i, test := range tests {
		t.Run(test.sabotage, func(t *testing.T) {
			if code := demos[i].end(t); code != test.code {
				t.Fatalf("exit code %d, want %d:\n%s", code, test.code, demos[i].output.String())
			}
			if got := demos[i].outcome(t); got != test.outcome {
				t.Errorf("verdict %q, want %q", got, test.outcome)
			}
		})
	}
	if left := leftBehind(t, before, program); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

func TestDemoPassesWithRealServers(t *testing.T) {
	program := built(t)
	before := lookAtMachine(t)
	d := start(t, program, root, "demo", "--real", "--yes")
	if code := d.end(t); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, d.output.String())
	}
	if got := d.outcome(t); got != "passed" {
		t.Errorf("verdict %q", got)
	}
	if left := leftBehind(t, before, program); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// kills is how often the demo is killed, at instants drawn from the time before it writes its report: what it writes there is meant to
// stay. Several run side by side, and none waits for another.
const (
	kills      = 20
	killsUntil = 32 * time.Second
	sideBySide = 4
)

func TestKilledDemoLeavesNothing(t *testing.T) {
	program := built(t)
	random := seeded(t)
	for range kills / sideBySide {
		var after []time.Duration
		for range sideBySide {
			after = append(after, time.Duration(random.Int64N(int64(killsUntil))).Round(time.Millisecond))
		}
		slices.Sort(after)
		t.Run(fmt.Sprintf("after %v", after), func(t *testing.T) {
			before := lookAtMachine(t)
			began := time.Now()
			var demos []*demo
			for i := range after {
				demos = append(demos, start(t, program, []person{root, ordinary}[i%2], "demo"))
			}
			for i, d := range demos {
				wait(time.Until(began.Add(after[i])))
				_ = d.cmd.Process.Kill()
			}
			for _, d := range demos {
				_ = d.end(t)
			}
			if left := leftBehind(t, before, program); left != "" {
				t.Errorf("left behind:\n%s", left)
			}
			for _, d := range demos {
				for _, directory := range []string{d.temporary, d.out} {
					if left := names(t, directory); len(left) > 0 {
						t.Errorf("files left in %s: %v", directory, left)
					}
				}
			}
		})
	}
}

func TestInterruptedDemoLeavesNothingAndSaysSo(t *testing.T) {
	program := built(t)
	random := seeded(t)
	type interrupt struct {
		signal syscall.Signal
		code   int
		after  time.Duration
	}
	tests := []interrupt{{syscall.SIGINT, 130, 0}, {syscall.SIGTERM, 143, 0}, {syscall.SIGINT, 130, 0}, {syscall.SIGTERM, 143, 0}}
	for i := range tests {
		tests[i].after = 300*time.Millisecond + time.Duration(random.Int64N(int64(25*time.Second))).Round(time.Millisecond)
	}
	slices.SortFunc(tests, func(a, b interrupt) int { return cmp.Compare(a.after, b.after) })
	before := lookAtMachine(t)
	began := time.Now()
	var demos []*demo
	for range tests {
		demos = append(demos, start(t, program, root, "demo"))
	}
	for i, test := range tests {
		wait(time.Until(began.Add(test.after)))
		if err := demos[i].cmd.Process.Signal(test.signal); err != nil {
			t.Errorf("%s after %s: %v", test.signal, test.after, err)
		}
	}
	for i, test := range tests {
		if code := demos[i].end(t); code != test.code {
			t.Errorf("%s after %s: exit code %d, want %d:\n%s", test.signal, test.after, code, test.code, demos[i].output.String())
		}
	}
	if left := leftBehind(t, before, program); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// The planted bug: a program that leaves a process, a mount or a file behind must be seen by the same look.
func TestLeftoversAreCaught(t *testing.T) {
	program := built(t)
	before := lookAtMachine(t)
	for name, plant := range map[string]func() (undo func(), err error){
		"process in a namespace": func() (func(), error) {
			cmd := exec.Command("unshare", "--net", "--mount", "sleep", "600")
			return func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }, cmd.Start()
		},
		"file": func() (func(), error) {
			path := fmt.Sprintf("/dev/shm/firedrill-left-%d", os.Getpid())
			return func() { _ = os.Remove(path) }, os.WriteFile(path, nil, 0o600)
		},
	} {
		undo, err := plant()
		if err != nil {
			t.Fatal(err)
		}
		caught := false
		for deadline := time.Now().Add(settleMax); !caught && time.Now().Before(deadline); wait(20 * time.Millisecond) {
			caught = !gocmp.Equal(added(before, lookAtMachine(t)), machine{})
		}
		if !caught {
			t.Errorf("a %s that stays is not caught", name)
		}
		undo()
	}
	if left := leftBehind(t, before, program); left != "" {
		t.Fatalf("the test itself left something:\n%s", left)
	}
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	value := *seed
	if value == 0 {
		value = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d", value)
	return rand.New(rand.NewPCG(value, 1))
}

func TestJSONEventsAreTheLog(t *testing.T) {
	program := built(t)
	d := start(t, program, root, "demo", "--json", "--sabotage", "attack")
	if code := d.end(t); code != 3 {
		t.Fatalf("exit code %d:\n%s", code, d.output.String())
	}
	events := 0
	for line := range strings.Lines(d.output.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err == nil && event["kind"] != nil {
			events++
		}
	}
	log, err := os.ReadFile(filepath.Join(d.report(t), "run.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(log, []byte("\n")); events != lines {
		t.Errorf("%d events printed, %d in the log", events, lines)
	}
}
