package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"firedrill/internal/attack/attacktest"
	"firedrill/internal/drill"
)

// runCommand runs one command in this process; it is for what touches no kernel.
func runCommand(cmd func(streams) *cobra.Command, args ...string) (code int, out, errOut string) {
	var stdout, stderr bytes.Buffer
	s := streams{out: &stdout, err: &stderr}
	c := cmd(s)
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(args)
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	code = finish(s, c.Execute())
	return code, stdout.String(), stderr.String()
}

func TestAttackListAndHelpComeFromTheKinds(t *testing.T) {
	code, out, _ := runCommand(newWholeAttackCommand, "list", "--json")
	var listed []drill.AttackKind
	if err := json.Unmarshal([]byte(out), &listed); err != nil || code != 0 || len(listed) < 2 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	for _, kind := range listed {
		code, help, _ := runCommand(newWholeAttackCommand, kind.Name, "--help")
		if code != 0 || !strings.Contains(help, "EXIT STATUS") || !strings.Contains(help, kind.Summary) {
			t.Errorf("help of %s: exit code %d\n%s", kind.Name, code, help)
		}
		for _, flag := range kind.Flags {
			want := "--" + flag.Name + " "
			if flag.Short != "" {
				want = "-" + flag.Short + ", " + want
			}
			if !strings.Contains(help, want) {
				t.Errorf("help of %s lacks %s", kind.Name, want)
			}
		}
	}
}

func TestAttackUsageErrorsExitWithTwo(t *testing.T) {
	for _, args := range [][]string{
		{}, {"earthquake"}, {"blackhole", "extra"}, {"blackhole", "--rate", "5"}, {"blackhole", "-l", "0"}, {"blackhole", "-i", "10.0.0.300"},
		{"blackhole", "--guid", "x"}, {"blackhole", "-P", "SCTP", "-i", "10.0.0.1"}, {"shutdown", "-d", "0"}, {"shutdown", "-l", "5"},
	} {
		if code, out, errOut := runCommand(newWholeAttackCommand, args...); code != 2 || !strings.HasPrefix(errOut, "firedrill: ") {
			t.Errorf("attack %v: exit code %d, %s%s", args, code, out, errOut)
		}
	}
}

func TestDryRunOfTheArticlesJobPrintsThePlan(t *testing.T) {
	code, out, errOut := runCommand(newWholeAttackCommand, "blackhole", "-l", "240", "-h", "^192.0.2.1,192.0.2.2,192.0.2.3", "--dry-run")
	if code != 0 || !strings.Contains(out, "spare 192.0.2.1\n") || !strings.Contains(out, "192.0.2.2, 192.0.2.3\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	code, out, _ = runCommand(newWholeAttackCommand, "shutdown", "-d", "1", "-r", "--dry-run")
	if code != 0 || !strings.Contains(out, "restart the host") || !strings.Contains(out, "one-way") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// envCommand makes this test binary the command line, for tests that need a process and a namespace of their own.
const envCommand = "FIREDRILL_CLI_TEST_COMMAND"

// TestCommandOfAnotherTest is not a test of its own: it is the process that others start.
func TestCommandOfAnotherTest(t *testing.T) {
	name, ok := os.LookupEnv(envCommand)
	if !ok {
		return
	}
	s := streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	cmd := map[string]func(streams) *cobra.Command{"attack": newWholeAttackCommand, "halt": newHaltCommand, "status": newStatusCommand, "doctor": newDoctorCommand,
		"attack that is kept": newKeptCommand, "status after a death": newStatusAfterDeathCommand}[name](s)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	for i, arg := range os.Args {
		if arg == "--" {
			cmd.SetArgs(os.Args[i+1:])
		}
	}
	os.Exit(finish(s, cmd.Execute()))
}

// inNamespace runs a command in an empty network namespace of its own.
func inNamespace(t *testing.T, name string, args ...string) (code int, said string) {
	t.Helper()
	attacktest.Require(t)
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestCommandOfAnotherTest$", "--"}, args...)...)
	cmd.Env = append(os.Environ(), envCommand+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestNothingBittenExitsWithThreeAndSaysSo(t *testing.T) {
	code, said := inNamespace(t, "attack", "blackhole", "-l", "4", "-i", "192.0.2.1")
	if code != 3 || !strings.Contains(said, "nothing shows that it bit") || !strings.Contains(said, "Reverting impact!") {
		t.Errorf("exit code %d\n%s", code, said)
	}
}

func TestHaltAndStatusOnAQuietHost(t *testing.T) {
	for _, name := range []string{"halt", "status"} {
		if code, said := inNamespace(t, name); code != 0 || !strings.Contains(said, "nothing is in force") {
			t.Errorf("%s: exit code %d\n%s", name, code, said)
		}
	}
}

func TestOrdinaryUsersAreToldToUseSudoBeforeAnythingRuns(t *testing.T) {
	attacktest.Require(t) // it gives up root
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestCommandOfAnotherTest$", "--", "blackhole", "-l", "1", "-i", "192.0.2.1")
	cmd.Env = append(os.Environ(), envCommand+"=attack")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, AmbientCaps: nil, Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		attacktest.Missing(t, "kernel", "an ordinary user who may start this binary where it lies: %v", err)
	}
	if code := cmd.ProcessState.ExitCode(); code != 4 || !strings.Contains(string(out), "sudo firedrill") || strings.Contains(string(out), "Running") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
