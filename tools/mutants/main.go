package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const gremlins = "github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0"

// The answers to one mutant.
const (
	killed    = "killed"
	lived     = "lived"
	timedOut  = "timed out" // it is not counted: it may have been noticed, or the machine was slow
	notViable = "not viable"
)

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "try only the mutants whose name holds this text, or one of these between bars (a|b), and demand no percentage")
	flag.Uint64Var(&o.seed, "seed", 0, "try the mutants in the order that this number gives; 0: in that of the code")
	flag.DurationVar(&o.limit, "for", 0, "stop after so long for each package, and count what was tried; with -seed that is a fair sample")
	flag.Float64Var(&o.threshold, "threshold", 90, "percentage of the mutants that must be noticed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 19); err != nil {
		fmt.Fprintln(os.Stderr, "mutants: at full priority:", err)
	}
	if err := run(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// options are what the caller chose.
type options struct {
	only      string
	seed      uint64
	limit     time.Duration
	threshold float64
}

// wants says whether a mutant is to be tried.
func (o options) wants(m *mutant) bool {
	return slices.ContainsFunc(strings.Split(o.only, "|"), func(text string) bool { return strings.Contains(m.key(), text) })
}

// run tries the mutants of each package of internal.
func run(ctx context.Context, o options, packages []string) error {
	if len(packages) == 0 {
		return errors.New("name packages below internal: alarm guard verdict")
	}
	excused, err := readEquivalent(filepath.Join("tools", "mutants", "equivalent"))
	if err != nil {
		return err
	}
	var all []error
	for _, name := range packages {
		if err := try(ctx, o, name, excused); err != nil {
			all = append(all, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(all...)
}

// try tries the mutants of one package.
func try(ctx context.Context, o options, name string, excused map[string]string) error {
	work, err := os.MkdirTemp("", "firedrill-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	listed, err := list(ctx, work, name)
	if err != nil {
		return err
	}
	p, err := load(name, listed)
	if err != nil {
		return err
	}
	if err := p.build(ctx, work); err != nil {
		return err
	}
	answer, spent, output := p.ask(ctx, p.binary, 0, "600", "-test.v")
	if answer != lived {
		return fmt.Errorf("its tests fail without any change:\n%s", output)
	}
	p.quickFirst(output)
	// Time of the processor, which is the same on a busy machine.
	limit := fmt.Sprint(5 + int(3*spent.Seconds()))
	fmt.Printf("%s: %d mutants, tests of %s of the processor without any change\n", name, len(p.mutants), spent.Round(time.Millisecond))
	if o.seed != 0 {
		rand.New(rand.NewPCG(o.seed, 0)).Shuffle(len(p.mutants), func(a, b int) { p.mutants[a], p.mutants[b] = p.mutants[b], p.mutants[a] })
	}
	began := time.Now()
	for i, m := range p.mutants {
		if !o.wants(m) || m.answer == notViable {
			continue
		}
		if ctx.Err() != nil || o.limit != 0 && time.Since(began) > o.limit {
			fmt.Printf("%s: ended after %d of %d, seed %d\n", name, i, len(p.mutants), o.seed)
			p.mutants = p.mutants[:i]
			return p.sum(o, excused)
		}
		if err := p.answer(ctx, work, m, limit); err != nil {
			return err
		}
		if m.answer != killed {
			note := ""
			if reason := excused[m.key()]; reason != "" && m.answer == lived {
				note = "  (equivalent)"
			}
			fmt.Printf("%-9s %s  (line %d)%s\n", m.answer, m.key(), m.line, note)
		}
	}
	return p.sum(o, excused)
}

// list asks gremlins which mutants there are.
func list(ctx context.Context, work, name string) ([]*mutant, error) {
	file := filepath.Join(work, "gremlins.json")
	command := exec.CommandContext(ctx, "go", "run", gremlins, "unleash", "--dry-run", "--silent", "--output", file, "--exclude-files", "/", "./internal/"+name)
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gremlins: %w\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var found struct {
		Files []struct {
			Name      string `json:"file_name"`
			Mutations []struct {
				Type         string
				Line, Column int
			}
		}
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, fmt.Errorf("gremlins: %w", err)
	}
	var all []*mutant
	for _, file := range found.Files {
		for _, m := range file.Mutations {
			all = append(all, &mutant{file: file.Name, line: m.Line, column: m.Column, kind: m.Type})
		}
	}
	slices.SortFunc(all, func(a, b *mutant) int { return strings.Compare(a.place(), b.place()) })
	for i, m := range all {
		m.id = i + 1
	}
	return all, nil
}

// answer has the tests of the package run with one mutant.
func (p *program) answer(ctx context.Context, work string, m *mutant, limit string) error {
	binary, id := p.binary, m.id
	if m.function == "" { // it belongs to no function: it needs a binary of its own
		binary, id = filepath.Join(work, "alone.test"), 0
		ok, err := p.buildAlone(ctx, work, m, binary)
		if err != nil || !ok {
			m.answer = notViable
			return err
		}
	}
	for _, some := range p.rounds {
		if m.answer, _, _ = p.ask(ctx, binary, id, limit, some); m.answer != lived {
			break
		}
	}
	return nil
}

// quickMax is how long a test may take that is run before the others: most mutants are noticed by many tests.
const quickMax = 0.3

// quickFirst divides the tests into two rounds by how long each took.
func (p *program) quickFirst(output string) {
	var quick []string
	for _, test := range testEnded.FindAllStringSubmatch(output, -1) {
		if seconds, err := strconv.ParseFloat(test[2], 64); err == nil && seconds < quickMax {
			quick = append(quick, test[1])
		}
	}
	names := "^(" + strings.Join(quick, "|") + ")$"
	p.rounds = []string{"-test.run=" + names, "-test.skip=" + names}
}

var testEnded = regexp.MustCompile(`(?m)^--- PASS: (\w+) \(([0-9.]+)s\)`)

// wallMax is for tests that wait for ever without using the processor.
const wallMax = 10 * time.Minute

// ask runs the tests with one mutant, 0 for none; limit is in seconds of the processor. What they print is for when they fail without one.
func (p *program) ask(ctx context.Context, binary string, id int, limit, option string) (answer string, spent time.Duration, output string) {
	bounded, cancel := context.WithTimeout(ctx, wallMax)
	defer cancel()
	command := exec.CommandContext(bounded, "sh", "-c", `ulimit -t "$1" && shift && exec "$@"`, "sh", limit, binary, "-test.failfast", "-test.timeout=0", option)
	command.Dir = p.folder
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d", variable, id))
	command.WaitDelay = time.Second
	out, err := command.CombinedOutput()
	if command.ProcessState != nil {
		spent = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
		if status, is := command.ProcessState.Sys().(syscall.WaitStatus); is && status.Signaled() {
			return timedOut, spent, string(out)
		}
	}
	switch {
	case bounded.Err() != nil:
		return timedOut, spent, string(out)
	case err != nil:
		return killed, spent, string(out)
	}
	return lived, spent, string(out)
}

// sum counts, and holds what has survived against what is excused.
func (p *program) sum(o options, excused map[string]string) error {
	count, equivalent := map[string]int{}, 0
	var all []error
	for _, m := range p.mutants {
		count[m.answer]++
		switch reason := excused[m.key()]; {
		case reason == "" || m.answer == "":
		case m.answer == lived:
			equivalent++
		case m.answer == killed:
			all = append(all, fmt.Errorf("equivalent excuses what is noticed: %s", m.key()))
		}
	}
	if o.only != "" {
		fmt.Printf("%s: of those that were wanted %d killed, %d lived, %d timed out\n", p.name, count[killed], count[lived], count[timedOut])
		return nil
	}
	for key := range excused {
		if o.limit == 0 && strings.HasPrefix(key, p.name+"/") && !slices.ContainsFunc(p.mutants, func(m *mutant) bool { return m.key() == key }) {
			all = append(all, fmt.Errorf("equivalent excuses what is not there: %s", key))
		}
	}
	viable := count[killed] + count[lived]
	share := 100 * float64(count[killed]) / float64(max(1, viable-equivalent))
	fmt.Printf("%s: %d mutants; %d not viable, %d timed out; of %d others %d killed (%.1f %%), %d lived, %d of them equivalent: %.1f %% of those that can be noticed\n",
		p.name, len(p.mutants), count[notViable], count[timedOut], viable, count[killed], 100*float64(count[killed])/float64(max(1, viable)), count[lived], equivalent, share)
	if share < o.threshold {
		all = append(all, fmt.Errorf("%.1f %% are fewer than %g %%", share, o.threshold))
	}
	return errors.Join(all...)
}

// readEquivalent reads lines of a mutant's key, " # " and the reason why it changes nothing.
func readEquivalent(name string) (map[string]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	excused := map[string]string{}
	for number, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, reason, found := strings.Cut(line, " # ")
		if !found || reason == "" {
			return nil, fmt.Errorf("%s:%d: no reason", name, number+1)
		}
		excused[key] = reason
	}
	return excused, nil
}
