package e2e

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/lab"
)

func TestMain(m *testing.M) {
	lab.Reexec()
	os.Exit(m.Run())
}

// The Exec commands of the job that this product grew out of, word by word but for the names, which are the lab's, and the length, because
// nobody waits four minutes for a test: its lines do not depend on it.
const (
	articleBlackhole = "gremlin attack blackhole -l 20 -h ^control.bookstore.example.test,cdn.bookstore.example.test,db.bookstore.example.test"
	articleShutdown  = "gremlin attack shutdown -d 1"
)

const (
	articleSpared   = "10.77.0.10"
	articleDatabase = "10.77.2.10"
	articleMax      = 3 * time.Minute // for the minute that the shutdown waits, and the lab around it
)

// articleNames: the log names the attack by the tool's own name; ours has another.
var (
	articleHead    = regexp.MustCompile(`^(Setting up|Running) (blackhole|shutdown) (?:gremlin|firedrill) with guid '([0-9a-f-]{36})' (.*)$`)
	articleTraffic = regexp.MustCompile(`^(Whitelisting|Dropping) all (egress|ingress) traffic (to|from) ([0-9.]+)$`)
)

// articleHeader holds the first three lines against the article's log and returns the others.
func articleHeader(lines []string, kind, span string) (rest []string, err error) {
	if len(lines) < 3 {
		return nil, fmt.Errorf("%d lines, want three to begin with", len(lines))
	}
	first, third := articleHead.FindStringSubmatch(lines[0]), articleHead.FindStringSubmatch(lines[2])
	switch {
	case first == nil || first[1] != "Setting up" || first[2] != kind || first[4] != span:
		return nil, fmt.Errorf("line 1 is %q", lines[0])
	case lines[1] != "Setup successfully completed":
		return nil, fmt.Errorf("line 2 is %q", lines[1])
	case third == nil || third[1] != "Running" || third[2] != kind || third[4] != span || third[3] != first[3]:
		return nil, fmt.Errorf("line 3 is %q after %q", lines[2], lines[0])
	}
	return lines[3:], nil
}

// articleBlackholeLog says what is not as in the article's log of a blackhole: what is spared before what is dropped, all that goes out
// before all that comes in, the same addresses both ways, new ones as they are seen, and the revert as the last line.
func articleBlackholeLog(lines []string) error {
	lines, err := articleHeader(lines, "blackhole", "for 20 seconds")
	if err != nil {
		return err
	}
	if len(lines) == 0 || lines[len(lines)-1] != "Reverting impact!" {
		return fmt.Errorf("the last line is not the revert: %q", lines)
	}
	var rounds [][]string // of each round what it says of egress, then what it says of ingress
	before := ""
	for _, line := range lines[:len(lines)-1] {
		match := articleTraffic.FindStringSubmatch(line)
		if match == nil || (match[2] == "egress") != (match[3] == "to") {
			return fmt.Errorf("no line of the article: %q", line)
		}
		if match[2] == "egress" && before != "egress" {
			rounds = append(rounds, nil, nil)
		}
		before = match[2]
		if len(rounds) == 0 {
			return fmt.Errorf("ingress comes before egress: %q", line)
		}
		side := len(rounds) - 2
		if match[2] == "ingress" {
			side++
		}
		if match[1] == "Whitelisting" && slices.ContainsFunc(rounds[side], func(said string) bool { return strings.HasPrefix(said, "Dropping") }) {
			return fmt.Errorf("spared after something was dropped: %q", line)
		}
		rounds[side] = append(rounds[side], match[1]+" "+match[4])
	}
	return articleRounds(rounds)
}

func articleRounds(rounds [][]string) error {
	seen := map[string]bool{}
	for i := 0; i < len(rounds); i += 2 {
		if !slices.Equal(rounds[i], rounds[i+1]) {
			return fmt.Errorf("round %d goes out as %q and comes in as %q", i/2+1, rounds[i], rounds[i+1])
		}
		for _, said := range rounds[i] {
			if seen[said] {
				return fmt.Errorf("%s is said twice", said)
			}
			seen[said] = true
		}
	}
	switch {
	case len(rounds) == 0 || !slices.Contains(rounds[0], "Whitelisting "+articleSpared) || !slices.Contains(rounds[0], "Dropping "+articleDatabase):
		return fmt.Errorf("the first round lacks what is spared or the database: %q", rounds)
	case len(rounds) < 4:
		return fmt.Errorf("the CDN moves on every five seconds, and no new address is dropped: %q", rounds)
	}
	return nil
}

// articleSample is the article's own log, shortened and with the lab's addresses: what the checks must accept.
const articleSample = `Setting up blackhole gremlin with guid '0367cfe2-f9fc-11e8-acea-0242db4d1180' for 20 seconds
Setup successfully completed
Running blackhole gremlin with guid '0367cfe2-f9fc-11e8-acea-0242db4d1180' for 20 seconds
Whitelisting all egress traffic to 10.77.0.10
Dropping all egress traffic to 10.77.3.1
Dropping all egress traffic to 10.77.2.10
Whitelisting all ingress traffic from 10.77.0.10
Dropping all ingress traffic from 10.77.3.1
Dropping all ingress traffic from 10.77.2.10
Dropping all egress traffic to 10.77.3.3
Dropping all ingress traffic from 10.77.3.3
Reverting impact!`

