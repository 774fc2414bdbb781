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

// benchWorld is a repository of many files, packed as every clone is, and two hosts behind Debian's sshd.
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
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"config", "gc.auto", "0"}, // else it packs in the background, beside what is measured
		{"add", "-A"}, {"-c", "user.name=t", "-c", "user.email=t@example.test", "commit", "-q", "-m", "x"}, {"repack", "-a", "-d", "-q"},
	} {
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

func (w *world) benchDeploy(b *testing.B) cost {
	b.Helper()
	return costOf(b, func() {
		if _, err := Run(b.Context(), w.request, w.dial, nil); err != nil {
			b.Fatal(err)
		}
	})
}

// cost is what something took: by the clock, and of the processors, both ends together. On a busy machine the latter says more.
type cost struct{ clock, processor time.Duration }

func (c *cost) add(more cost) { c.clock, c.processor = c.clock+more.clock, c.processor+more.processor }

// costOf measures some work and all processes that it starts, the host's too, as its sshd is a child of ours.
func costOf(b *testing.B, work func()) cost {
	b.Helper()
	before, began := used(b), time.Now()
	work()
	took := time.Since(began)
	for children(b) > 0 { // what a process used counts when it has ended
		<-time.After(10 * time.Millisecond)
	}
	return cost{clock: took, processor: used(b) - before}
}

func used(b *testing.B) (all time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var one syscall.Rusage
		if err := syscall.Getrusage(who, &one); err != nil {
			b.Fatal(err)
		}
		all += time.Duration(one.Utime.Nano() + one.Stime.Nano())
	}
	return all
}

// children counts our child processes: the sshd of each connection, and git.
func children(b *testing.B) (count int) {
	b.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range stats {
		text, _ := os.ReadFile(name) // it may be gone
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == fmt.Sprint(os.Getpid()) {
			count++
		}
	}
	return count
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
func (w *world) benchPeer(b *testing.B, peer, ssh, below string) cost {
	b.Helper()
	return costOf(b, func() {
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
	})
}

// BenchmarkAgainstPeers prints, for two hosts behind one sshd, how long rsync -az, scp -r and SFTP file by file take for each second that
// publishing takes: the first time, and when nothing changed, which only rsync knows of. The cpu-x are the same of the processors' time. Each
// round begins with an empty cache.
func BenchmarkAgainstPeers(b *testing.B) {
	for _, test := range []struct{ files, size int }{{20, 5400}, {10_000, 5900}} {
		b.Run(fmt.Sprintf("%d files", test.files), func(b *testing.B) {
			w, ssh := benchWorld(b, test.files, test.size)
			var ours, rsync [2]cost
			others := map[string]*cost{"scp": {}, "sftp": {}}
			rounds := 0
			for b.Loop() {
				below := fmt.Sprintf("round%d", rounds)
				w.request.Cache = b.TempDir()
				w.request.hooks.directory = func(host string) string { return filepath.Join(w.dir, below+"-ours", host) }
				for i := range 2 { // first time, then unchanged
					rsync[i].add(w.benchPeer(b, "rsync", ssh, below))
					ours[i].add(w.benchDeploy(b))
				}
				for peer, all := range others {
					all.add(w.benchPeer(b, peer, ssh, below))
				}
				rounds++
				if err := os.RemoveAll(w.dir); err != nil {
					b.Fatal(err)
				}
			}
			for i, name := range []string{"first", "unchanged"} {
				b.ReportMetric(ours[i].clock.Seconds()/float64(rounds), "s-ours-"+name)
				b.ReportMetric(rsync[i].clock.Seconds()/float64(rounds), "s-rsync-"+name)
				b.ReportMetric(rsync[i].clock.Seconds()/ours[i].clock.Seconds(), "x-rsync-"+name)
				b.ReportMetric(rsync[i].processor.Seconds()/ours[i].processor.Seconds(), "cpu-x-rsync-"+name)
			}
			for peer, all := range others {
				b.ReportMetric(all.clock.Seconds()/ours[0].clock.Seconds(), "x-"+peer+"-first")
				b.ReportMetric(all.processor.Seconds()/ours[0].processor.Seconds(), "cpu-x-"+peer+"-first")
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
		ours += w.benchDeploy(b).clock
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
