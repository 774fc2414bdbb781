package lab

import (
	"strings"
	"testing"

	"firedrill/internal/drill"
)

// withServices is a lab of one host with the given services.
func withServices(services ...Service) Topology {
	t := threeHosts()
	t.Hosts = t.Hosts[:1]
	t.Hosts[0].Services = services
	return t
}

func serviceOf(t *testing.T, l *Lab, name string) ServiceStatus {
	t.Helper()
	for _, s := range statusOf(t, l, "ci").Services {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no service %s in the status", name)
	return ServiceStatus{}
}

func TestServiceThatDiesIsStartedAgain(t *testing.T) {
	l := mustUp(t, withServices(
		Service{Name: "stays", Run: "exec sleep 4713"},
		Service{Name: "once", Run: "echo said; exit 3", Restart: RestartNever},
		Service{Name: "fine", Run: "true", Restart: RestartNever},
		Service{Name: "later", Run: "sleep 4713", Disabled: true},
	), Options{})
	before := serviceOf(t, l, "stays")
	if before.State != stateActive || before.PID == 0 {
		t.Fatalf("after Up: %+v", before)
	}
	mustRun(t, l, "ci", "kill -9 $(pgrep -o -x sleep)")
	await(t, "the service runs again", func() bool {
		now := serviceOf(t, l, "stays")
		return now.State == stateActive && now.PID != before.PID && now.Restarts == 1 && strings.Contains(now.Exit, "killed")
	})
	await(t, "a failed program that is not restarted counts as failed", func() bool { return serviceOf(t, l, "once").State == stateFailed })
	await(t, "a program that ends well is inactive", func() bool { return serviceOf(t, l, "fine").State == stateInactive })
	if got := serviceOf(t, l, "later"); got.State != stateInactive {
		t.Errorf("a service that is not enabled: %+v", got)
	}
	if got := mustRun(t, l, "ci", "cat /var/log/once.log"); got != "said" {
		t.Errorf("log: %q", got)
	}
}

func TestServiceStartsOnceItsDirectoryIsThere(t *testing.T) {
	l := mustUp(t, withServices(Service{Name: "app", Run: "sleep 4714", Directory: "/srv/app/current"}), Options{})
	if got := serviceOf(t, l, "app"); got.State == stateActive {
		t.Fatalf("without its directory: %+v", got)
	}
	mustRun(t, l, "ci", "mkdir -p /srv/app/current")
	await(t, "the service runs", func() bool { return serviceOf(t, l, "app").State == stateActive })
}

func TestSystemctlAndSudoWorkAsDeploymentsUseThem(t *testing.T) {
	l := mustUp(t, withServices(Service{Name: "gunicorn", Run: "env; exec sleep 4715", Env: map[string]string{"COLOUR": "blue"}}), Options{})
	before := serviceOf(t, l, "gunicorn").PID
	mustRun(t, l, "ci", "sudo systemctl restart gunicorn")
	after := serviceOf(t, l, "gunicorn")
	if after.PID == before || after.State != stateActive || after.Restarts != 0 {
		t.Errorf("restart: PID was %d, now %+v", before, after)
	}
	for _, c := range []struct {
		line, out string
		code      int
	}{
		{"systemctl is-active gunicorn.service", "active", 0},
		{"sudo -n -u root GREETING=hi sh -c 'echo $GREETING'", "hi", 0},
		{"sudo systemctl stop gunicorn && systemctl is-active gunicorn", "inactive", 3},
		{"systemctl start gunicorn && systemctl is-active --quiet gunicorn", "", 0},
		{"systemctl is-active nginx", "inactive", 4},
		{"systemctl restart nginx", "Failed to restart nginx: Unit nginx.service not found.", 5},
		{"systemctl daemon-reload", "", 0},
		{"sudo false", "", 1},
		{"sudo no-such-program", `sudo: no program "no-such-program" in PATH of this host`, 1},
	} {
		if out, code := run(t, l, "ci", c.line); out != c.out || code != c.code {
			t.Errorf("%s: %q, exit code %d; want %q, %d", c.line, out, code, c.out, c.code)
		}
	}
	if out := mustRun(t, l, "ci", "cat /var/log/gunicorn.log"); !strings.Contains(out, "COLOUR=blue") {
		t.Errorf("environment of the service: %s", out)
	}
	if err := l.Restart(testContext(t), "ci", "gunicorn"); err != nil {
		t.Error(err)
	}
	if err := l.Restart(testContext(t), "ci", "gunicor"); drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), "gunicorn") {
		t.Errorf("an unknown service: %v, hint %q", err, drill.HintOf(err))
	}
}

// TestStopTakesTheWholeGroup plants a service whose shell leaves a child behind.
func TestStopTakesTheWholeGroup(t *testing.T) {
	l := mustUp(t, withServices(Service{Name: "family", Run: "trap '' TERM; sleep 4716 & wait"}), Options{})
	mustRun(t, l, "ci", "systemctl restart family")
	// The new shell needs a moment to start its child; a child left behind would make two, and stay.
	await(t, "one process of the service is there", func() bool {
		out, _ := run(t, l, "ci", "pgrep -c -x sleep")
		return out == "1"
	})
}

func TestCleanShutdownStopsServicesFirst(t *testing.T) {
	l := mustUp(t, withServices(Service{Name: "app", Run: "trap 'echo stopped >> /home/told; exit 0' TERM; while :; do sleep 0.05; done"}), Options{})
	if _, err := l.Exec(testContext(t), "ci", Cmd{Args: []string{"sh", "-c", "systemctl reboot; exec sleep 4717"}}); drill.KindOf(err) != drill.Unreachable {
		t.Fatalf("the program on the rebooting host ended with: %v", err)
	}
	await(t, "the host boots again", func() bool { h := statusOf(t, l, "ci"); return h.State == HostUp && h.Boots == 2 })
	if out := mustRun(t, l, "ci", "cat /home/told"); out != "stopped" {
		t.Errorf("the service was told: %q", out)
	}
}

func TestInitReapsOrphans(t *testing.T) {
	l := mustUp(t, withServices(), Options{})
	mustRun(t, l, "ci", "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done")
	await(t, "no zombie is left", func() bool {
		out, _ := run(t, l, "ci", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '")
		return out == "0"
	})
	mustRun(t, l, "ci", "kill -TERM 1; kill -INT 1; kill -HUP 1; true")
	mustRun(t, l, "ci", "true")
}

func TestServicesOfOtherUsers(t *testing.T) {
	topology := withServices(Service{Name: "low", Run: "id -un; exec sleep 4718", User: "nobody"})
	if !privileged() {
		_, err := Up(testContext(t), topology, Options{})
		if drill.KindOf(err) != drill.Unsupported || !strings.Contains(drill.HintOf(err), "sudo") {
			t.Errorf("another user in a lab of an ordinary one: %v, hint %q", err, drill.HintOf(err))
		}
		return
	}
	l := mustUp(t, topology, Options{})
	await(t, "the service says who it is", func() bool { out, _ := run(t, l, "ci", "cat /var/log/low.log"); return out == "nobody" })
	var out strings.Builder
	code, err := l.Exec(testContext(t), "ci", Cmd{Args: []string{"id", "-un"}, User: "nobody", Dir: "/", Stdout: &out})
	if err != nil || code != 0 || strings.TrimSpace(out.String()) != "nobody" {
		t.Errorf("exec as nobody: %q, %d, %v", out.String(), code, err)
	}
}