// The planted bugs: logs that are wrong in one thing each.
func TestWrongArticleLogsAreCaught(t *testing.T) {
	right := strings.Split(articleSample, "\n")
	if err := articleBlackholeLog(right); err != nil {
		t.Fatalf("the article's own log is refused: %v", err)
	}
	swap := func(i, j int) []string {
		wrong := slices.Clone(right)
		wrong[i], wrong[j] = wrong[j], wrong[i]
		return wrong
	}
	for name, wrong := range map[string][]string{
		"runs before it is set up":      swap(0, 2),
		"another guid":                  append([]string{strings.Replace(right[0], "0367", "0368", 1)}, right[1:]...),
		"no setup line":                 slices.Delete(slices.Clone(right), 1, 2),
		"never reverted":                right[:len(right)-1],
		"spared too late":               swap(3, 4),
		"only one way":                  slices.Delete(slices.Clone(right), 7, 8),
		"ingress first":                 swap(3, 6),
		"no new address":                slices.Delete(slices.Clone(right), 9, 11),
		"the same address twice":        slices.Insert(slices.Clone(right), 11, "Dropping all egress traffic to 10.77.3.3", "Dropping all ingress traffic from 10.77.3.3"),
		"a line that it does not have":  slices.Insert(slices.Clone(right), 3, "WARNING: something"),
		"nothing is spared":             slices.Delete(slices.Delete(slices.Clone(right), 6, 7), 3, 4),
		"goes on after it was reverted": append(slices.Clone(right), "Dropping all egress traffic to 10.77.3.4"),
	} {
		if articleBlackholeLog(wrong) == nil {
			t.Errorf("%s: not caught", name)
		}
	}
}

func TestArticleJobRunsUnchanged(t *testing.T) {
	program := built(t)
	text, err := os.ReadFile("../../drills/bookstore/topology.yaml")
	if err != nil {
		t.Fatal(err)
	}
	topology, err := lab.Parse(text, "../../drills/bookstore/topology.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), articleMax)
	defer cancel()
	topology.Name = "article"
	up, err := lab.Up(ctx, topology, lab.Options{Binary: program})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := up.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	// exec is what the publisher of the job does: a command over SSH, its output into the log.
	exec := func(host, command string) (lines []string, code int) {
		var out strings.Builder
		code, err := up.Exec(ctx, "ci", lab.Cmd{Args: []string{"ssh", "-o", "BatchMode=yes", host, command}, Stdout: &out, Stderr: &out})
		if err != nil {
			t.Errorf("%s on %s: %v", command, host, err)
		}
		return strings.Split(strings.TrimSpace(out.String()), "\n"), code
	}
	for _, host := range []string{"blue", "green"} {
		if lines, code := exec(host, `ln -s firedrill "$(dirname "$(command -v firedrill)")/gremlin" && gremlin version`); code != 0 {
			t.Fatalf("%s: no link: %d %q", host, code, lines)
		}
	}
	awaitName(t, ctx, up)
	var group sync.WaitGroup // blue goes down in the minute in which green is cut off
	defer group.Wait()
	group.Go(func() {
		lines, code := exec("green", articleBlackhole)
		if err := articleBlackholeLog(lines); err != nil {
			t.Errorf("blackhole: %v\n%s", err, strings.Join(lines, "\n"))
		}
		if code != 0 {
			t.Errorf("blackhole: exit status %d:\n%s", code, strings.Join(lines, "\n"))
		}
	})
	group.Go(func() {
		lines, _ := exec("blue", articleShutdown) // the exit status of a host that goes down says nothing
		rest, err := articleHeader(lines, "shutdown", "after 1 minute")
		if err != nil {
			t.Errorf("shutdown: %v\n%s", err, strings.Join(lines, "\n"))
		}
		for _, line := range rest {
			if !strings.Contains(line, "blue") { // the SSH client's word that the connection is gone
				t.Errorf("shutdown: more than the article's lines: %q", line)
			}
		}
	})
	group.Wait()
	awaitDown(t, ctx, up, "blue")
}

// awaitName waits until the lab's name server answers, and the names of the job resolve.
func awaitName(t *testing.T, ctx context.Context, up *lab.Lab) {
	t.Helper()
	for {
		code, err := up.Exec(ctx, "green", lab.Cmd{Args: []string{"getent", "hosts", "cdn.bookstore.example.test"}})
		if err != nil {
			t.Fatal(err)
		}
		if code == 0 {
			return
		}
		pause(t, ctx, "the name server answers")
	}
}

func awaitDown(t *testing.T, ctx context.Context, up *lab.Lab, host string) {
	t.Helper()
	for {
		statuses, err := up.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, status := range statuses {
			if status.Name == host && status.State == lab.HostOff {
				return
			}
		}
		pause(t, ctx, host+" is down")
	}
}

func pause(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatalf("not within %s: %s", articleMax, what)
	case <-time.After(50 * time.Millisecond):
	}
}
