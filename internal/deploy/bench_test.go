package deploy

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
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

// benchRsync copies to both hosts at the same time, which is the most that a shell script makes of it.
func (w *world) benchRsync(b *testing.B, ssh, below string) time.Duration {
	b.Helper()
	began := time.Now()
	var commands []*exec.Cmd
	for i := range 2 {
		to := filepath.Join(w.dir, below, fmt.Sprint(i))
		if err := os.MkdirAll(to, 0o755); err != nil {
			b.Fatal(err)
		}
		command := exec.Command("rsync", "-az", "--exclude=.git", "-e", ssh, w.repo+"/", w.account.Host.SSH.User+"@127.0.0.1:"+to+"/")
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

// BenchmarkAgainstRsync prints, for two hosts behind one sshd, how long publishing takes for each second that rsync -az takes.
func BenchmarkAgainstRsync(b *testing.B) {
	for _, test := range []struct{ files, size int }{{20, 5400}, {10_000, 5900}} {
		b.Run(fmt.Sprintf("%d files", test.files), func(b *testing.B) {
			w, ssh := benchWorld(b, test.files, test.size)
			var ours, theirs [2]time.Duration
			rounds := 0
			for b.Loop() {
				below := fmt.Sprintf("round%d", rounds)
				w.request.hooks.directory = func(host string) string { return filepath.Join(w.dir, below+"-ours", host) }
				for i := range 2 { // first time, then unchanged
					theirs[i] += w.benchRsync(b, ssh, below)
					ours[i] += w.benchDeploy(b)
				}
				rounds++
				if err := os.RemoveAll(w.dir); err != nil {
					b.Fatal(err)
				}
			}
			for i, name := range []string{"first", "unchanged"} {
				b.ReportMetric(ours[i].Seconds()/float64(rounds), "s-ours-"+name)
				b.ReportMetric(theirs[i].Seconds()/float64(rounds), "s-rsync-"+name)
				b.ReportMetric(theirs[i].Seconds()/ours[i].Seconds(), "x-"+strings.ReplaceAll(name, " ", "-"))
			}
		})
	}
}
