package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Where things lie on the small lab's hosts.
const (
	smallFile = "/etc/firedrill/firedrill.yaml"
	smallOut  = "/root/out"
	smallApp  = "/home/ubuntu/apps/bookstore_api"
	commandOn = 2 * time.Minute // bounds one command on a host of a busy machine
)

// small is a lab of a few hosts that is up, used as a person uses it: through the program.
type small struct {
	program, topology string
}

// smallRepository makes versions 6 to 8 of the application.
const smallRepository = `set -e
cd /srv/bookstore_api
export GIT_AUTHOR_NAME=b GIT_AUTHOR_EMAIL=b@example.test GIT_COMMITTER_NAME=b GIT_COMMITTER_EMAIL=b@example.test
git init -q -b main .
for v in 6 7 8; do
  sed -i "s/^version: .*/version: $v/" bookstore.yaml
  git add -A && git commit -q -m "version $v" && git tag "v$v"
done`

func upSmall(t *testing.T, program string) small {
	t.Helper()
	directory := t.TempDir()
	s := small{program: program, topology: filepath.Join(directory, "topology.yaml")}
	text, err := os.ReadFile("testdata/small/topology.yaml")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("small-%d", os.Getpid())
	service, err := os.ReadFile("testdata/small/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	zone, err := os.ReadFile("../../drills/bookstore/zone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(s.topology, bytes.Replace(text, []byte("lab: LAB"), []byte("lab: "+name), 1), 0o644),
		os.WriteFile(filepath.Join(directory, "firedrill.yaml"), service, 0o644),
		os.WriteFile(filepath.Join(directory, "zone.yaml"), zone, 0o644),
		os.CopyFS(filepath.Join(directory, "app"), os.DirFS("../../drills/bookstore/app")),
	); err != nil {
		t.Fatal(err)
	}
	s.up(t)
	// A collector that is not there changes nothing.
	said := s.must(t, 0, "ci", "env", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "firedrill", "deploy", "--first", "--revision", "v6", "--file", smallFile, "--out", "/tmp/first", "blue", "green")
	says(t, said, "the trace of this run was not sent", "firedrill report --format otlp /tmp/first/")
	return s
}

// up starts the lab, with the application's versions on ci.
func (s small) up(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { _, _ = run(context.Background(), s.program, "lab", "down", s.topology) })
	if code, output := run(t.Context(), s.program, "lab", "up", s.topology); code != 0 {
		t.Fatalf("lab up: %d\n%s", code, output)
	}
	s.must(t, 0, "ci", "sh", "-c", smallRepository)
}

// run runs a program to its end and returns its exit code with all that it said.
func run(ctx context.Context, program string, args ...string) (int, string) {
	ctx, cancel := context.WithTimeout(ctx, commandOn)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err.Error() + "\n" + string(output)
	}
	return cmd.ProcessState.ExitCode(), string(output)
}

// on runs a command on a host.
func (s small) on(t *testing.T, host string, args ...string) (int, string) {
	t.Helper()
	return run(t.Context(), s.program, append([]string{"lab", "exec", s.topology, host, "--"}, args...)...)
}

// must is on, with the exit code that it must have and the words that must be said.
func (s small) must(t *testing.T, code int, host string, args ...string) string {
	t.Helper()
	began := time.Now()
	got, output := s.on(t, host, args...)
	t.Logf("%6.1fs %s: %.100s", time.Since(began).Seconds(), host, strings.Join(args, " "))
	if got != code {
		t.Fatalf("%s on %s: exit code %d, want %d\n%s", strings.Join(args, " "), host, got, code, output)
	}
	return output
}

// firedrill runs a command of ours on a host with the lab's service file.
func (s small) firedrill(t *testing.T, code int, host string, args ...string) string {
	t.Helper()
	return s.must(t, code, host, append([]string{"firedrill"}, args...)...)
}

func says(t *testing.T, output string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(output, want) {
			t.Errorf("it does not say %q:\n%s", want, output)
		}
	}
}

// service writes a changed service file on ci and returns its name.
func (s small) service(t *testing.T, name string, expressions ...string) string {
	t.Helper()
	file := "/etc/firedrill/" + name + ".yaml"
	var script strings.Builder
	for _, expression := range expressions {
		fmt.Fprintf(&script, " -e '%s'", expression)
	}
	s.must(t, 0, "ci", "sh", "-c", "sed"+script.String()+" "+smallFile+" >"+file)
	return file
}

