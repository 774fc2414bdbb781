package procs

import (
	"os/exec"
	"slices"
	"testing"
	"time"
)

// A shell that becomes another program when it is told to.
func TestCensusSeesWhoComesUpAtOnceAndWhoChangesInTime(t *testing.T) {
	first := exec.Command("sh", "-c", "read line; exec sleep 600")
	input, err := first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, first)
	var c Census
	began := time.Now()
	named := func(after time.Duration, cmd *exec.Cmd) string {
		t.Helper()
		all, err := c.list(began.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(all, byPID) {
			t.Fatal("the list is not sorted")
		}
		for _, p := range all {
			if p.PID == cmd.Process.Pid {
				return p.Name
			}
		}
		return ""
	}
	for after, want := time.Duration(0), "sh"; after <= 1500*time.Millisecond; after += lookEach {
		if got := named(after, first); got != want {
			t.Fatalf("after %v it is called %q, want %q", after, got, want)
		}
	}
	if _, err := input.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	for {
		if p, err := Stat(first.Process.Pid); err != nil {
			t.Fatal(err)
		} else if p.Name == "sleep" {
			break
		}
		<-time.After(time.Millisecond)
	}
	if got := named(2*time.Second, first); got != "sh" {
		t.Errorf("it is looked at each time: %q", got) // the price of a look would grow with those that stay
	}
	second := exec.Command("sleep", "600")
	start(t, second)
	if got := named(2500*time.Millisecond, second); got != "sleep" {
		t.Errorf("who came up is %q", got)
	}
	if got := named(lookAll, first); got != "sleep" {
		t.Errorf("after %v it is still called %q", lookAll, got)
	}
	_ = second.Process.Kill()
	_ = second.Wait()
	if got := named(lookAll+lookEach, second); got != "" {
		t.Errorf("who has ended is still listed: %q", got)
	}
}

// What comes up may be a copy of its parent still.
func TestCensusLooksAgainAtWhoHasJustComeUp(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	start(t, cmd)
	var c Census
	began := time.Now()
	if _, err := c.list(began); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	copied := c.known[pid]
	copied.Name = "parent"
	c.known[pid] = copied
	all, err := c.list(began.Add(lookEach))
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(all, func(p Process) bool { return p.PID == pid }); i < 0 || all[i].Name != "sleep" {
		t.Error("it was not looked at again")
	}
}

// lookEach is how often attacks look.
const lookEach = 500 * time.Millisecond

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

func TestThreadsOfTheKernelAreKnown(t *testing.T) {
	for text, want := range map[string]bool{
		"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 1 0 0 20 0 1 0 3 0 0":      true,
		"7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 0 1 0 0 20 0 1 0 300 0 0 184467": false,
	} {
		p, err := parseStat([]byte(text))
		if err != nil || p.kernel != want {
			t.Errorf("%s: %t (%v), want %t", text, p.kernel, err, want)
		}
	}
}
