package tether

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// endThreads ends many threads of this process, among them those that were idle: a goroutine that ends while it is locked takes its thread along.
func endThreads() {
	for range 4 {
		var there, gone sync.WaitGroup
		there.Add(32)
		for range 32 {
			gone.Go(func() {
				runtime.LockOSThread()
				there.Done()
				there.Wait() // so each has a thread of its own
			})
		}
		gone.Wait()
	}
}

// sleeper is a process that the kernel ends with the thread that starts it.
func sleeper() *exec.Cmd {
	command := exec.Command("sleep", "60")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

func TestProcessOutlivesTheThreadsOfItsStarters(t *testing.T) {
	command := sleeper()
	wait := make(chan func() error, 1)
	go func() {
		runtime.LockOSThread() // and this thread ends at once
		w, err := Start(command)
		if err != nil {
			t.Error(err)
		}
		wait <- w
	}()
	w := <-wait
	endThreads()
	if err := command.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("it has died: %v", err)
	}
	_ = command.Process.Kill()
	var exit *exec.ExitError
	if err := w(); !errors.As(err, &exit) || w() != err {
		t.Errorf("ended with %v, then %v", err, w())
	}
}

// The planted bug: started without a thread of its own, on one that ends.
func TestWithoutAThreadOfItsOwnItDies(t *testing.T) {
	command := sleeper()
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		started <- command.Start()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err == nil {
		t.Error("it went on to its end")
	}
}

func TestProcessDiesWithUs(t *testing.T) {
	if os.Getenv("TETHER_TEST_CHILD") != "" {
		command := sleeper()
		wait, err := Start(command)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString(strconv.Itoa(command.Process.Pid) + "\n")
		_ = wait()
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "TETHER_TEST_CHILD=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 16)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(line[:n-1]))
	if err != nil {
		t.Fatal(err)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); syscall.Kill(pid, 0) == nil; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("process %d goes on without us", pid)
		}
		if state, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); len(state) == 0 || zombie(string(state)) {
			return
		}
	}
}

// zombie says whether a process has died and only its parent has not looked yet; in a container nobody may.
func zombie(stat string) bool {
	for i := len(stat) - 1; i > 1; i-- {
		if stat[i-1] == ')' {
			return len(stat) > i+1 && stat[i+1] == 'Z'
		}
	}
	return false
}

func TestCommandThatCannotStartSaysSo(t *testing.T) {
	if _, err := Start(exec.Command("/no/such/program")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if out, err := CombinedOutput(exec.Command("sh", "-c", "echo out; echo err >&2; exit 3")); err == nil || string(out) != "out\nerr\n" {
		t.Errorf("%q, %v", out, err)
	}
}