// answered is the environment that the name server leads to.
func (s small) answered(t *testing.T) string {
	t.Helper()
	address := strings.TrimSpace(s.must(t, 0, "ci", "dig", "+short", "@10.77.0.53", "bookstore.example.test"))
	return map[string]string{"10.77.1.10": "blue", "10.77.1.20": "green"}[address]
}

// versionOn is the version that a host serves, asked at its own address.
func (s small) versionOn(t *testing.T, environment string) string {
	t.Helper()
	address := map[string]string{"blue": "10.77.1.10", "green": "10.77.1.20"}[environment]
	_, after, _ := strings.Cut(s.must(t, 0, "ci", "curl", "-sS", "http://"+address+"/version"), `"version":`)
	version, _, _ := strings.Cut(after, ",")
	return version
}

// TestServiceIsLockedFrozenTakenBackAndGoneOnWith is one story in one lab: the steps build on each other.
func TestServiceIsLockedFrozenTakenBackAndGoneOnWith(t *testing.T) {
	s := upSmall(t, built(t))
	for _, part := range []struct {
		name string
		run  func(*testing.T, small)
	}{
		{"a lock keeps others away, with owner, reason and end", lockKeepsOthersAway},
		{"a freeze holds for deployments, drills and the schedule", freezeHolds},
		{"a killed run is named and gone on with", killedRunIsGoneOnWith},
		{"rollback moves the answer in one step", rollbackMovesTheAnswer},
		{"a failed gate takes itself back", failedGateGoesBack},
		{"an unleashed schedule runs what is due", scheduleRuns},
		{"SIGTERM reverts first", terminatedRunReverts},
		{"a drill as a user whom sudo asks for a password", sudoAsksForAPassword},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, s) }) {
			return
		}
	}
}

func lockKeepsOthersAway(t *testing.T, s small) {
	s.firedrill(t, 0, "ci", "lock", "--file", smallFile, "--reason", "database migration", "--for", "30m")
	held := []string{"locked by root@ci until ", "database migration", "unlock --force"}
	says(t, s.firedrill(t, 4, "control", "deploy", "--file", smallFile, "--out", smallOut), held...)
	says(t, s.firedrill(t, 4, "control", "run", "lose-db", "--file", smallFile, "--out", smallOut), held...)
	says(t, s.firedrill(t, 4, "control", "lock", "--file", smallFile), held[:2]...)
	says(t, s.firedrill(t, 4, "control", "unlock", "--file", smallFile), held[:2]...)
	s.firedrill(t, 0, "ci", "run", "lose-db", "--file", smallFile, "--out", smallOut) // its owner is not kept away
	s.firedrill(t, 0, "control", "unlock", "--force", "--file", smallFile)

	// A lock ends by itself.
	s.firedrill(t, 0, "control", "lock", "--file", smallFile, "--for", "1m")
	says(t, s.firedrill(t, 4, "ci", "deploy", "--file", smallFile, "--out", "/tmp/refused"), "locked by root@control")
	for _, host := range []string{"blue", "green"} {
		s.must(t, 0, host, "sed", "-i", `s/"until":"[^"]*"/"until":"2026-01-01T00:00:00Z"/`, smallApp+"/reserved.json")
	}
	s.firedrill(t, 0, "ci", "deploy", "--file", smallFile, "--out", "/tmp/deployed", "--revision", "v6")
	s.firedrill(t, 0, "control", "unlock", "--file", smallFile)
}

func freezeHolds(t *testing.T, s small) {
	span := fmt.Sprintf("%s..%s", time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly), time.Now().UTC().AddDate(0, 0, 2).Format(time.DateOnly))
	until := "frozen until " + time.Now().UTC().AddDate(0, 0, 3).Format(time.DateOnly)
	frozen := s.service(t, "frozen", `s/^pipeline:/freeze: [`+span+`]\npipeline:/`)
	says(t, s.firedrill(t, 4, "ci", "deploy", "--file", frozen, "--out", "/tmp/frozen"), until, "take the dates out of freeze")
	says(t, s.firedrill(t, 4, "ci", "run", "lose-db", "--file", frozen, "--out", "/tmp/frozen"), until)
	says(t, s.must(t, 143, "ci", "timeout", "--preserve-status", "2", "firedrill", "schedule", frozen, "--out", "/tmp/frozen"), "frozen by "+span)
	// The way back is open all the same.
	s.firedrill(t, 0, "ci", "rollback", "--file", frozen, "--out", "/tmp/frozen")
	if got := s.answered(t); got != "green" {
		t.Fatalf("%s is answered", got)
	}
	s.firedrill(t, 0, "ci", "rollback", "--file", frozen, "--out", "/tmp/frozen")
	if got := s.answered(t); got != "blue" {
		t.Fatalf("%s is answered", got)
	}
}

