package deploy

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// benchWorld is a repository of many files, and two hosts behind Debian's sshd.
func benchWorld(b *testing.B, count, size int) (w *world, ssh string) {
	b.Helper()
	if _, err := exec.LookPath("rsync"); err != nil {
		b.Skip("rsync is not installed, so there is nothing to compare with: apt-get install rsync")
	}
	w = &world{repo: b.TempDir(), dir: filepath.Join(b.TempDir(), "apps"), account: remotetest.OpenSSH(b, remotetest.Wish{Home: b.TempDir()})}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range count {
		text := make([]byte, size)
		for j := range text { // half noise, half alike, as sources and images are
			if text[j] = 'x'; j%2 == 0 {
				text[j] = byte(random.Uint32())
			}
		}
		name := filepath.Join(w.repo, fmt.Sprintf("d%02d", i%100), fmt.Sprintf("f%d", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=t", "-c", "user.email=t@example.test", "commit", "-q", "-m", "x"}} {
		command := exec.Command("git", args...)
		command.Dir = w.repo
		if out, err := command.CombinedOutput(); err != nil {
			b.Fatalf("git: %v: %s", err, out)
		}
	}
	two := w.account.Host
	two.Name = "two"
	w.request = Request{
		Cache: b.TempDir(), Service: "bench", Environment: drill.Environment{Name: "green", Hosts: []drill.Host{w.account.Host, two}},
		Deploy: drill.Deploy{Source: drill.Source{Git: w.repo, Revision: "main"}, Directory: w.dir, Batch: "100%"},
		hooks:  hooks{directory: func(host string) string { return filepath.Join(w.dir, host) }},
	}
	_, port, _ := net.SplitHostPort(w.account.Host.SSH.Address)
	ssh = fmt.Sprintf("ssh -F none -p %s -i %s -o UserKnownHostsFile=%s -o IdentitiesOnly=yes -o BatchMode=yes",
		port, w.account.Host.SSH.Identity, w.account.Host.SSH.KnownHosts)
	return w, ssh
}

func (w *world) benchDeploy(b *testing.B) time.Duration {
	b.Helper()
	began := time.Now()
	if _, err := Run(b.Context(), w.request, w.dial, nil); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// peers are what people publish with, as commands from a tree to a directory of a host.
var peers = map[string]func(ssh, from, account, to string) *exec.Cmd{
	"rsync": func(ssh, from, account, to string) *exec.Cmd {
		return exec.Command("rsync", "-az", "--exclude=.git", "-e", ssh, from+"/", account+":"+to+"/")
	},
	"scp": func(ssh, from, account, to string) *exec.Cmd {
		return exec.Command("sh", "-c", "exec "+strings.Replace(strings.Replace(ssh, "ssh ", "scp -q -r ", 1), " -p ", " -P ", 1)+` "$1"/d* "$2"`, "sh", from, account+":"+to+"/")
	},
	"sftp": func(ssh, from, account, to string) *exec.Cmd {
		command := exec.Command("sh", "-c", "exec "+strings.Replace(strings.Replace(ssh, "ssh ", "sftp -q -b - ", 1), " -p ", " -P ", 1)+` "$1" >/dev/null`, "sh", account)
		command.Stdin = strings.NewReader("put -r " + from + "/d* " + to + "/\n")
		return command
	},
}

// benchPeer copies to both hosts at the same time, which is the most that a shell script makes of it.
func (w *world) benchPeer(b *testing.B, peer, ssh, below string) time.Duration {
	b.Helper()
	began := time.Now()
	var commands []*exec.Cmd
	for i := range 2 {
		to := filepath.Join(w.dir, below, peer, fmt.Sprint(i))
		if err := os.MkdirAll(to, 0o755); err != nil {
			b.Fatal(err)
		}
		command := peers[peer](ssh, w.repo, w.account.Host.SSH.User+"@127.0.0.1", to)
		command.Stderr = os.Stderr
		if err := command.Start(); err != nil {
			b.Fatal(err)
		}
		commands = append(commands, command)
	}
	for _, command := range commands {
		if err := command.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}

// BenchmarkAgainstPeers prints, for two hosts behind one sshd, how long rsync -az, scp -r and SFTP file by file take for each second that
// publishing takes: the first time, and when nothing changed, which only rsync knows of.
func BenchmarkAgainstPeers(b *testing.B) {
	for _, test := range []struct{ files, size int }{{20, 5400}, {10_000, 5900}} {
		b.Run(fmt.Sprintf("%d files", test.files), func(b *testing.B) {
			w, ssh := benchWorld(b, test.files, test.size)
			var ours, rsync [2]time.Duration
			others := map[string]time.Duration{}
			rounds := 0
			for b.Loop() {
				below := fmt.Sprintf("round%d", rounds)
				w.request.hooks.directory = func(host string) string { return filepath.Join(w.dir, below+"-ours", host) }
				for i := range 2 { // first time, then unchanged
					rsync[i] += w.benchPeer(b, "rsync", ssh, below)
					ours[i] += w.benchDeploy(b)
				}
				for _, peer := range []string{"scp", "sftp"} {
					others[peer] += w.benchPeer(b, peer, ssh, below)
				}
				rounds++
				if err := os.RemoveAll(w.dir); err != nil {
					b.Fatal(err)
				}
			}
			for i, name := range []string{"first", "unchanged"} {
				b.ReportMetric(ours[i].Seconds()/float64(rounds), "s-ours-"+name)
				b.ReportMetric(rsync[i].Seconds()/float64(rounds), "s-rsync-"+name)
				b.ReportMetric(rsync[i].Seconds()/ours[i].Seconds(), "x-rsync-"+name)
			}
			for peer, took := range others {
				b.ReportMetric(took.Seconds()/ours[0].Seconds(), "x-"+peer+"-first")
			}
		})
	}
}

// BenchmarkSwitch prints how long it takes to make a host run another release that it has, and how long a rollback takes from the first
// packet to the last; what is restarted and how soon that is healthy is not ours.
func BenchmarkSwitch(b *testing.B) {
	for _, test := range []struct {
		layout      string
		files, size int
	}{{"", 20, 5400}, {"", 10_000, 590}, {"in-place", 20, 5400}, {"in-place", 10_000, 590}} {
		b.Run(fmt.Sprintf("%s %d files", cmp.Or(test.layout, "releases"), test.files), func(b *testing.B) {
			w, _ := benchWorld(b, test.files, test.size)
			w.request.Deploy.Layout = test.layout
			w.request.Environment.Hosts = w.request.Environment.Hosts[:1]
			w.benchDeploy(b)
			change := exec.Command("sh", "-c", `for f in d*/*; do echo changed >>"$f"; done; git -c user.name=t -c user.email=t@example.test commit -q -a -m y`)
			change.Dir = w.repo
			if out, err := change.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			var published, switched time.Time
			if _, err := Run(b.Context(), w.request, w.dial, func(fact history.Fact) {
				if stage, is := fact.(*history.Deploy); is && stage.Stage == history.DeployPublish {
					published = time.Now()
				} else if is && stage.Stage == history.DeploySwitched {
					switched = time.Now()
				}
			}); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := Rollback(b.Context(), w.request, w.dial, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(switched.Sub(published).Milliseconds()), "ms-switch")
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms-rollback")
		})
	}
}

// BenchmarkOneGiB prints how long scp takes for each second that publishing a file of 1 GiB takes, and how much memory ours held at most.
func BenchmarkOneGiB(b *testing.B) {
	w, ssh := benchWorld(b, 1, 1)
	w.request.Environment.Hosts = w.request.Environment.Hosts[:1]
	fill := exec.Command("sh", "-c", `head -c 1073741824 /dev/urandom >d00/big && git add -A && git -c user.name=t -c user.email=t@example.test commit -q -m big`)
	fill.Dir = w.repo
	fill.Env = append(os.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=core.compression", "GIT_CONFIG_VALUE_0=0")
	if out, err := fill.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	var ours, theirs time.Duration
	for b.Loop() {
		ours += w.benchDeploy(b)
		to := filepath.Join(w.dir, "scp")
		if err := os.MkdirAll(to, 0o755); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if out, err := peers["scp"](ssh, w.repo, w.account.Host.SSH.User+"@127.0.0.1", to).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		theirs += time.Since(began)
		if err := os.RemoveAll(w.dir); err != nil {
			b.Fatal(err)
		}
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "s-ours")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-scp")
	b.ReportMetric(float64(used.Maxrss)/1024, "MiB-held-at-most")
}
