package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/attack/policy"
	"firedrill/internal/history"
)

const envPolicy = "FIREDRILL_CLI_TEST_POLICY"

// TestCommandUnderAPolicy is not a test of its own: it is the process that others start, on a host with a policy file.
func TestCommandUnderAPolicy(t *testing.T) {
	text, ok := os.LookupEnv(envPolicy)
	if !ok {
		return
	}
	if err := writePolicy(text); err != nil {
		t.Fatal(err)
	}
	args := []string{"firedrill"}
	for i, arg := range os.Args {
		if arg == "--" {
			args = append(args, os.Args[i+1:]...)
		}
	}
	os.Exit(Main(args, os.Stdin, os.Stdout, os.Stderr))
}

// writePolicy puts the file into the one place where it is looked for, on a /etc that only this process sees.
func writePolicy(text string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(policy.File), 0o755); err != nil {
		return err
	}
	return os.WriteFile(policy.File, []byte(text), 0o644)
}

// underPolicy runs a command as root of a host of its own with this policy.
func underPolicy(t *testing.T, text string, args ...string) (code int, out, errOut string) {
	t.Helper()
	attacktest.Require(t)
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestCommandUnderAPolicy$", "--"}, args...)...)
	cmd.Env = append(os.Environ(), envPolicy+"="+text, envCommand+"=policy")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the exit code tells
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestThePolicyOfTheHostBindsRootToo(t *testing.T) {
	for _, c := range []struct {
		policy string
		args   string
		code   int
		said   string // on either stream
	}{
		{"deny: blackhole\n", "attack blackhole -l 1 -i 192.0.2.1", exitRefused, "not attacking: this host denies blackhole (/etc/firedrill/policy.yaml:1)"},
		{"kinds: [shutdown]\n", "attack blackhole -l 1 -i 192.0.2.1", exitRefused, "this host allows only shutdown"},
		{"max_length: 30s\n", "attack blackhole -i 192.0.2.1", exitRefused, "-l 30"},
		{"require_consent: shutdown\n", "attack shutdown -d 1", exitRefused, "--yes"},
		{"require_consent: shutdown\n", "attack shutdown -d 1 --yes --dry-run", exitPassed, "power the host off"},
		{"narrow_only: all\n", "attack blackhole -l 1 -i 192.0.2.1", exitRefused, "narrow it with --user"},
		{"narrow_only: all\n", "attack blackhole -l 1 -i 192.0.2.1 --user 4001 --dry-run", exitPassed, "sockets of user 4001"},
		{"users: www-data\n", "attack blackhole -l 1 -i 192.0.2.1 --user 0", exitRefused, "not of 0"},
		{"deny: [shutdwon]\n", "attack blackhole -l 1 -i 192.0.2.1", exitRefused, `did you mean "shutdown"?`},
		{"never_hit: 192.0.2.0/24\n", "attack blackhole -l 1 -i 192.0.2.1", exitRefused, "nothing would be hit"},
		{"never_hit: 192.0.2.9\n", "attack blackhole -i 192.0.2.0/24 --dry-run", exitPassed, "spare 192.0.2.9"},
		{"max_length: 30s\n", "attack blackhole -l 1 -i 192.0.2.1", exitInconclusive, "Reverting impact!"}, // allowed; nobody is there to be bitten
	} {
		code, out, errOut := underPolicy(t, c.policy, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errOut, c.said) {
			t.Errorf("%q, %s: exit code %d, want %d and %q\n%s%s", c.policy, c.args, code, c.code, c.said, out, errOut)
		}
		if code == exitRefused && strings.Contains(out, "Running") {
			t.Errorf("%q, %s: refused after it ran\n%s", c.policy, c.args, out)
		}
	}
}

func TestARefusalByThePolicyIsAnEvent(t *testing.T) {
	code, out, _ := underPolicy(t, "deny: all\n", "attack", "blackhole", "-l", "1", "-i", "192.0.2.1", "--json")
	var event history.Event
	if err := json.Unmarshal([]byte(out), &event); err != nil || code != exitRefused {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	if fact, ok := event.Fact.(*history.AttackRefused); !ok || !strings.Contains(fact.Reason, policy.File+":1") || fact.Cure == "" {
		t.Errorf("%s", out)
	}
}

// needed are the flags without which a kind does not even plan.
var needed = map[string]string{"bandwidth": " --rate 1mbit"}

func TestEveryNetworkAttackSparesWhatIsNeverHit(t *testing.T) {
	tried := 0
	for _, kind := range kinds.Describe() {
		if kind.Group != "network" {
			continue
		}
		tried++
		args := "attack " + kind.Name + needed[kind.Name] + " -i 192.0.2.0/24 --dry-run"
		code, out, errOut := underPolicy(t, "never_hit: [192.0.2.9, \"2001:db8::/32\"]\n", strings.Fields(args)...)
		if code != exitPassed || !strings.Contains(out, "192.0.2.9") || !strings.Contains(out, "2001:db8::/32") {
			t.Errorf("%s: exit code %d\n%s%s", args, code, out, errOut)
		}
	}
	if tried == 0 {
		t.Error("no kind is of the network")
	}
}