// killOnce starts the pipeline, kills it when the words are in its output, and prints what it said.
const killOnce = `cd /etc/firedrill
firedrill pipeline --out ` + smallOut + ` >/tmp/killed.log 2>&1 & p=$!
for i in $(seq 600); do grep -q "$1" /tmp/killed.log && break; sleep 0.1; done
kill -KILL $p; wait $p
grep -q "$1" /tmp/killed.log`

func killedRunIsGoneOnWith(t *testing.T, s small) {
	in := func(code int, args ...string) string {
		return s.must(t, code, "ci", "sh", "-c", "cd /etc/firedrill && exec firedrill "+strings.Join(args, " ")+" --out "+smallOut)
	}
	s.must(t, 0, "ci", "sh", "-c", killOnce, "sh", "in force")
	says(t, in(0, "plan"), "the run before was broken off in step 2 of 3, drill lose-db on green", "firedrill pipeline --resume=")
	says(t, in(0, "plan", "--resume"), "1. deploy to green\n   proven by run ", "2. drill lose-db on green\n   here the run before was broken off")
	// Killed again, where the answer is just being moved.
	s.must(t, 0, "ci", "sh", "-c", strings.Replace(killOnce, "pipeline --out", "pipeline --resume --out", 1), "sh", "check      promote: ok")
	says(t, in(2, "pipeline", "--resume", "--revision", "v6"), "does not go with --resume")
	resumed := in(0, "pipeline", "--resume")
	says(t, resumed, "── 3/3 promote green", "PASSED")
	if strings.Contains(resumed, "drill lose-db on green\n") && strings.Contains(resumed, "── 2/3") {
		t.Errorf("a proven drill was repeated:\n%s", resumed)
	}
	if got := s.answered(t) + s.versionOn(t, "green"); got != "green8" {
		t.Errorf("answered and served: %s", got)
	}
	says(t, in(4, "pipeline", "--resume"), "every step of it is proven")
	// Its directory proves itself, and nothing else proves it.
	says(t, s.must(t, 0, "ci", "sh", "-c", keepLast+"firedrill judge run.jsonl"), "PASSED")
	says(t, s.must(t, 3, "ci", "sh", "-c", keepLast+`for f in earlier-*; do sed -i 's/"ok":true/"ok":false/' "$f"; done; firedrill judge run.jsonl`), "proves nothing")
	says(t, s.must(t, 3, "ci", "sh", "-c", keepLast+"rm earlier-*; firedrill judge run.jsonl"), "is not here")
}

// keepLast goes to a copy of the last run, as a CI server keeps it.
const keepLast = `rm -rf /tmp/last && mkdir -p /tmp/last && cp -r "$(ls -d ` + smallOut + `/2* | tail -n 1)" /tmp/last/run && cd /tmp/last/run && `

func rollbackMovesTheAnswer(t *testing.T, s small) {
	output := s.firedrill(t, 0, "ci", "rollback", "--file", smallFile, "--out", smallOut)
	says(t, output, "promoted   bookstore.example.test from green to blue", "answer on every name server: ok", "drained    green")
	if got := s.answered(t); got != "blue" {
		t.Errorf("%s is answered", got)
	}
}

func failedGateGoesBack(t *testing.T, s small) {
	failing := s.service(t, "failing", "s/^pipeline: .*/pipeline: [deploy idle, promote, drill never on active]/", "s/revision: main/revision: v7/")
	output := s.firedrill(t, 1, "ci", "pipeline", failing, "--out", smallOut)
	says(t, output, "FAILED", "check      answer back to blue: ok", "check      back to the release before on green: ok")
	if got := s.answered(t) + s.versionOn(t, "blue") + s.versionOn(t, "green"); got != "blue68" && got != "blue66" {
		t.Errorf("answered, and served by blue and green: %s", got)
	}
	says(t, s.must(t, 4, "ci", "sh", "-c", "firedrill pipeline --resume "+failing+" --out "+smallOut), "a gate that said no")

	// A deployment is a gate too: the release before runs again, and clients saw nothing.
	before := s.versionOn(t, "green")
	sick := s.service(t, "sick", `s/restart: systemctl restart bookstore/& \&\& ! grep -qx version:.7 bookstore.yaml/`)
	says(t, s.firedrill(t, 1, "ci", "deploy", "--file", sick, "--out", smallOut, "--revision", "v7"), "FAILED")
	if got := s.answered(t) + s.versionOn(t, "green"); got != "blue"+before {
		t.Errorf("answered, and served by green: %s, want version %s", got, before)
	}
}

