package deploy

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// many gives the environment n hosts, each with a directory of its own; the restart command tells which one it is on.
func many(t *testing.T, n int) *world {
	t.Helper()
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	var hosts []drill.Host
	for i := range n {
		host := w.account.Host
		host.Name, host.Address = fmt.Sprintf("h%d", i), netip.MustParseAddr("127.0.0.1")
		hosts = append(hosts, host)
	}
	w.request.Environment.Hosts = hosts
	w.request.Deploy.Healthy = drill.Healthy{}
	w.request.hooks.directory = func(host string) string { return filepath.Join(w.dir, host) }
	return w
}

// runs returns the version that each host runs.
func (w *world) runs() string {
	var all []string
	for _, host := range w.request.Environment.Hosts {
		text, err := os.ReadFile(filepath.Join(w.dir, host.Name, "current", "version"))
		if err != nil {
			text = []byte("-")
		}
		all = append(all, strings.TrimSpace(string(text)))
	}
	return strings.Join(all, " ")
}

// sickOn makes version 2 fail to restart on some hosts.
func (w *world) sickOn(hosts ...string) {
	w.commit("two", map[string]string{"version": "2\n"})
	w.request.Deploy.Restart = "case $(cat version):$PWD in"
	for _, host := range hosts {
		w.request.Deploy.Restart += " 2:*/" + host + "/*) exit 7;;"
	}
	w.request.Deploy.Restart += " esac"
}

func TestDeploymentStopsAtTheStatedNumberOfFailures(t *testing.T) {
	for name, test := range map[string]struct {
		stopAt  int
		endless bool
		sick    []string
		want    string
		failed  bool
	}{
		"one is enough by default":    {sick: []string{"h1"}, want: "1 1 1 1", failed: true},
		"one of two allowed":          {stopAt: 2, sick: []string{"h1"}, want: "2 1 2 2"},
		"two of two allowed":          {stopAt: 2, sick: []string{"h1", "h2"}, want: "1 1 1 1", failed: true},
		"all fail, more allowed":      {stopAt: 9, sick: []string{"h0", "h1", "h2", "h3"}, want: "1 1 1 1", failed: true},
		"planted: nobody counts them": {stopAt: 2, endless: true, sick: []string{"h1", "h2"}, want: "2 1 1 2"},
	} {
		t.Run(name, func(t *testing.T) {
			w := many(t, 4)
			w.mustDeploy()
			w.sickOn(test.sick...)
			w.request.Deploy.StopAtFailures, w.request.hooks.endless = test.stopAt, test.endless
			result, err := w.deploy()
			if got := w.runs(); got != test.want || (err != nil) != test.failed {
				t.Errorf("hosts run %q, %v; want %q, failed %t", got, err, test.want, test.failed)
			}
			if test.stopAt == 2 && !test.failed && !test.endless && (result.Hosts[1].Failure == nil || !result.Hosts[1].Restored) {
				t.Errorf("result does not tell of the failed host: %+v", result.Hosts[1])
			}
		})
	}
}

func TestNothingIsSwitchedBeforeAllHostsHaveTheRelease(t *testing.T) {
	w := many(t, 3)
	w.mustDeploy()
	w.commit("two", map[string]string{"version": "2\n"})
	w.write(filepath.Join(w.dir, "in the way"), "")
	w.request.hooks.directory = func(host string) string {
		if host == "h2" {
			return filepath.Join(w.dir, "in the way")
		}
		return filepath.Join(w.dir, host)
	}
	if _, err := w.deploy(); err == nil {
		t.Error("a host that cannot take the release was passed over")
	}
	for _, fact := range w.facts {
		if fact.Stage == history.DeploySwitched {
			t.Errorf("%s was switched", fact.Host)
		}
	}
}

