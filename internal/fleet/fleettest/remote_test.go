package fleettest

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/cli"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/fleet/httpapi"
)

// typed runs a command line in this process.
func typed(args ...string) (code int, out, errOut string) {
	var stdout, stderr bytes.Buffer
	code = cli.Main(append([]string{"firedrill"}, args...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// A drill of a server is started, shown, judged and reported from elsewhere as one that lies there, with credentials and with a token.
func TestADrillOfAServerIsHadFromElsewhere(t *testing.T) {
	w := newWorld(t, func(o *control.Options) { o.Conductor = stagehand{} })
	w.join("web1", map[string]string{"service": "shop"}, nil)
	w.join("web2", map[string]string{"service": "shop"}, nil)
	w.must("putservice", fleet.PutService{Text: stageFile}, nil)
	server := httptest.NewTLSServer(httpapi.Handler(w.control))
	t.Cleanup(server.Close)
	here := t.TempDir()
	file := filepath.Join(here, "firedrill.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	byKey := []string{"--server", w.options.Listen, "--fleet", filepath.Join(w.directory, control.AdminFile)}
	byToken := []string{"--server", server.URL + "#" + fleet.Pin(server.Certificate())}
	t.Setenv("FIREDRILL_TOKEN", w.apiToken("ci", "drillrun", "drilllog", "drills", "drill", "service", "services", "hosts", "lever", "runs", "stopdrill"))
	as := func(way []string, args ...string) []string { return append(args, way...) }

	write(stageFile + "# another text\n")
	if code, _, errOut := typed(as(byToken, "run", "busy", "-f", file, "-o", here)...); code != 4 || !strings.Contains(errOut, "is not what the server has of shop, version 1") || !strings.Contains(errOut, "firedrill fleet service put") {
		t.Errorf("a file that is not there: exit code %d, %s", code, errOut)
	}
	write(stageFile)
	if code, out, errOut := typed(as(byToken, "run", "busy", "-f", file, "-o", here, "--dry-run")...); code != 0 || !strings.Contains(out, "firedrill attack cpu") {
		t.Errorf("a plan: exit code %d, %s%s", code, out, errOut)
	}
	// On a machine that is busy a host may answer too late, and then the drill proves nothing: whatever it says, it must say from everywhere.
	code, out, errOut := typed(as(byToken, "run", "busy", "-f", file, "-o", here)...)
	var all []fleet.DrillRun
	w.must("drills", nil, &all)
	if len(all) != 1 || !all[0].Done() || !map[int]bool{0: true, 1: true, 3: true}[code] || !strings.Contains(out, all[0].Result) {
		t.Fatalf("a drill: exit code %d, %s%s; drills %+v", code, out, errOut, all)
	}
	log := filepath.Join(here, all[0].Result, control.LogName)
	short := all[0].ID[len(all[0].ID)-6:]
	for _, way := range [][]string{byKey, byToken} {
		for _, format := range []string{"junit", "json", "csv", "markdown", "text"} {
			code, far, errOut := typed(as(way, "report", short, "--format", format)...)
			_, near, _ := typed("report", log, "--format", format)
			near = strings.ReplaceAll(near, log, all[0].Result+"/"+control.LogName)
			if code != 0 || far == "" || far != near {
				t.Errorf("%s: exit code %d, %s\n%s\nand what lies here says\n%s", format, code, errOut, far, near)
			}
		}
		if code, out, errOut := typed(as(way, "report", all[0].ID, "--format", "html")...); code != 0 || !strings.Contains(out, "</html>") {
			t.Errorf("a page: exit code %d, %s", code, errOut)
		}
		if again, out, errOut := typed(as(way, "judge", short, "--json")...); again != code || !json.Valid([]byte(out)) || !strings.Contains(out, `"outcome": "`+all[0].Outcome+`"`) {
			t.Errorf("a verdict: exit code %d, not %d, %s%s", again, code, out, errOut)
		}
		if code, out, errOut := typed(as(way, "lint", "--json")...); code > 1 || !strings.Contains(out, "shop (version 1)") {
			t.Errorf("lint: exit code %d, %s%s", code, out, errOut)
		}
		if code, out, errOut := typed(as(way, "doctor", "web1")...); code != 4 || !strings.Contains(out, "web1") || strings.Contains(out, "web2") || !strings.Contains(out, "blackhole") {
			t.Errorf("doctor: exit code %d, %s%s", code, out, errOut)
		}
		if code, out, errOut := typed(as(way, "status")...); code != 0 || !strings.Contains(out, "2 hosts: something is, or may be, in force on 0, 0 are not there") {
			t.Errorf("status: exit code %d, %s%s", code, out, errOut)
		}
		if code, _, errOut := typed(as(way, "judge", "nothing")...); code != 2 || !strings.Contains(errOut, "no drill is called") {
			t.Errorf("no drill: exit code %d, %s", code, errOut)
		}
	}
	// A log that was altered where it lies, and one whose end was cut off: neither is taken for what the server says.
	kept := filepath.Join(w.control.DrillsDirectory(), all[0].Result, control.LogName)
	whole, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimSpace(whole), []byte("\n"))
	for what, planted := range map[string]struct {
		text []byte
		code int
	}{"altered": {bytes.Replace(whole, []byte(`"shop"`), []byte(`"ship"`), 1), 2}, "cut off": {bytes.Join(lines[:len(lines)-1], nil), 3}, "not there": {nil, 3}} {
		if err := os.WriteFile(kept, planted.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errOut := typed(as(byToken, "judge", short)...); code != planted.code || out != "" {
			t.Errorf("a log that is %s: exit code %d, %s%s", what, code, out, errOut)
		}
	}
	if code, _, errOut := typed(as(byKey, "run", "for-long", "--service", "shop", "--revision", "x")...); code != 2 || !strings.Contains(errOut, "--revision is for files that lie here") {
		t.Errorf("a flag of here: exit code %d, %s", code, errOut)
	}
	if code, _, errOut := typed("run", "for-long", "--service", "shop"); code != 2 || !strings.Contains(errOut, "--service is for a server") {
		t.Errorf("a flag of there: exit code %d, %s", code, errOut)
	}
}