func scheduleRuns(t *testing.T, s small) {
	// What was due a moment ago is caught up with: nobody waits for a minute to come.
	script := `mkdir -p /tmp/scheduled && date -u -d '10 minutes ago' +'{"since":"%Y-%m-%dT%H:%M:%SZ","done":{"drill lose-db @ */5 * * * *":"%Y-%m-%dT%H:%M:%SZ"}}' >/tmp/scheduled/schedule.json
firedrill schedule ` + smallFile + ` --unleash --out /tmp/scheduled --listen 127.0.0.1:7080 >/tmp/schedule.log 2>&1 & p=$!
for i in $(seq 900); do grep -q "ended drill lose-db" /tmp/schedule.log && break; sleep 0.1; done
curl -sS http://127.0.0.1:7080/ >/tmp/page.html
kill -TERM $p; wait $p; echo "exit $?" >>/tmp/schedule.log
cat /tmp/schedule.log /tmp/page.html`
	says(t, s.must(t, 0, "ci", "sh", "-c", script), "ended drill lose-db @ */5 * * * *: exit status 0 (passed)", "exit 143", `<td class="word passed">passed</td>`, "report.html")
}

func terminatedRunReverts(t *testing.T, s small) {
	script := strings.NewReplacer("kill -KILL $p; wait $p", `kill -TERM $p; wait $p; echo "exit $?" >>/tmp/killed.log; cat /tmp/killed.log`).Replace(killOnce)
	says(t, s.must(t, 0, "ci", "sh", "-c", script, "sh", "in force"), "(interrupted); nothing is left", "nothing in force: ok", "exit 143")
	for _, host := range []string{"blue", "green"} {
		if left := s.must(t, 0, host, "nft", "list", "ruleset"); strings.Contains(left, "firedrill") {
			t.Errorf("left on %s:\n%s", host, left)
		}
	}
}

// sudoHost gives a host a user who becomes root only with a password, and only on a terminal.
const sudoHost = `set -e
echo 'ops:x:4242:4242::/home/ops:/bin/bash' >>/etc/passwd
echo 'ops:x:4242:' >>/etc/group
echo "ops:$(openssl passwd -6 'open sesame'):19000:0:99999:7:::" >>/etc/shadow
mkdir -p /home/ops/.ssh && cp /root/.ssh/authorized_keys /home/ops/.ssh/ && chown -R 4242:4242 /home/ops && chmod 700 /home/ops/.ssh
printf 'Defaults requiretty, use_pty\nops ALL=(root) ALL\n' >/etc/sudoers.d/ops && chmod 440 /etc/sudoers.d/ops
ln -sf /usr/bin/sudo /run/firedrill/bin/sudo # the lab's own lets only root`

// sudoAsksForAPassword runs a whole drill through Debian's sshd and sudo as they stand on hardened hosts; with a wrong password nothing starts.
func sudoAsksForAPassword(t *testing.T, s small) {
	for _, host := range []string{"blue", "green"} {
		s.must(t, 0, host, "sh", "-c", sudoHost)
	}
	s.must(t, 0, "ci", "sh", "-c", "umask 077; echo 'open sesame' >/tmp/right; echo 'close sesame' >/tmp/wrong")
	as := func(password string) string {
		return s.service(t, password, "s|ssh: {user: root}|ssh: {user: ops, become: sudo, sudo_password_file: /tmp/"+password+"}|")
	}
	says(t, s.firedrill(t, 0, "ci", "run", "lose-db", "--file", as("right"), "--out", "/tmp/sudo"), "in force   on", "PASSED")
	wrong := s.firedrill(t, 4, "ci", "run", "lose-db", "--file", as("wrong"), "--out", "/tmp/sudo")
	says(t, wrong, "does not accept the password")
	if strings.Contains(wrong, "in force   on") {
		t.Errorf("attacked all the same:\n%s", wrong)
	}
	if logged := s.must(t, 0, "ci", "sh", "-c", "cat /tmp/sudo/*/*"); strings.Contains(logged, "sesame") {
		t.Error("the password is in a file of the run")
	}
}