func TestBatchesNeverOverlap(t *testing.T) {
	// overlap counts hosts between "switched" and "restarted".
	overlap := func(w *world) int64 {
		var now, most atomic.Int64
		w.request.Deploy.Restart = "true"
		if _, err := Run(t.Context(), w.request, w.dial, func(fact history.Fact) {
			if stage, ok := fact.(*history.Deploy); ok && stage.Stage == history.DeploySwitched {
				most.Store(max(most.Load(), now.Add(1)))
			} else if ok && stage.Stage == history.DeployRestart {
				now.Add(-1)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return most.Load()
	}
	w := many(t, 5)
	w.request.Deploy.Batch = "40%"
	if got := overlap(w); got > 2 {
		t.Errorf("%d hosts were out of service together, want at most 2 of 5", got)
	}
	for _, test := range []struct {
		batch       string
		hosts, want int
	}{{"", 9, 1}, {"2", 9, 2}, {"25%", 9, 2}, {"25%", 3, 1}, {"100%", 9, 9}, {"20", 9, 9}} {
		if got := BatchSize(test.batch, test.hosts); got != test.want {
			t.Errorf("BatchSize(%q, %d) is %d, want %d", test.batch, test.hosts, got, test.want)
		}
	}
}

const secretValue = "s3cr3t+/=$value"

// leaks deploys with a command that prints a secret in every way, and returns where it can be read.
func leaks(t *testing.T, unmasked bool) []string {
	t.Helper()
	t.Setenv("DEPLOY_TOKEN", secretValue)
	t.Setenv("DEPLOY_KEY", "-----BEGIN-----\nline of a key\n-----END-----")
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	w.request.Deploy.Secrets = []string{"DEPLOY_TOKEN", "DEPLOY_KEY"}
	w.request.hooks.unmasked = unmasked
	long := strings.Repeat("y", lineMax-5)
	w.request.Deploy.Restart = "echo one '" + secretValue + "'; printf '%s' '" + long + secretValue + "tail'; echo; echo 'line of a key' >&2; exit 3 # " + secretValue
	result, err := w.deploy()
	if err == nil {
		t.Fatal("the restart did not fail")
	}
	var found []string
	check := func(where, text string) {
		if strings.Contains(text, secretValue) || strings.Contains(text, "line of a key") || strings.Contains(strings.ReplaceAll(text, "\ntest-host | ", ""), secretValue) {
			found = append(found, where)
		}
	}
	check("output", w.output.String())
	check("error", err.Error())
	for _, fact := range w.facts {
		check("fact "+fact.Stage, fact.Detail)
	}
	for _, host := range result.Hosts {
		check("result", fmt.Sprint(host.Failure))
	}
	if drill.KindOf(err) != drill.Failed {
		t.Errorf("the kind of the error was lost: %v", err)
	}
	return found
}

func TestSecretsAreShownNowhere(t *testing.T) {
	if found := leaks(t, false); len(found) > 0 {
		t.Errorf("secrets can be read in %q", found)
	}
	t.Run("planted: without masks the check sees them", func(t *testing.T) {
		if found := leaks(t, true); len(found) < 4 {
			t.Errorf("seen only in %q", found)
		}
	})
}

func FuzzMaskedLines(f *testing.F) {
	f.Add("abc", []byte("before "+secretValue+" after\n"), uint8(3))
	f.Fuzz(func(t *testing.T, _ string, text []byte, piece uint8) {
		m, _ := newMasks([]string{"X"}, func(string) (string, bool) { return secretValue, true })
		var out bytes.Buffer
		p := newPrefixed(&out, "", m)
		for rest := text; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			_, _ = p.Write(rest[:n])
			rest = rest[n:]
		}
		p.flush()
		if strings.Contains(out.String(), secretValue) {
			t.Errorf("shown in %q", out.String())
		}
	})
}

func TestRestartAsRootGoesThroughSudo(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "sudo"), []byte("#!/bin/sh\n[ \"$1 $2\" = '-n --' ] || exit 9\nshift 2\nAS_ROOT=yes exec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Whoever is root already is not sent through sudo, and the gate runs as root.
	if err := os.WriteFile(filepath.Join(bin, "id"), []byte("#!/bin/sh\necho 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, remotetest.Serve, remotetest.Wish{Path: bin + ":/usr/bin:/bin"})
	w.request.Deploy.Become = "sudo"
	w.request.Deploy.Restart = `echo "as root: $AS_ROOT, it's $(cat version)"`
	w.mustDeploy()
	if got, want := w.output.String(), "test-host | as root: yes, it's 1\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
}

func TestRestartOnATerminal(t *testing.T) {
	w := newWorld(t, remotetest.OpenSSH, remotetest.Wish{})
	w.request.Deploy.RestartPTY = true
	w.request.Deploy.Restart = `if [ -t 1 ]; then echo terminal; else echo none; fi`
	w.mustDeploy()
	if got, want := w.output.String(), "test-host | terminal\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
}
