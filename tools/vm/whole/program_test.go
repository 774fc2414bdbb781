//go:build vm

package whole

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
	"firedrill/internal/history"
	"firedrill/tools/vm/guest"
)

func TestMain(m *testing.M) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil || !slices.Contains(strings.Fields(string(line)), guest.OptionVM) {
		fmt.Fprintln(os.Stderr, "these tests set the clock and restart the machine: they run on one of tools/vm only")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// slowness is how long it takes here to start the program and let it say its version: the longest of three times. An emulated processor is
// slow, and the slower the more else its machine has to do, so all times are multiples of it.
var slowness = sync.OnceValue(func() time.Duration {
	longest := time.Duration(0)
	for range 3 {
		began := time.Now()
		_ = exec.Command("/vm/firedrill", "version").Run()
		longest = max(longest, time.Since(began))
	}
	return longest
})

// patience bounds how long anything is waited for. Only a failure lasts this long.
func patience() time.Duration { return time.Minute + 100*slowness() }

// brief is the length of attacks that are to reach their deadline: they are set up before it, and looked at.
func brief() string { return fmt.Sprintf("--length=%d", 5+int(20*slowness().Seconds())) }

const pollEvery = 10 * time.Millisecond

// await polls until check says nil.
func await(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience())
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("gave up after %s: %v", patience(), err)
		}
		<-time.After(pollEvery)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// program is a run of firedrill.
type program struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	stderr  strings.Builder
	reading sync.WaitGroup

	mu     sync.Mutex // guards events
	events []history.Event
}

// start starts firedrill with --json; it ends with the test.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	return startIn(t, nil, args...)
}

func startIn(t *testing.T, where *syscall.SysProcAttr, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command("/vm/firedrill", append(args, "--json")...)}
	p.cmd.SysProcAttr = where
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	must(t, p.cmd.Start())
	p.reading.Go(func() { p.read(stdout) })
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.wait()
		if t.Failed() {
			t.Logf("firedrill %s said: %s", strings.Join(args, " "), p.stderr.String())
		}
	})
	return p
}

func (p *program) read(from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var event history.Event
		if json.Unmarshal(lines.Bytes(), &event) == nil {
			p.mu.Lock()
			p.events = append(p.events, event)
			p.mu.Unlock()
		}
	}
}

// wait waits for the end and returns the exit code and the account.
func (p *program) wait() (int, *history.AttackAccount) {
	p.reading.Wait()
	_ = p.cmd.Wait()
	account, _ := said[*history.AttackAccount](p)
	return p.cmd.ProcessState.ExitCode(), account
}

// said returns the first event of this type.
func said[T history.Fact](p *program) (T, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, event := range p.events {
		if fact, ok := event.Fact.(T); ok {
			return fact, true
		}
	}
	return *new(T), false
}

// inForce starts an attack and waits until it is in force.
func inForce(t *testing.T, args ...string) *program {
	t.Helper()
	p := start(t, append([]string{"attack"}, args...)...)
	awaitInForce(t, p)
	return p
}

func awaitInForce(t *testing.T, p *program) {
	t.Helper()
	await(t, func() error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		ended := err != nil || strings.Contains(string(text), ") Z ")
		if ended {
			p.reading.Wait() // what it said last may still be on its way
		}
		if _, ok := said[*history.AttackInForce](p); ok {
			return nil
		}
		if ended {
			code, account := p.wait()
			t.Fatalf("the attack ended with %d before it was in force: %+v", code, account)
		}
		return errors.New("the attack is not in force")
	})
}

// guardianName begins the command line of a guardian, for people who look at a list of processes.
const guardianName = "firedrill: guardian"

// guardians returns who guards attacks now.
func guardians(t *testing.T) []procs.ID {
	t.Helper()
	all, err := procs.List()
	must(t, err)
	var ids []procs.ID
	for _, p := range all {
		if strings.HasPrefix(p.Command, guardianName) && !p.Ended() {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

const journals = guest.State + "/journal"

// noJournal fails the test when something is still to be taken back.
func noJournal() error {
	left, err := filepath.Glob(journals + "/*.*")
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("journals are left: %v", left)
	}
	return err
}

// stage says how often this test was started before on this machine, and counts it. It is on the disk before the test goes on.
func stage(t *testing.T) int {
	t.Helper()
	name := filepath.Join(guest.State, "stage-"+t.Name())
	count := 0
	if text, err := os.ReadFile(name); err == nil {
		count, err = strconv.Atoi(string(text))
		must(t, err)
	}
	must(t, os.WriteFile(name, []byte(strconv.Itoa(count+1)), 0o644))
	unix.Sync()
	return count
}

// goesDown waits for the end of the machine, which is the end of this process too.
func goesDown(t *testing.T) {
	t.Helper()
	<-time.After(patience())
	t.Fatalf("the machine is up %s after it should have gone down", patience())
}
